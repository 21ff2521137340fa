"""Who may do what to a secret. A value has no reader but jobs, which get it, by the rules of `states.Scope`."""

from apps.accounts.policies import Permission, permission_require
from controlplane.lib.actor import Actor


def secrets_read_require(actor: Actor) -> None:
    """Raises Forbidden unless the actor may see which secrets there are, and who has got them."""
    permission_require(actor, Permission.SECRETS_READ)


def rotations_configure_require(actor: Actor) -> None:
    """Raises Forbidden unless the actor may say which systems get the values of a secret. The system and commands may.

    This takes more than managing secrets: a target is a way out of the store.
    """
    if actor.kind != "system":
        permission_require(actor, Permission.ROTATIONS_CONFIGURE)


def secrets_manage_require(actor: Actor) -> None:
    """Raises Forbidden unless the actor may create, change, rotate and delete secrets. The system and commands may."""
    if actor.kind != "system":
        permission_require(actor, Permission.SECRETS_MANAGE)
