"""When a rotation is due: ``every 30 days, Friday 03:00`` in a time zone."""

import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from controlplane.lib.errors import InvalidInput
from controlplane.lib.frozen import frozen
from controlplane.lib.zones import zone_validate

WEEKDAYS = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
MAX_DAYS = 730
_WEEK = 7
_TEXT = re.compile(r"every (?:day|([0-9]{1,3}) days), (?:([A-Z][a-z]+) )?([0-9]{2}:[0-9]{2}) \(([^()]+)\)")


@frozen
class Schedule:
    """Every so many days at a time of day, and only on a weekday if there is one.

    With a weekday, it is the last such day that is not later than `every_days` after the last rotation. So no value
    gets older than `every_days`, unless that is less than a week.
    """

    every_days: int
    hour: int
    minute: int
    weekday: int | None
    zone: str

    def after(self, last: datetime) -> datetime:
        """When it is due next, in UTC, if the last rotation began at `last`."""
        day = last.astimezone(ZoneInfo(self.zone)).date()
        return next(moment for moment in self._moments(day) if moment > last)

    def _moments(self, day: Any) -> Iterator[datetime]:
        fitting = (
            day + timedelta(days=days)
            for days in (*range(self.every_days, 0, -1), *range(self.every_days + 1, self.every_days + 2 * _WEEK))
        )
        for one in fitting:
            if self.weekday is None or one.weekday() == self.weekday:
                # Where clocks are put forward over this time, it is an hour later; where it comes twice, the first.
                local = datetime(one.year, one.month, one.day, self.hour, self.minute, tzinfo=ZoneInfo(self.zone))
                yield local.astimezone(UTC)

    def as_text(self) -> str:
        """For people: ``every 30 days, Friday 03:00 (Europe/Berlin)``."""
        days = "every day" if self.every_days == 1 else f"every {self.every_days} days"
        weekday = f"{WEEKDAYS[self.weekday].title()} " if self.weekday is not None else ""
        return f"{days}, {weekday}{self.hour:02}:{self.minute:02} ({self.zone})"

    def as_json(self) -> dict[str, Any]:
        """As it is stored and answered; `schedule_validate` reads it."""
        weekday = WEEKDAYS[self.weekday] if self.weekday is not None else None
        at = f"{self.hour:02}:{self.minute:02}"
        return {"every_days": self.every_days, "at": at, "weekday": weekday, "zone": self.zone}


def schedule_parse(text: str) -> Schedule | None:
    """The schedule of what `Schedule.as_text` has written; None for any other text."""
    found = _TEXT.fullmatch(text)
    if not found:
        return None
    days, weekday, at, zone = found.groups()
    try:
        return schedule_validate({"every_days": int(days or 1), "at": at, "weekday": weekday, "zone": zone})
    except InvalidInput:
        return None


def schedule_validate(given: Any) -> Schedule | None:
    """The schedule of a request, or None for null. Raises InvalidInput for the wrong member of ``schedule``."""
    if given is None:
        return None
    if not isinstance(given, dict) or given.keys() - {"every_days", "at", "weekday", "zone"}:
        raise InvalidInput.field("schedule", "must be an object with every_days, at, weekday and zone, or null")
    days = given.get("every_days")
    if type(days) is not int or not 1 <= days <= MAX_DAYS:
        raise InvalidInput.field("schedule.every_days", f"must be a whole number from 1 to {MAX_DAYS}")
    hour, minute = _time_of_day(given.get("at"))
    weekday = given.get("weekday")
    if weekday is not None and (not isinstance(weekday, str) or weekday.lower() not in WEEKDAYS):
        raise InvalidInput.field("schedule.weekday", f"must be one of {', '.join(WEEKDAYS)}, or null")
    zone = given.get("zone", "UTC")
    return Schedule(
        every_days=days,
        hour=hour,
        minute=minute,
        weekday=WEEKDAYS.index(weekday.lower()) if weekday else None,
        zone=zone_validate(zone, field="schedule.zone"),
    )


def _time_of_day(text: Any) -> tuple[int, int]:
    try:
        moment = datetime.strptime(text, "%H:%M").replace(tzinfo=UTC)
    except (TypeError, ValueError):
        raise InvalidInput.field("schedule.at", "must be a time of day, such as 03:00") from None
    return moment.hour, moment.minute
