"""The rows of environments: making one, and its audit events. `environments` has what users do to them."""

from collections.abc import Mapping
from typing import Any

from apps.audit.actions import Action
from apps.audit.services import audit_add
from apps.jobs.models import SPACE, Environment
from apps.jobs.selectors.environments import environment_find, environment_list
from controlplane.lib import clock
from controlplane.lib.actor import SYSTEM, Actor
from controlplane.lib.error_codes import ErrorCode
from controlplane.lib.errors import Conflict
from controlplane.nosql.transaction import Transaction, TransactionFailed

MAX_ENVIRONMENTS = 200
# What an environment asks for that asks for nothing.
NO_GATES: Mapping[str, Any] = {
    "url": None,
    "allowed_refs": [],
    "approvals": 0,
    "approver_roles": [],
    "approver_ids": [],
    "requester_may_not_approve": False,
    "wait_seconds": 0,
    "freezes": None,
}


def environment_make(*, name: str) -> None:
    """Make an environment without gates for a deployment to one that nothing is known of.

    If there is one already, also a deleted one, nothing changes. Raises Conflict with the code
    ``too_many_environments``.
    """
    if environment_find(name) is None:
        environment_write(name, NO_GATES, actor=SYSTEM)


def environment_write(name: str, members: Mapping[str, Any], *, actor: Actor) -> bool:
    """Write the environment. False if there is one."""
    if len(environment_list()) >= MAX_ENVIRONMENTS:
        raise Conflict(
            f"There are {MAX_ENVIRONMENTS} environments already. Delete one.", code=ErrorCode.TOO_MANY_ENVIRONMENTS
        )
    now = clock.timestamp(clock.now())
    made = {**members, "created_at": now, "created_by": actor.name, "changed_at": now, "changed_by": actor.name}
    made["deleted_at"] = None
    absent = Environment.created_at.does_not_exist()
    if actor != SYSTEM:
        absent |= Environment.deleted_at.exists()
    transaction = Transaction()
    # An update, since a deployment to a deleted one may still be in progress.
    transaction.update(
        "environment",
        Environment(SPACE, name),
        actions=[*environment_actions(made), Environment.revision.add(1)],
        condition=absent,
    )
    environment_audit(transaction, name, actor, Action.ENVIRONMENT_CREATED, environment_described(members))
    try:
        transaction.commit()
    except TransactionFailed:
        return False
    return True


def environment_described(members: Mapping[str, Any]) -> dict[str, Any]:
    """The members for an audit event."""
    freezes = [f"{one['from']}–{one['until']} {one['zone']}" for one in members["freezes"] or ()]
    return {
        **members,
        "allowed_refs": ", ".join(members["allowed_refs"]) or None,
        "approver_roles": ", ".join(members["approver_roles"]) or None,
        "approver_ids": ", ".join(members["approver_ids"]) or None,
        "requester_may_not_approve": "yes" if members["requester_may_not_approve"] else "no",
        "freezes": ", ".join(freezes) or None,
    }


def environment_audit(
    transaction: Transaction, name: str, actor: Actor, action: Action, detail: Mapping[str, Any] | None
) -> None:
    audit_add(transaction, actor=actor, action=action, target=f"environment:{name}", detail=detail)


def environment_actions(members: Mapping[str, Any]) -> list[Any]:
    """Set each member, or remove it when its value is None."""
    return [
        getattr(Environment, member).remove() if value is None else getattr(Environment, member).set(value)
        for member, value in members.items()
    ]
