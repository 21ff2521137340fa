"""Who may do what: roles are sets of permissions, and everything that is done asks for one permission."""

from enum import StrEnum

from controlplane.lib.actor import Actor
from controlplane.lib.errors import Forbidden


class Permission(StrEnum):
    """What a person or a person's program may be allowed to do."""

    JOBS_READ = "jobs.read"
    JOBS_CREATE = "jobs.create"
    JOBS_CANCEL = "jobs.cancel"
    JOBS_RETRY = "jobs.retry"
    PIPELINES_READ = "pipelines.read"
    PIPELINES_SAVE = "pipelines.save"
    PIPELINES_DELETE = "pipelines.delete"
    AGENTS_READ = "agents.read"
    AGENTS_ENROL = "agents.enrol"
    AGENTS_MANAGE = "agents.manage"
    AUDIT_READ = "audit.read"
    TOKENS_MANAGE = "tokens.manage"
    ACCOUNTS_MANAGE = "accounts.manage"


# Everyone looks, and keeps tokens of their own; a token does so only if it was given this permission.
_LOOK = frozenset({Permission.JOBS_READ, Permission.PIPELINES_READ, Permission.AGENTS_READ, Permission.TOKENS_MANAGE})

# An operator runs the work; who lets machines and people in is an admin, since both are trusted with what jobs hold.
ROLES: dict[str, frozenset[Permission]] = {
    "viewer": _LOOK,
    "operator": _LOOK
    | {
        Permission.JOBS_CREATE,
        Permission.JOBS_CANCEL,
        Permission.JOBS_RETRY,
        Permission.PIPELINES_SAVE,
        Permission.PIPELINES_DELETE,
    },
    "auditor": _LOOK | {Permission.AUDIT_READ},
    "admin": frozenset(Permission),
}


def role_permissions(role: str) -> frozenset[Permission]:
    """What a role allows. A role that this release does not know allows nothing."""
    return ROLES.get(role, frozenset())


def permission_require(actor: Actor, permission: Permission) -> None:
    """Raises Forbidden unless the actor has the permission."""
    if permission not in actor.permissions:
        raise Forbidden(f"This needs the permission {permission.value}.")


def tokens_manage_require(actor: Actor, owner_id: str) -> None:
    """Raises Forbidden unless the actor may look at, make and revoke the API tokens of this person.

    People do so for themselves, those who manage accounts for everybody, and the system for whoever runs its commands.
    """
    if actor.kind == "system":
        return
    own = actor.person_id == owner_id
    permission_require(actor, Permission.TOKENS_MANAGE if own else Permission.ACCOUNTS_MANAGE)
