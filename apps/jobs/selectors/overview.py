"""The overview of all jobs, in three calls however many jobs there are."""

from dataclasses import field

from apps.jobs.models import OPEN, Job
from apps.jobs.selectors.counters import DayOutcomes, job_outcomes
from apps.jobs.states import LEASED
from apps.jobs.states import OPEN as OPEN_STATUSES
from controlplane.lib.frozen import frozen

# How many open jobs the overview reads. If there are more, it says "100 or more".
OPEN_LIMIT = 100


@frozen
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
        """How many jobs failed or timed out today."""
        return self.today.failed + self.today.timed_out

    @property
    def cancelled_today(self) -> int:
        return self.today.cancelled

    @property
    def error_rate(self) -> float | None:
        """Today's failed and timed out jobs divided by all jobs that ended today except cancelled ones, or None."""
        ended = self.completed_today + self.failed_today
        return self.failed_today / ended if ended else None

    @property
    def running_count(self) -> int:
        return len(self.running)

    @property
    def waiting_count(self) -> int:
        return len(self.waiting)


def job_overview(*, days: int = 14) -> Overview:
    """The overview, with the outcomes of the last `days` days. Only jobs are read consistently; the rest may lag."""
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
