"""Reading schedules. All reads are consistent, but for the list of those that are due, which may lag by moments."""

import re
from datetime import datetime

from apps.pipelines.definitions import PIPELINE_NAME
from apps.pipelines.models import DUE, SPACE, Schedule
from controlplane.lib import clock
from controlplane.lib.cron import Cron, cron_validate
from controlplane.lib.error_codes import ErrorCode
from controlplane.lib.errors import InvalidInput, NotFound

__all__ = [
    "SCHEDULE_ID",
    "Schedule",
    "schedule_cron",
    "schedule_find",
    "schedule_get",
    "schedule_list",
    "schedule_times",
    "schedule_words",
    "schedules_due",
]

SCHEDULE_ID = re.compile(rf"{PIPELINE_NAME.pattern}\.{PIPELINE_NAME.pattern}")
TIMES_SHOWN = 3
_AT_ONCE = 100


def schedule_find(schedule_id: str) -> Schedule | None:
    """The schedule with this id, or None."""
    return Schedule.find(SPACE, schedule_id) if SCHEDULE_ID.fullmatch(schedule_id) else None


def schedule_get(schedule_id: str) -> Schedule:
    """The schedule with this id. Raises NotFound with the code ``schedule_not_found``."""
    schedule = schedule_find(schedule_id)
    if schedule is None:
        raise NotFound(f"There is no schedule with the id “{schedule_id[:127]}”.", code=ErrorCode.SCHEDULE_NOT_FOUND)
    return schedule


def schedule_list(pipeline: str) -> list[Schedule]:
    """The schedules of a pipeline by name: there is a limit to them. One query."""
    return list(Schedule.query(SPACE, Schedule.schedule_id.startswith(f"{pipeline}."), consistent_read=True))


def schedule_cron(schedule: Schedule) -> Cron:
    """When the schedule is due. Raises InvalidInput if this server does not know its time zone."""
    return cron_validate(schedule.cron, zone=schedule.zone, seed=str(schedule.schedule_id))


def schedule_words(schedule: Schedule) -> str:
    """When the schedule is due, in words: ``At 03:17 on Monday through Friday``; as written if it cannot be read."""
    try:
        return schedule_cron(schedule).in_words()
    except InvalidInput:
        return str(schedule.cron)


def schedule_times(schedule: Schedule) -> list[str]:
    """The next three times at which the schedule starts a run; none while it is paused or cannot be read.

    A time that has passed and that the next sweep works off comes first.
    """
    if not schedule.due_at:
        return []
    times = [str(schedule.due_at)]
    try:
        following = schedule_cron(schedule).upcoming(
            max(clock.now(), clock.parse_timestamp(schedule.due_at)), TIMES_SHOWN - 1
        )
    except InvalidInput:
        return times
    return times + [clock.timestamp(time) for time in following]


def schedules_due(now: datetime) -> list[str]:
    """The ids of schedules whose time has come, the longest waiting first: at most a hundred. One query."""
    rows = Schedule.by_due.query(DUE, Schedule.due_at <= clock.timestamp(now), limit=_AT_ONCE, page_size=_AT_ONCE)
    return [str(row.schedule_id) for row in rows]
