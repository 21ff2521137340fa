"""Reading jobs. An index gives the ids of a page's jobs; the jobs themselves are then read consistently."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from pynamodb.expressions.condition import Condition

from apps.agents.selectors import heartbeats_get
from apps.jobs.models import OPEN, Job
from apps.jobs.selectors.counters import days_with_jobs, outcome_total
from apps.jobs.states import FINAL, Status
from controlplane.lib.error_codes import ErrorCode
from controlplane.lib.errors import NotFound
from controlplane.nosql.listing import Listing, place_decode

# Counting stops here; the total is then a lower bound.
TOTAL_LIMIT = 10_000

# How many index entries one page may examine when few match its filters. The next page continues from there.
_LOOK_AT_MOST = 2_000
# How many index entries counting may examine. If there are more, the total is a lower bound.
_COUNT_AT_MOST = 50_000
# How many index entries one query reads at least, since a filter may drop some.
_LOOK = 25


def _open_partition(asked: Mapping[str, Any]) -> list[str] | None:
    return [OPEN] if "status" in asked and asked["status"] not in FINAL else None


def _agent_partition(asked: Mapping[str, Any]) -> list[str] | None:
    return [asked["agent_id"]] if "agent_id" in asked else None


def _outcome_partitions(asked: Mapping[str, Any]) -> Iterable[str] | None:
    if asked.get("status") not in FINAL:
        return None
    return (f"{asked['status']}#{day}" for day in days_with_jobs())


def _day_partitions(_asked: Mapping[str, Any]) -> Iterable[str]:
    return days_with_jobs()


BY_OPEN = Listing(Job, Job.by_open, _open_partition, filters={"status"}, descending=True, look=_LOOK)
BY_AGENT = Listing(Job, Job.by_agent, _agent_partition, filters={"status"}, descending=True, look=_LOOK)
BY_OUTCOME = Listing(Job, Job.by_outcome, _outcome_partitions, filters={"status"}, descending=True, look=_LOOK)
BY_DAY = Listing(Job, Job.by_day, _day_partitions, descending=True, look=_LOOK)


@dataclass(frozen=True)
class JobFilter:
    """The filters of a list of jobs; None means any value."""

    status: Status | None = None
    pipeline: str | None = None
    git_ref: str | None = None
    agent_id: str | None = None

    def matches(self, job: Job) -> bool:
        return all(getattr(job, field) == value for field, value in self.asked.items())

    @property
    def asked(self) -> dict[str, str]:
        """The filters that are set, by field."""
        return {field: value for field, value in vars(self).items() if value is not None}

    @property
    def scope(self) -> str:
        """The name of the list for its cursors."""
        return f"jobs:{self.status}:{self.pipeline}:{self.git_ref}:{self.agent_id}"

    def listing(self) -> tuple[Listing[Job], Iterable[str]]:
        """The smallest index that contains all matching jobs, and its partitions to read."""
        for listing in (BY_OPEN, BY_AGENT, BY_OUTCOME):
            partitions = listing.partitions(self.asked)
            if partitions is not None:
                return listing, partitions
        return BY_DAY, days_with_jobs()

    def condition(self) -> Condition | None:
        """The filters that DynamoDB can evaluate: those on attributes that the index has and that never change."""
        conditions = [
            attribute == value
            for attribute, value in ((Job.pipeline, self.pipeline), (Job.git_ref, self.git_ref))
            if value is not None
        ]
        if not conditions or (self.status is not None and self.status not in FINAL):
            return None
        return conditions[0] if len(conditions) == 1 else conditions[0] & conditions[1]


@dataclass(frozen=True)
class JobPage:
    """A page of a list, newest first. `total` counts the jobs on all pages; it may be a lower bound."""

    jobs: list[Job]
    total: int
    total_is_lower_bound: bool
    next_cursor: str | None


def job_get(job_id: str) -> Job:
    """The job, read consistently. Raises NotFound."""
    job = Job.find(job_id)
    if job is None:
        raise NotFound("There is no such job.", code=ErrorCode.JOB_NOT_FOUND)
    return job


def job_steps(job: Job) -> list[Mapping[str, Any]]:
    """The steps with their states; those of a running attempt as its agent last reported them (one call)."""
    if job.status == Status.RUNNING and job.agent_id:
        heartbeat = heartbeats_get([job.agent_id]).get(job.agent_id)
        for entry in heartbeat.running if heartbeat else []:
            if (entry["job_id"], entry["attempt"]) == (job.job_id, job.attempt) and entry.get("steps"):
                return list(entry["steps"])
    return list(job.steps or [])


def job_list(
    *,
    status: Status | None = None,
    pipeline: str | None = None,
    git_ref: str | None = None,
    agent_id: str | None = None,
    limit: int = 20,
    cursor: str | None = None,
) -> JobPage:
    """A page of jobs, newest first. `cursor` continues after the page that gave it.

    A page may be shorter than `limit` and still have a next one. Raises InvalidInput (field "cursor").
    """
    wanted = JobFilter(status=status, pipeline=pipeline, git_ref=git_ref, agent_id=agent_id)
    listing, partitions = wanted.listing()
    page = listing.page(
        partitions,
        limit=limit,
        keep=wanted.matches,
        condition=wanted.condition(),
        start=place_decode(wanted.scope, cursor),
        look_at_most=_LOOK_AT_MOST,
    )
    total, is_lower_bound = _total(wanted)
    return JobPage(
        jobs=page.records,
        total=total,
        total_is_lower_bound=is_lower_bound,
        next_cursor=page.next_cursor(wanted.scope),
    )


def jobs_recent(*, agent_id: str | None = None, limit: int = 10) -> list[Job]:
    """The newest jobs, of an agent or of all, without counting them."""
    wanted = JobFilter(agent_id=agent_id)
    listing, partitions = wanted.listing()
    return listing.page(partitions, limit=limit, keep=wanted.matches).records


def _total(wanted: JobFilter) -> tuple[int, bool]:
    """How many jobs match, and whether that is a lower bound."""
    is_open = wanted.status is not None and wanted.status not in FINAL
    if not is_open and wanted.asked.keys() <= {"status"}:
        return outcome_total(wanted.status or "created"), False
    listing, partitions = wanted.listing()
    if is_open or (wanted.status and wanted.agent_id):
        # The index lacks the status, which changes, so this must read the jobs themselves.
        page = listing.page(
            partitions,
            limit=_LOOK_AT_MOST,
            keep=wanted.matches,
            condition=wanted.condition(),
            look_at_most=_LOOK_AT_MOST,
        )
        return len(page.records), page.next is not None
    return listing.count(partitions, condition=wanted.condition(), at_most=TOTAL_LIMIT, look_at_most=_COUNT_AT_MOST)
