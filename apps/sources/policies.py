"""Who may do what to connections and their events."""

from apps.accounts.policies import Permission, permission_require
from controlplane.lib.actor import Actor


def connections_read_require(actor: Actor) -> None:
    """Raises Forbidden unless the actor may see connections and the events that came."""
    permission_require(actor, Permission.PIPELINES_READ)


def connections_manage_require(actor: Actor) -> None:
    """Raises Forbidden unless the actor may create, change and delete connections. The system and commands may.

    Only admins may, since the token of a connection opens all repositories that it reaches.
    """
    if actor.kind != "system":
        permission_require(actor, Permission.CONNECTIONS_MANAGE)


def event_redeliver_require(actor: Actor) -> None:
    """Raises Forbidden unless the actor may work off an event once more, which may start runs."""
    permission_require(actor, Permission.JOBS_CREATE)
