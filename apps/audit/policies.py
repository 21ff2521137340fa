"""Who may read the audit trail."""

from controlplane.lib.actor import Actor
from controlplane.lib.errors import Forbidden

# As `apps.accounts.policies` names it, which this app cannot import.
PERMISSION = "audit.read"


# Admins have it.
HOLD_PERMISSION = "audit.hold"


def hold_require(actor: Actor) -> None:
    """Raises Forbidden unless the actor may place and release legal holds. Management commands may."""
    if actor.kind != "system" and HOLD_PERMISSION not in actor.permissions:
        raise Forbidden(f"This needs the permission {HOLD_PERMISSION}.")


def audit_read_require(actor: Actor) -> None:
    """Raises Forbidden unless the actor may read the audit trail."""
    if PERMISSION not in actor.permissions:
        raise Forbidden(f"This needs the permission {PERMISSION}.")
