"""Who may decide who hears of what."""

from apps.accounts.policies import Permission, permission_require
from controlplane.lib.actor import Actor


def notifications_manage_require(actor: Actor) -> None:
    """Raises Forbidden unless the actor may see and change targets and rules, and see and repeat deliveries."""
    permission_require(actor, Permission.NOTIFICATIONS_MANAGE)
