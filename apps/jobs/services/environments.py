"""Writing environments: admins make, change and delete them. A deployment to one that nothing is known of makes it."""

import logging
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any
from urllib.parse import urlsplit

from apps.accounts.policies import ROLES
from apps.accounts.selectors import users_find
from apps.audit.actions import Action
from apps.audit.services import changes_detail
from apps.jobs import policies
from apps.jobs.models import Environment
from apps.jobs.selectors.environments import environment_get, environment_view
from apps.jobs.services.advance import environment_runs_advance
from apps.jobs.services.environment_records import (
    NO_GATES,
    environment_actions,
    environment_audit,
    environment_described,
    environment_write,
)
from apps.jobs.services.run_nodes import node_mark
from apps.pipelines.definitions import ENVIRONMENT_NAME, ENVIRONMENT_NAME_FORM
from apps.pipelines.refs import ref_validate
from controlplane.lib import clock
from controlplane.lib.actor import Actor
from controlplane.lib.error_codes import ErrorCode
from controlplane.lib.errors import Conflict, InvalidInput, NotFound, Unavailable
from controlplane.lib.freezes import freeze_validate
from controlplane.nosql.transaction import Transaction, TransactionFailed

logger = logging.getLogger(__name__)

MAX_REFS = 50
MAX_FREEZES = 50
MAX_APPROVERS = 20
MAX_APPROVALS = 10
MAX_WAIT_SECONDS = 30 * 86400
_MAX_URL = 500
_TRIES = 5
# How many deployments that wait a change marks in its transaction.
_MARKED = 50
_MEMBERS = (
    "url",
    "allowed_refs",
    "approvals",
    "approver_roles",
    "approver_ids",
    "requester_may_not_approve",
    "wait_seconds",
    "freezes",
)


def environment_create(*, actor: Actor, name: str, **members: Any) -> Environment:
    """Make an environment, also one of the name of a deleted one. Members that are left out ask for nothing.

    Raises Forbidden, InvalidInput, and Conflict with the code ``name_taken`` or ``too_many_environments``.
    """
    policies.environment_manage_require(actor)
    if not ENVIRONMENT_NAME.fullmatch(name):
        raise InvalidInput.field("name", f"must be {ENVIRONMENT_NAME_FORM}")
    wanted = _members_check({**NO_GATES, **members})
    if not environment_write(name, wanted, actor=actor):
        raise Conflict(f"There is already an environment {name}. Change it instead.", code=ErrorCode.NAME_TAKEN)
    return environment_get(name)


def environment_change(*, actor: Actor, name: str, revision: int | None = None, **members: Any) -> Environment:
    """Change members of an environment; others stay. Deployments that wait are decided by it at once.

    With `revision`, the change requires that the environment still has this revision. Raises Forbidden, NotFound,
    InvalidInput, and Conflict with the code ``changed_meanwhile``.
    """
    policies.environment_manage_require(actor)
    for _ in range(_TRIES):
        current = environment_get(name)
        if revision is not None and revision != current.revision:
            break
        before = _members_of(current)
        wanted = _members_check({**before, **members})
        if wanted == before:
            return current
        transaction = Transaction()
        now = clock.timestamp(clock.now())
        changes = {**wanted, "changed_at": now, "changed_by": actor.name}
        unchanged = (Environment.revision == current.revision) & Environment.deleted_at.does_not_exist()
        transaction.update(
            "environment",
            current,
            actions=[*environment_actions(changes), Environment.revision.add(1)],
            condition=unchanged,
        )
        detail = changes_detail(environment_described(before), environment_described(wanted))
        environment_audit(transaction, name, actor, Action.ENVIRONMENT_CHANGED, detail)
        _waiting_mark(transaction, name)
        with suppress(TransactionFailed):
            transaction.commit()
            _follow(name)
            return environment_get(name)
    raise Conflict(
        "Another user changed this environment in the meantime. Check it and save again.",
        code=ErrorCode.CHANGED_MEANWHILE,
    )


def environment_delete(*, actor: Actor, name: str) -> None:
    """Delete an environment: jobs that deploy to it fail from now on, also those that wait, until it is made again.

    What is in progress goes on. Raises Forbidden, NotFound.
    """
    policies.environment_manage_require(actor)
    current = environment_get(name)
    transaction = Transaction()
    transaction.update(
        "environment",
        current,
        actions=[Environment.deleted_at.set(clock.timestamp(clock.now())), Environment.revision.add(1)],
        condition=Environment.deleted_at.does_not_exist() & Environment.created_at.exists(),
    )
    environment_audit(transaction, name, actor, Action.ENVIRONMENT_DELETED, environment_described(_members_of(current)))
    _waiting_mark(transaction, name)
    with suppress(TransactionFailed):
        # Else another request has deleted it at the same moment.
        transaction.commit()
    _follow(name)


def _waiting_mark(transaction: Transaction, name: str) -> None:
    """Have the runs of deployments that wait for the environment looked at. The sweep finds more than so many."""
    view = environment_view(name)
    for waiting in view.waiting[:_MARKED] if view else ():
        node_mark(transaction, run_id=str(waiting.run_id), node=str(waiting.node))


def _follow(name: str) -> None:
    """Look at the deployments that wait for the environment, which was just changed. The sweep does it otherwise."""
    try:
        environment_runs_advance(name=name)
    except (Unavailable, NotFound) as error:
        logger.warning("runs were not advanced, the sweep does it: %s", error.message, extra={"environment": name})


def _members_of(environment: Environment) -> dict[str, Any]:
    members = {member: getattr(environment, member) for member in _MEMBERS}
    for member in ("allowed_refs", "approver_roles", "approver_ids"):
        members[member] = [str(one) for one in members[member]]
    members |= {member: int(members[member]) for member in ("approvals", "wait_seconds")}
    members["requester_may_not_approve"] = bool(members["requester_may_not_approve"])
    return members


def _members_check(members: Mapping[str, Any]) -> dict[str, Any]:
    """The members as they are stored. Raises InvalidInput that names the first that is wrong."""
    unknown = members.keys() - set(_MEMBERS)
    if unknown:
        raise TypeError(f"an environment has no {', '.join(sorted(unknown))}")
    checked = dict(members)
    checked["url"] = _url_check(members["url"])
    checked["allowed_refs"] = _refs_check(members["allowed_refs"])
    checked["approvals"] = _number_check("approvals", members["approvals"], MAX_APPROVALS)
    checked["wait_seconds"] = _number_check("wait_seconds", members["wait_seconds"], MAX_WAIT_SECONDS)
    checked["approver_roles"], checked["approver_ids"] = _approvers_check(members)
    freezes = members["freezes"] or []
    if len(freezes) > MAX_FREEZES:
        raise InvalidInput.field("freezes", f"must be at most {MAX_FREEZES} windows, not {len(freezes)}")
    found = [freeze_validate(one, field=f"freezes[{number}]").as_dict() for number, one in enumerate(freezes)]
    checked["freezes"] = found or None
    return checked


def _approvers_check(members: Mapping[str, Any]) -> tuple[list[str], list[str]]:
    roles, ids = sorted({*members["approver_roles"]}), sorted({*members["approver_ids"]})
    for role in roles:
        if role not in ROLES:
            raise InvalidInput.field("approver_roles", f"must be of {', '.join(ROLES)}, not {role[:40]}")
    if len(ids) > MAX_APPROVERS:
        raise InvalidInput.field("approver_ids", f"must be at most {MAX_APPROVERS} users, not {len(ids)}")
    missing = [user_id for user_id in ids if user_id not in users_find(ids)] if ids else []
    if missing:
        raise InvalidInput.field("approver_ids", f"must be the ids of users; {missing[0][:40]} is none")
    if members["approvals"] and not roles and not ids:
        raise InvalidInput.field("approver_roles", "must say who may approve, or approver_ids must")
    if members["requester_may_not_approve"] and not members["approvals"]:
        # Without approvals it would protect nothing, though it looks as if it did.
        raise InvalidInput.field("requester_may_not_approve", "must be off unless approvals is at least 1")
    if members["approvals"] > len(ids) and not roles:
        raise InvalidInput.field("approvals", f"must be at most {len(ids)}: so many people may approve")
    return roles, ids


def _url_check(url: str | None) -> str | None:
    if not url:
        return None
    parts = urlsplit(url) if len(url) <= _MAX_URL and url.isprintable() and " " not in url else None
    if parts is None or parts.scheme not in ("http", "https") or not parts.netloc or parts.password is not None:
        raise InvalidInput.field("url", f"must be an http or https address of at most {_MAX_URL} characters")
    return url


def _refs_check(patterns: Sequence[str]) -> list[str]:
    if len(patterns) > MAX_REFS:
        raise InvalidInput.field("allowed_refs", f"must be at most {MAX_REFS} patterns, not {len(patterns)}")
    for pattern in patterns:
        # Without its stars, a pattern is a part of a ref.
        ref_validate(pattern.replace("*", "x"), field="allowed_refs")
    return sorted({*patterns})


def _number_check(field: str, value: int, most: int) -> int:
    if not 0 <= value <= most:
        raise InvalidInput.field(field, f"must be a number from 0 to {most}")
    return int(value)
