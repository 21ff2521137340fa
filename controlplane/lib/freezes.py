"""Freezes: windows of time on the clocks of a zone, once or each week, in which something must not happen."""

import re
from collections.abc import Iterable, Mapping
from datetime import UTC, date, datetime, time, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from controlplane.lib.errors import InvalidInput
from controlplane.lib.frozen import frozen
from controlplane.lib.zones import clock_time, local_time, zone_validate

DAYS = ("MON", "TUE", "WED", "THU", "FRI", "SAT", "SUN")
MAX_REASON = 200
_WEEKLY = re.compile(r"(?P<day>[A-Za-z]{3}) (?P<hour>[01][0-9]|2[0-3]):(?P<minute>[0-5][0-9])")
_ONCE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T([01][0-9]|2[0-3]):[0-5][0-9]")
# As people write one in a line: FRI 16:00 to MON 08:00 Europe/Berlin: weekend
_TIME = r"\S+(?: [0-9]+:[0-9]+)?"
_LINE = re.compile(
    rf"(?P<begin>{_TIME}) to (?P<until>{_TIME}) (?P<zone>[A-Za-z][^\s:]*)(?:: *(?P<reason>.*))?", re.IGNORECASE
)
_WEEK = timedelta(days=7)
# Windows that follow each other without a gap count as one. So many are followed; more say a year or so.
_FOLLOWED = 100


@frozen
class Freeze:
    """A window from `begin` to `end` on the clocks of `zone`, both of one form: ``2026-12-20T18:00``, or ``FRI 16:00``.

    The second form is a window of each week. At a time that comes twice when clocks are put back, a window begins the
    first time and ends the second time; a time that does not exist is the moment at which clocks are put forward.
    """

    begin: str
    end: str
    zone: str
    reason: str | None = None

    def end_if_active(self, moment: datetime) -> datetime | None:
        """When the window ends, in UTC, if the moment is in it; else None. The end itself is not in it."""
        zone = ZoneInfo(self.zone)
        if _ONCE.fullmatch(self.begin):
            windows = [(datetime.fromisoformat(self.begin), datetime.fromisoformat(self.end))]
        else:
            local, _ = local_time(moment, zone)
            monday = local.date() - timedelta(days=local.weekday())
            windows = [_weekly(self, monday + weeks * _WEEK) for weeks in (-1, 0)]
        for begin, end in windows:
            last = clock_time(end, zone)
            until = last.second or last.first
            if clock_time(begin, zone).first <= moment < until:
                return until
        return None

    def as_dict(self) -> dict[str, str | None]:
        """The window as JSON has it."""
        return {"from": self.begin, "until": self.end, "zone": self.zone, "reason": self.reason}

    @classmethod
    def from_dict(cls, members: Mapping[str, Any]) -> "Freeze":
        """The window that `as_dict` gave."""
        return cls(members["from"], members["until"], members["zone"], members.get("reason"))


def freeze_validate(members: Mapping[str, Any], *, field: str) -> Freeze:
    """The window with the members `from`, `until`, `zone` and `reason`. Raises InvalidInput that names the member."""
    zone = zone_validate(members.get("zone") or "UTC", field=f"{field}.zone")
    reason = members.get("reason") or None
    if reason is not None and (not isinstance(reason, str) or len(reason) > MAX_REASON or not reason.isprintable()):
        raise InvalidInput.field(f"{field}.reason", f"must be a line of at most {MAX_REASON} characters")
    begin, end = (_normal(members.get(name), f"{field}.{name}") for name in ("from", "until"))
    if bool(_ONCE.fullmatch(begin)) != bool(_ONCE.fullmatch(end)):
        raise InvalidInput.field(f"{field}.until", "must have the form of from: two dates, or two days of the week")
    if begin == end or (_ONCE.fullmatch(begin) and end < begin):
        raise InvalidInput.field(f"{field}.until", "must be later than from")
    return Freeze(begin, end, zone, reason)


def freezes_read(lines: Iterable[str], *, field: str) -> list[dict[str, str | None]]:
    """The windows that people have written, one in a line, as `freeze_validate` takes them. Empty lines are none.

    Raises InvalidInput with the number of a malformed line.
    """
    found = []
    for number, line in enumerate(map(str.strip, lines), start=1):
        parts = _LINE.fullmatch(line)
        if parts:
            found.append(
                {"from": parts["begin"], "until": parts["until"], "zone": parts["zone"], "reason": parts["reason"]}
            )
        elif line:
            raise InvalidInput.field(
                field, f"must have lines of the form FROM to UNTIL ZONE: REASON; line {number} is not"
            )
    return found


def freeze_line(members: Mapping[str, Any]) -> str:
    """The window that `as_dict` gave as a line that `freezes_read` reads."""
    reason = f": {members['reason']}" if members.get("reason") else ""
    return f"{members['from']} to {members['until']} {members['zone']}{reason}"


def frozen_until(freezes: Iterable[Freeze], moment: datetime) -> tuple[datetime, Freeze] | None:
    """Until when the moment is frozen, and the window in which it is; None if it is in none.

    A window that begins before another ends prolongs it.
    """
    windows = list(freezes)
    first: Freeze | None = None
    until = moment
    for _ in range(_FOLLOWED):
        found = max(
            ((end, window) for window in windows if (end := window.end_if_active(until))), key=_by_end, default=None
        )
        if found is None:
            break
        first, until = first or found[1], found[0]
    return (until, first) if first else None


def _by_end(found: tuple[datetime, Freeze]) -> datetime:
    return found[0]


def _normal(text: Any, field: str) -> str:
    written: str = text.strip() if isinstance(text, str) else ""
    weekly = _WEEKLY.fullmatch(written)
    if weekly and weekly["day"].upper() in DAYS:
        return written.upper()
    try:
        if not _ONCE.fullmatch(written):
            raise ValueError
        # A far year would leave what computers can count with once a zone's offset is added.
        if not 2000 <= datetime.fromisoformat(written).replace(tzinfo=UTC).year <= 9000:
            raise ValueError
    except ValueError:
        raise InvalidInput.field(
            field, "must be a date and time as 2026-12-20T18:00, or as FRI 16:00 of each week"
        ) from None
    return written


def _weekly(freeze: Freeze, monday: date) -> tuple[datetime, datetime]:
    """The window that begins in the week of this Monday, on clocks without daylight saving."""
    begin, end = (_in_week(text) for text in (freeze.begin, freeze.end))
    length = (end - begin) % _WEEK
    start = datetime.combine(monday, time()) + begin
    return start, start + length


def _in_week(text: str) -> timedelta:
    found = _WEEKLY.fullmatch(text)
    if found is None:
        raise ValueError(text)
    return timedelta(days=DAYS.index(found["day"]), hours=int(found["hour"]), minutes=int(found["minute"]))
