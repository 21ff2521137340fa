"""What a person sees at a glance, in three calls whatever the number of jobs."""

from collections import Counter
from dataclasses import dataclass, field
from datetime import date, timedelta

from apps.jobs.models import OPEN, DayCounter, Job
from apps.jobs.states import LEASED
from apps.jobs.states import OPEN as OPEN_STATUSES
from controlplane.lib import clock

# Of the jobs that run or wait, so many are looked at; beyond it the overview says "100 or more".
OPEN_LIMIT = 100


@dataclass(frozen=True)
class DayOutcomes:
    """How many jobs were created on a day, and how many ended on it in each way."""

    day: date
    created: int = 0
    completed: int = 0
    failed: int = 0
    cancelled: int = 0
    timed_out: int = 0


@dataclass(frozen=True)
class Overview:
    """Today's counts, the outcomes of the last days (oldest first, today last), and the open jobs, newest first."""

    outcomes: list[DayOutcomes]
    running: list[Job] = field(default_factory=list)
    waiting: list[Job] = field(default_factory=list)
    # True when more than `OPEN_LIMIT` jobs run or wait, so that the counts are lower bounds.
    is_lower_bound: bool = False

    @property
    def today(self) -> DayOutcomes:
        return self.outcomes[-1]

    @property
    def completed_today(self) -> int:
        return self.today.completed

    @property
    def failed_today(self) -> int:
        """Jobs that ended badly today: failed or timed out."""
        return self.today.failed + self.today.timed_out

    @property
    def cancelled_today(self) -> int:
        return self.today.cancelled

    @property
    def error_rate(self) -> float | None:
        """The share (0 to 1) of failed and timed out jobs in those that ended today uncancelled; None without any."""
        ended = self.completed_today + self.failed_today
        return self.failed_today / ended if ended else None

    @property
    def running_count(self) -> int:
        return len(self.running)

    @property
    def waiting_count(self) -> int:
        return len(self.waiting)


def job_overview(*, days: int = 14) -> Overview:
    """The overview with the outcomes of the last `days` days. Eventually consistent but for the jobs themselves."""
    newest = Job.by_open.query(OPEN, scan_index_forward=False, limit=OPEN_LIMIT + 1, page_size=OPEN_LIMIT + 1)
    keys = [job.job_id for job in newest]
    jobs = Job.find_many(keys[:OPEN_LIMIT])
    jobs.sort(key=lambda job: job.created_at, reverse=True)
    return Overview(
        outcomes=job_outcomes(days=days),
        running=[job for job in jobs if job.status in LEASED],
        waiting=[job for job in jobs if job.status in OPEN_STATUSES - LEASED],
        is_lower_bound=len(keys) > OPEN_LIMIT,
    )


def job_outcomes(*, days: int) -> list[DayOutcomes]:
    """The counts of the last `days` days, oldest first, days without jobs included. One call, two around New Year."""
    today = clock.now().date()
    first = today - timedelta(days=days - 1)
    counted = _counts(first, today)
    return [
        DayOutcomes(day=day, **counted.get(day, Counter()))
        for day in (first + timedelta(days=index) for index in range(days))
    ]


def days_with_jobs(*, year: int) -> dict[date, int]:
    """How many jobs were created on each day of the year that has any. One call."""
    counted = _counts(date(year, 1, 1), date(year, 12, 31))
    return {day: counts["created"] for day, counts in counted.items() if counts["created"]}


def outcome_total(*, year: int, status: str) -> int:
    """How many jobs ended in the year with this status (or were ``created``). One call."""
    return sum(counts[status] for counts in _counts(date(year, 1, 1), date(year, 12, 31)).values())


def _counts(first: date, last: date) -> dict[date, Counter[str]]:
    """The days' shares added up."""
    counted: dict[date, Counter[str]] = {}
    for year in range(first.year, last.year + 1):
        begin = first if year == first.year else date(year, 1, 1)
        end = last if year == last.year else date(year, 12, 31)
        between = DayCounter.day_share.between(f"{begin:%m-%d}#", f"{end:%m-%d}#~")
        for share in DayCounter.query(str(year), between):
            day = date.fromisoformat(f"{year}-{share.day_share.split('#')[0]}")
            counted.setdefault(day, Counter()).update(
                {
                    name: int(getattr(share, name))
                    for name in ("created", "completed", "failed", "cancelled", "timed_out")
                }
            )
    return counted
