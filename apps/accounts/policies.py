"""Roles and permissions: a role is a set of permissions, and each act needs one of them."""

from enum import StrEnum

from controlplane.lib.actor import Actor
from controlplane.lib.errors import Forbidden


class Permission(StrEnum):
    """What a user, or a user's program, may do."""

    JOBS_READ = "jobs.read"
    JOBS_CREATE = "jobs.create"
    JOBS_CANCEL = "jobs.cancel"
    JOBS_RETRY = "jobs.retry"
    ARTIFACTS_DELETE = "artifacts.delete"
    PIPELINES_READ = "pipelines.read"
    PIPELINES_SAVE = "pipelines.save"
    PIPELINES_DELETE = "pipelines.delete"
    DEPLOYMENTS_APPROVE = "deployments.approve"
    ENVIRONMENTS_MANAGE = "environments.manage"
    AGENTS_READ = "agents.read"
    AGENTS_ENROL = "agents.enrol"
    AGENTS_MANAGE = "agents.manage"
    SECRETS_READ = "secrets.read"
    SECRETS_MANAGE = "secrets.manage"
    NOTIFICATIONS_MANAGE = "notifications.manage"
    ROTATIONS_CONFIGURE = "rotations.configure"
    CONNECTIONS_MANAGE = "connections.manage"
    AUDIT_READ = "audit.read"
    AUDIT_HOLD = "audit.hold"
    TOKENS_MANAGE = "tokens.manage"
    ACCOUNTS_MANAGE = "accounts.manage"


# Every user may read, and manage their own API tokens; a token may do so only if it has this permission. Every user may
# also approve deployments, if the environment names them or their role.
_LOOK = frozenset(
    {
        Permission.JOBS_READ,
        Permission.PIPELINES_READ,
        Permission.AGENTS_READ,
        Permission.TOKENS_MANAGE,
        Permission.DEPLOYMENTS_APPROVE,
    }
)

# Operators run jobs. Only admins admit agents and users, since both see what jobs contain.
ROLES: dict[str, frozenset[Permission]] = {
    "viewer": _LOOK,
    "operator": _LOOK
    | {
        Permission.JOBS_CREATE,
        Permission.JOBS_CANCEL,
        Permission.JOBS_RETRY,
        Permission.ARTIFACTS_DELETE,
        Permission.PIPELINES_SAVE,
        Permission.PIPELINES_DELETE,
        Permission.SECRETS_READ,
        Permission.SECRETS_MANAGE,
        Permission.NOTIFICATIONS_MANAGE,
    },
    "auditor": _LOOK | {Permission.AUDIT_READ, Permission.SECRETS_READ},
    "admin": frozenset(Permission),
}


def role_permissions(role: str) -> frozenset[Permission]:
    """The permissions of a role; none for a role that this release does not know."""
    return ROLES.get(role, frozenset())


def permission_require(actor: Actor, permission: Permission) -> None:
    """Raises Forbidden unless the actor has the permission."""
    if permission not in actor.permissions:
        raise Forbidden(f"This needs the permission {permission.value}.")


def accounts_manage_require(actor: Actor) -> None:
    """Raises Forbidden unless the actor may manage accounts. Management commands may."""
    if actor.kind != "system":
        permission_require(actor, Permission.ACCOUNTS_MANAGE)


def account_manager_roles() -> frozenset[str]:
    """The roles whose users manage accounts. At least one active user of them must remain."""
    return frozenset(role for role, allowed in ROLES.items() if Permission.ACCOUNTS_MANAGE in allowed)


def tokens_manage_require(actor: Actor, owner_id: str) -> None:
    """Raises Forbidden unless the actor may list, create and revoke the API tokens of this user.

    Users may for themselves, with the permission accounts.manage for all users, and so may management commands.
    """
    if actor.kind == "system":
        return
    own = actor.person_id == owner_id
    permission_require(actor, Permission.TOKENS_MANAGE if own else Permission.ACCOUNTS_MANAGE)
