"""Reading plans and rotations. Single ones and those of a secret are read consistently; what is due may lag."""

import re
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from apps.secrets.models import (
    AFTER_ROTATIONS,
    ALARM,
    OPEN,
    PLAN,
    PLANNED,
    RINGING,
    Rotation,
    RotationPlan,
)
from apps.secrets.models import RotationAlarm as RotationAlarm
from apps.secrets.rotation.schedules import schedule_parse
from apps.secrets.selectors.secrets import secrets_all
from apps.secrets.states import NAME
from controlplane.lib import clock
from controlplane.lib.error_codes import ErrorCode
from controlplane.lib.errors import NotFound
from controlplane.lib.frozen import frozen
from controlplane.lib.ids import ID_PATTERN
from controlplane.nosql.listing import Listing, place_decode

_ID = re.compile(rf"({NAME.pattern}(?:\.[0-9a-f]{{12}})?)\.({ID_PATTERN})")
_MOST_ALARMS = 100
# A rotation that is due for this long is late: no sweep had time for it, or none runs.
LATE_AFTER = timedelta(hours=1)


@frozen
class RotationPage:
    """A page of a secret's rotations, the newest first; `next_cursor` is None on the last one."""

    rotations: list[Rotation]
    next_cursor: str | None


@frozen
class Due:
    """A plan or a rotation that is due, since when."""

    secret_id: str
    entry: str
    due_at: str


def _of_secret(asked: Mapping[str, Any]) -> list[str]:
    return [asked["secret_id"]] if "secret_id" in asked else secrets_rotated()


def _not_ended(asked: Mapping[str, Any]) -> list[str] | None:
    return [OPEN] if asked.get("due") == OPEN else None


# A secret's partition also has its plan and its alarm, so a list ends before AFTER_ROTATIONS.
BY_SECRET = Listing(Rotation, None, _of_secret, descending=True)
BY_DUE = Listing(Rotation, Rotation.by_due, _not_ended, filters={"entry", "secret_id"})


def secrets_rotated() -> list[str]:
    """The ids of the secrets that have a plan and were rotated, in descending order.

    One call for each 100 secrets, and one query for each megabyte of them.
    """
    plans: dict[str, RotationPlan] = {}
    for secrets in secrets_all():
        plans |= plans_find({str(secret.secret_id) for secret in secrets})
    return sorted((secret_id for secret_id, plan in plans.items() if plan.last), reverse=True)


def plan_find(secret_id: str) -> RotationPlan | None:
    """How the secret is rotated, or None if nothing rotates it."""
    return RotationPlan.find(secret_id, PLAN)


def plan_get(secret_id: str) -> RotationPlan:
    """How the secret is rotated. Raises NotFound with the code ``rotation_not_configured``."""
    plan = plan_find(secret_id)
    if plan is None:
        raise NotFound(
            f"The secret {secret_id} has no rotator. An admin configures one.", code=ErrorCode.ROTATION_NOT_CONFIGURED
        )
    return plan


def plans_find(secret_ids: set[str]) -> dict[str, RotationPlan]:
    """The plans of these secrets by their ids, of those that have one."""
    found = RotationPlan.find_many((secret_id, PLAN) for secret_id in secret_ids)
    return {str(plan.secret_id): plan for plan in found}


def schedule_next(text: str, last: str) -> str | None:
    """When a rotation is due after the time `last`, by a schedule as the audit trail has it; None if it is none."""
    schedule = schedule_parse(text)
    return clock.timestamp(schedule.after(clock.parse_timestamp(last))) if schedule else None


def rotation_find(rotation_id: str) -> Rotation | None:
    """The rotation with this id, or None."""
    found = _ID.fullmatch(rotation_id)
    return Rotation.find(found[1], found[2]) if found else None


def rotation_get(rotation_id: str) -> Rotation:
    """The rotation with this id. Raises NotFound with the code ``rotation_not_found``."""
    rotation = rotation_find(rotation_id)
    if rotation is None:
        raise NotFound(f"There is no rotation with the id “{rotation_id[:110]}”.", code=ErrorCode.ROTATION_NOT_FOUND)
    return rotation


def rotation_list(secret_id: str, *, limit: int = 20, cursor: str | None = None) -> RotationPage:
    """Up to `limit` rotations of a secret, the newest first. Raises InvalidInput for a cursor that no page gave."""
    scope = f"rotations of {secret_id}"
    page = BY_SECRET.page(
        [secret_id], limit=limit, within=Rotation.entry < AFTER_ROTATIONS, start=place_decode(scope, cursor)
    )
    return RotationPage(page.records, page.next_cursor(scope))


def plan_and_rotations(secret_id: str, *, limit: int) -> tuple[RotationPlan | None, list[Rotation]]:
    """How the secret is rotated, or None, and its newest rotations. One query."""
    answer = Rotation._get_connection().query(
        secret_id, consistent_read=True, scan_index_forward=False, limit=limit + len((PLAN, ALARM))
    )
    items = {item["entry"]["S"]: item for item in answer["Items"]}
    plan = items.pop(PLAN, None)
    items.pop(ALARM, None)
    rotations = [Rotation.from_raw_data(item) for item in items.values()]
    return RotationPlan.from_raw_data(plan) if plan else None, rotations[:limit]


def rotations_due(now: datetime, *, limit: int = 100) -> list[Due]:
    """Rotations that are to go on, and then plans whose next rotation is due, the longest waiting first."""
    return [
        Due(str(row.secret_id), str(row.entry), str(row.due_at))
        for kind in (OPEN, PLANNED)
        for row in RotationPlan.by_due.query(kind, RotationPlan.due_at <= clock.timestamp(now), limit=limit)
    ]


def rotation_next() -> Due | None:
    """The rotation by schedule that is due next, for the overview; None if no secret has a schedule. One query."""
    row = next(iter(RotationPlan.by_due.query(PLANNED, limit=1)), None)
    return Due(str(row.secret_id), str(row.entry), str(row.due_at)) if row else None


def rotations_failed() -> set[str]:
    """The ids of secrets whose last rotation has failed or does not get on: at most a hundred. One query."""
    return {str(row.secret_id) for row in RotationPlan.by_due.query(RINGING, limit=_MOST_ALARMS)}


def rotation_alarms() -> list[RotationAlarm]:
    """The alarms about secrets whose last rotation has failed. Two calls; the index may lag."""
    return RotationAlarm.find_many((secret_id, ALARM) for secret_id in sorted(rotations_failed()))


def rotations_alarming(now: datetime) -> set[str]:
    """The ids of secrets whose rotation has failed, does not get on, or is late: what needs a user. Three queries."""
    return rotations_failed() | {due.secret_id for due in rotations_due(now - LATE_AFTER)}
