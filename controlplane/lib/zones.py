"""Time zones by their IANA names, and the times of their clocks that do not exist or come twice."""

from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Any
from zoneinfo import ZoneInfo

from controlplane.lib.errors import InvalidInput
from controlplane.lib.frozen import frozen

_MINUTE = timedelta(minutes=1)


def zone_validate(name: Any, *, field: str) -> str:
    """The name, if it is that of a time zone. Raises InvalidInput for `field`."""
    # ZoneInfo reads a file by this name; it refuses names that lead out of its folder.
    try:
        if not isinstance(name, str) or not name.isascii() or len(name) > 64:
            raise ValueError
        ZoneInfo(name)
    except (ValueError, OSError, LookupError):
        raise InvalidInput.field(field, "must be a time zone, such as Europe/Berlin") from None
    return name


@frozen
class ClockTime:
    """When a clock of a zone shows a time, in UTC.

    `first` is when it shows it, or would show it first. Where clocks are put forward over the time, it is the moment of
    that, and `exists` is false. Where clocks are put back, `second` is when they show it again.
    """

    first: datetime
    second: datetime | None = None
    exists: bool = True


def clock_time(local: datetime, zone: ZoneInfo) -> ClockTime:
    """When clocks of the zone show `local`, a datetime without a zone."""
    before, after = (local.replace(tzinfo=zone, fold=fold).utcoffset() or timedelta() for fold in (0, 1))
    if before == after:
        return ClockTime((local - before).replace(tzinfo=UTC))
    if before > after:
        return ClockTime((local - before).replace(tzinfo=UTC), (local - after).replace(tzinfo=UTC))
    return ClockTime(_forward(local - after, local - before, zone), exists=False)


def local_time(moment: datetime, zone: ZoneInfo) -> tuple[datetime, timedelta]:
    """What clocks of the zone show at the moment, and by how much they go back before they show it again (or 0)."""
    local = moment.astimezone(zone)
    naive = local.replace(tzinfo=None, fold=0)
    if local.fold:
        return naive, timedelta()
    again = (local.utcoffset() or timedelta()) - (local.replace(fold=1).utcoffset() or timedelta())
    return naive, max(again, timedelta())


@lru_cache(maxsize=256)
def _forward(early: datetime, late: datetime, zone: ZoneInfo) -> datetime:
    """The whole minute between two times of UTC at which the clocks of the zone are put forward."""
    low, high = early.replace(tzinfo=UTC), late.replace(tzinfo=UTC)
    new = high.astimezone(zone).utcoffset()
    while high - low > _MINUTE:
        middle = low + (high - low) // 2
        middle -= timedelta(seconds=middle.second, microseconds=middle.microsecond)
        if middle <= low:
            break
        if middle.astimezone(zone).utcoffset() == new:
            high = middle
        else:
            low = middle
    return high
