"""Reading jobs. An index gives the ids of a page's jobs; the jobs themselves are then read consistently."""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from datetime import date, timedelta
from itertools import takewhile
from typing import Any

from pynamodb.expressions.condition import Condition

from apps.agents.selectors import heartbeats_get
from apps.jobs.models import OPEN, Job
from apps.jobs.selectors.counters import days_with_jobs, outcome_total, outcome_total_on
from apps.jobs.states import FINAL, GROUPS, Status, StatusGroup
from controlplane.lib.error_codes import ErrorCode
from controlplane.lib.errors import InvalidInput, NotFound
from controlplane.lib.frozen import frozen
from controlplane.nosql.listing import Listing, Partition, place_decode

# Counting stops here; the total is then a lower bound.
TOTAL_LIMIT = 10_000

# How many index entries one page may examine when few match its filters. The next page continues from there.
_LOOK_AT_MOST = 2_000
# How many index entries counting may examine. If there are more, the total is a lower bound.
_COUNT_AT_MOST = 50_000
# A job that ended on some day was created at most so many days before.
_ENDED_WITHIN_DAYS = 31
# The member of a cursor that says how many jobs the pages before it have.
_MATCHED = "matched"
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


@frozen
class JobFilter:
    """The filters of a list of jobs; None means any value. `ended` is the day, in UTC, on which the jobs ended."""

    status: Status | StatusGroup | None = None
    pipeline: str | None = None
    git_ref: str | None = None
    agent_id: str | None = None
    ended: date | None = None

    def matches(self, job: Job) -> bool:
        wanted = {field: value for field, value in self.asked.items() if field not in ("status", "ended")}
        return (
            (self.status is None or job.status in self.statuses)
            and (self.ended is None or str(job.completed_at or "").startswith(self.ended.isoformat()))
            and all(getattr(job, field) == value for field, value in wanted.items())
        )

    @property
    def statuses(self) -> frozenset[Status]:
        """The statuses that match."""
        if self.status is None:
            return frozenset(Status)
        return GROUPS[self.status] if isinstance(self.status, StatusGroup) else frozenset({self.status})

    @property
    def asked(self) -> dict[str, Any]:
        """The filters that are set, by field."""
        return {field: value for field, value in vars(self).items() if value is not None}

    @property
    def scope(self) -> str:
        """The name of the list for its cursors."""
        ended = f":{self.ended}" if self.ended else ""
        return f"jobs:{self.status}:{self.pipeline}:{self.git_ref}:{self.agent_id}{ended}"

    def listing(self) -> tuple[Listing[Job], Iterable[Partition]]:
        """The smallest index that contains all matching jobs, and its partitions to read."""
        for listing in (BY_OPEN, BY_AGENT, BY_OUTCOME):
            partitions = listing.partitions(self.asked)
            if partitions is not None:
                return listing, self._days_of_ended(partitions) if listing is BY_OUTCOME else partitions
        return BY_DAY, days_with_jobs()

    def _days_of_ended(self, partitions: Iterable[Partition]) -> Iterable[Partition]:
        """Those of the partitions, each of a day of creation, whose jobs can have ended on the wanted day."""
        if self.ended is None:
            return partitions
        first, last = self.ended - timedelta(days=_ENDED_WITHIN_DAYS), self.ended
        return (name for name in partitions if first.isoformat() <= str(name).partition("#")[2] <= last.isoformat())

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


@frozen
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
    status: Status | StatusGroup | None = None,
    pipeline: str | None = None,
    git_ref: str | None = None,
    agent_id: str | None = None,
    ended: date | None = None,
    limit: int = 20,
    cursor: str | None = None,
) -> JobPage:
    """A page of jobs, newest first. `cursor` continues after the page that gave it.

    `ended`, a day in UTC, needs a status with which jobs end. A page may be shorter than `limit` and still have a next
    one. Raises InvalidInput (field "cursor" or "ended").
    """
    wanted = JobFilter(status=status, pipeline=pipeline, git_ref=git_ref, agent_id=agent_id, ended=ended)
    if ended and not wanted.statuses <= FINAL:
        raise InvalidInput.field("ended", f"must come with a status that jobs end with: {', '.join(sorted(FINAL))}")
    listing, partitions = wanted.listing()
    total, is_lower_bound = _total(wanted)
    start = place_decode(wanted.scope, cursor)
    # How many jobs the pages so far have. When these are all that the day's counter has, no older day is read.
    matched = earlier = int(start.pop(_MATCHED, "0")) if start else 0
    if ended and not is_lower_bound:
        partitions = takewhile(lambda _: matched < total, partitions)

    def keep(job: Job) -> bool:
        nonlocal matched
        does = wanted.matches(job)
        matched += does
        return does

    page = listing.page(
        partitions,
        limit=limit,
        keep=keep,
        condition=wanted.condition(),
        start=start,
        look_at_most=_LOOK_AT_MOST,
    )
    if ended and page.next:
        page = replace(page, next={**page.next, _MATCHED: str(earlier + len(page.records))})
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
    is_open = wanted.statuses.isdisjoint(FINAL)
    if wanted.ended and wanted.asked.keys() == {"status", "ended"}:
        return outcome_total_on(wanted.ended, str(wanted.status)), False
    if not is_open and wanted.asked.keys() <= {"status"}:
        return outcome_total(wanted.status or "created"), False
    listing, partitions = wanted.listing()
    if is_open or wanted.ended or (wanted.status and wanted.agent_id):
        # The index lacks the status, which changes, and the end, so this must read the jobs themselves.
        page = listing.page(
            partitions,
            limit=_LOOK_AT_MOST,
            keep=wanted.matches,
            condition=wanted.condition(),
            look_at_most=_LOOK_AT_MOST,
        )
        return len(page.records), page.next is not None
    return listing.count(partitions, condition=wanted.condition(), at_most=TOTAL_LIMIT, look_at_most=_COUNT_AT_MOST)
