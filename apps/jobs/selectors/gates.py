"""The gates of an environment: which there are for a deployment, which of them are open, and what opens the others."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from fnmatch import fnmatchcase
from typing import Any
from zoneinfo import ZoneInfo

from apps.accounts.selectors import User, users_find
from apps.jobs.models import Deployment, Environment
from apps.jobs.selectors.environments import environment_freezes
from apps.jobs.selectors.waiting import WaitingCode
from controlplane.lib import clock
from controlplane.lib.freezes import frozen_until
from controlplane.lib.frozen import frozen

_BRANCHES = "refs/heads/"
# How many people a sentence names.
_NAMED = 5
_SHORT = 60


@frozen
class Gate:
    """A gate of a deployment. `message` says how it is and what opens it; `until` is when it opens by itself."""

    code: WaitingCode
    is_open: bool
    message: str
    until: str | None = None


def gates(environment: Environment, deployment: Deployment, *, people: Mapping[str, User], now: datetime) -> list[Gate]:
    """The gates that the environment has for the deployment, in the order in which a person thinks of them.

    `people` are the users of `gate_people`, by id.
    """
    found = []
    if environment.approvals:
        found.append(_approval(environment, deployment, people))
    if environment.wait_seconds:
        ends = clock.parse_timestamp(deployment.created_at) + timedelta(seconds=int(environment.wait_seconds))
        waits = "the wait timer is over" if ends <= now else f"the wait timer ends at {_shown(ends)}; it goes on then"
        found.append(Gate(WaitingCode.WAIT_TIMER, ends <= now, waits, clock.timestamp(ends)))
    if environment.freezes:
        found.append(_freeze(environment, now))
    others = sorted({*(environment.holders or ())} - {str(deployment.deployment_id)})
    taken = f"{environment.name} is taken by the deployment {', '.join(others)}; it goes on when that has ended"
    found.append(Gate(WaitingCode.ENVIRONMENT_BUSY, not others, taken if others else f"{environment.name} is free"))
    return found


def gates_of(environment: Environment, deployment: Deployment) -> list[Gate]:
    """The gates as they are now. One read of users if the environment asks for approvals, else none."""
    return gates(environment, deployment, people=gate_people(environment, deployment), now=clock.now())


def gate_people(environment: Environment, deployment: Deployment) -> dict[str, User]:
    """The users who have approved or may by their name, by id, read consistently. No call if none need."""
    asked = gate_user_ids(environment, deployment)
    return users_find(asked) if asked else {}


def gate_user_ids(environment: Environment, deployment: Deployment) -> set[str]:
    """The ids of the users who have approved or may by their name; none if the environment asks for no approvals."""
    if not environment.approvals:
        return set()
    return {*environment.approver_ids, *(str(one["by_id"]) for one in deployment.approvals or ())}


def approvals_counted(
    environment: Environment, deployment: Deployment, people: Mapping[str, User]
) -> list[Mapping[str, Any]]:
    """The approvals that count: of active users who may approve as the environment is now, one of each."""
    counted = {
        str(one["by_id"]): one
        for one in deployment.approvals or ()
        if approver_problem(environment, deployment, people.get(str(one["by_id"]))) is None
    }
    return list(counted.values())


def approver_problem(
    environment: Environment, deployment: Deployment, user: User | None, *, is_rejection: bool = False
) -> str | None:
    """Why the user may not approve the deployment, or reject it, as a sentence; None if they may.

    Who asked for it may always reject it, as they may cancel it.
    """
    if user is None or not user.is_active:
        return "Only users with an active account may approve."
    if user.user_id not in environment.approver_ids and user.role not in environment.approver_roles:
        return f"You are not among those who may approve deployments to {environment.name}."
    if environment.requester_may_not_approve and not is_rejection and user.user_id in deployment.requester_ids:
        return f"You asked for this deployment. For {environment.name}, another person must approve."
    return None


def ref_is_allowed(environment: Environment, git_ref: str) -> bool:
    """Whether deployments of the ref may go to the environment. A plain name counts as that of a branch."""
    ref = git_ref.removeprefix(_BRANCHES)
    patterns = [str(pattern).removeprefix(_BRANCHES) for pattern in environment.allowed_refs]
    return not patterns or any(fnmatchcase(ref, pattern) for pattern in patterns)


def refs_shown(environment: Environment) -> str:
    """The patterns of refs that may go to the environment, for a sentence."""
    return _listed([str(pattern)[:_SHORT] for pattern in environment.allowed_refs]) or "all"


def approvers_shown(environment: Environment, people: Mapping[str, User]) -> str:
    """Who may approve, for a sentence."""
    names = [str(people[user_id].name) for user_id in environment.approver_ids if user_id in people]
    roles = [f"{'an' if role[:1] in 'aeiou' else 'a'} {role}" for role in environment.approver_roles]
    *others, last = [*roles, *names] or ["no active user"]
    return f"{_listed(others)} or {last}" if others else last


def _approval(environment: Environment, deployment: Deployment, people: Mapping[str, User]) -> Gate:
    counted, needed = approvals_counted(environment, deployment, people), int(environment.approvals)
    by = f" (by {_listed([str(one['by']) for one in counted])})" if counted else ""
    is_open = len(counted) >= needed
    given = f"{len(counted)} of {needed} approval{'s' if needed != 1 else ''} given{by}"
    asks = ", but not the one who asked for it" if environment.requester_may_not_approve else ""
    message = given if is_open else f"{given}; {approvers_shown(environment, people)} may approve{asks}"
    return Gate(WaitingCode.APPROVAL, is_open, message)


def _freeze(environment: Environment, now: datetime) -> Gate:
    found = frozen_until(environment_freezes(environment), now)
    if found is None:
        return Gate(WaitingCode.FROZEN, True, f"{environment.name} is not frozen now")
    until, freeze = found
    local = until.astimezone(ZoneInfo(freeze.zone))
    because = f" ({freeze.reason})" if freeze.reason else ""
    message = f"{environment.name} is frozen until {local:%Y-%m-%d %H:%M} {freeze.zone}{because}; it goes on then"
    return Gate(WaitingCode.FROZEN, False, message, clock.timestamp(until))


def closed(found: Iterable[Gate]) -> list[Gate]:
    """Those of the gates that are not open."""
    return [gate for gate in found if not gate.is_open]


def _listed(names: Sequence[str]) -> str:
    more = len(names) - _NAMED
    return ", ".join(names[:_NAMED]) + (f" and {more} more" if more > 0 else "")


def _shown(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d %H:%M:%S} UTC"
