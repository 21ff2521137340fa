"""Reading the daily counters: how many jobs were created on a day, and how many ended on it with each status."""

from collections import Counter
from collections.abc import Iterator
from datetime import date, timedelta

from apps.jobs.models import DayCounter
from apps.jobs.states import FINAL
from controlplane.lib import clock
from controlplane.lib.frozen import frozen

# No job is older than the product.
_FIRST_YEAR = 2026


@frozen
class DayOutcomes:
    """How many jobs were created on a day, and how many ended on it with each status."""

    day: date
    created: int = 0
    completed: int = 0
    failed: int = 0
    cancelled: int = 0
    timed_out: int = 0
    skipped: int = 0


def job_outcomes(*, days: int) -> list[DayOutcomes]:
    """The counts of the last `days` days, oldest first, including days without jobs. One call, two around New Year."""
    today = clock.now().date()
    first = today - timedelta(days=days - 1)
    counted = _counts(first, today)
    return [
        DayOutcomes(day=day, **counted.get(day, Counter()))
        for day in (first + timedelta(days=index) for index in range(days))
    ]


def days_with_jobs() -> Iterator[str]:
    """The days (``YYYY-MM-DD``) on which jobs were created, newest first. Reads one year at a time, by one call."""
    for year in range(clock.now().year, _FIRST_YEAR - 1, -1):
        counted = _counts(date(year, 1, 1), date(year, 12, 31))
        yield from (day.isoformat() for day in sorted(counted, reverse=True) if counted[day]["created"])


def outcome_total(status: str) -> int:
    """How many jobs have ever ended with this status (or were ``created``). One call for each year."""
    today = clock.now().date()
    counted = _counts(date(_FIRST_YEAR, 1, 1), date(today.year, 12, 31))
    return sum(counts[status] for counts in counted.values())


def outcome_total_on(day: date, status: str) -> int:
    """How many jobs ended with this status on this day. One call."""
    return _counts(day, day).get(day, Counter[str]())[status]


def _counts(first: date, last: date) -> dict[date, Counter[str]]:
    """The counts of each day that has any. A day has several counters, which this adds up."""
    counted: dict[date, Counter[str]] = {}
    for year in range(first.year, last.year + 1):
        begin = first if year == first.year else date(year, 1, 1)
        end = last if year == last.year else date(year, 12, 31)
        between = DayCounter.day_share.between(f"{begin:%m-%d}#", f"{end:%m-%d}#~")
        for share in DayCounter.query(str(year), between):
            day = date.fromisoformat(f"{year}-{share.day_share.split('#')[0]}")
            counted.setdefault(day, Counter()).update({name: int(getattr(share, name)) for name in ("created", *FINAL)})
    return counted
