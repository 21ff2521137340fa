"""Reading jobs. An index only says where to look; what is shown comes from the jobs themselves."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from pynamodb.expressions.condition import Condition
from pynamodb.indexes import GlobalSecondaryIndex

from apps.agents.selectors import beats_get
from apps.jobs.models import OPEN, Job
from apps.jobs.selectors.overview import days_with_jobs, outcome_total
from apps.jobs.states import FINAL, Status
from controlplane.lib import clock
from controlplane.lib.cursors import cursor_decode, cursor_encode
from controlplane.lib.errors import NotFound

# Counting stops here, and the total is then said to be a lower bound.
TOTAL_LIMIT = 10_000

# How many index entries one page may look at when a filter matches few of them; the cursor then goes on from there.
_LOOK_AT_MOST = 2_000

# No job is older than the product.
_FIRST_YEAR = 2026


@dataclass(frozen=True)
class JobFilter:
    """What a list of jobs is narrowed to; None means any."""

    status: Status | None = None
    pipeline: str | None = None
    git_ref: str | None = None
    agent_id: str | None = None

    def matches(self, job: Job) -> bool:
        return (
            self.status in (None, job.status)
            and self.pipeline in (None, job.pipeline)
            and self.git_ref in (None, job.git_ref)
            and self.agent_id in (None, job.agent_id)
        )

    @property
    def scope(self) -> str:
        """Binds a cursor to the list that it goes on with."""
        return f"jobs:{self.status}:{self.pipeline}:{self.git_ref}:{self.agent_id}"


@dataclass(frozen=True)
class JobPage:
    """A page of a list, newest first."""

    jobs: list[Job]
    total: int
    total_is_lower_bound: bool
    next_cursor: str | None


def job_get(job_id: str) -> Job:
    """The job, read consistently. Raises NotFound."""
    job = Job.find(job_id)
    if job is None:
        raise NotFound("There is no such job.", code="job_not_found")
    return job


def job_steps(job: Job) -> list[Mapping[str, Any]]:
    """The steps with their states; of a running attempt as its agent last told them (one call)."""
    if job.status == Status.RUNNING and job.agent_id:
        beat = beats_get([job.agent_id]).get(job.agent_id)
        for entry in beat.running if beat else []:
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
    """A page of jobs, newest first. A cursor goes on where a page ended. Raises InvalidInput for a forged one."""
    narrowed = JobFilter(status=status, pipeline=pipeline, git_ref=git_ref, agent_id=agent_id)
    after = cursor_decode(narrowed.scope, cursor) if cursor else None
    jobs, last = _page(narrowed, limit, after)
    total, is_lower_bound = _total(narrowed)
    return JobPage(
        jobs=jobs,
        total=total,
        total_is_lower_bound=is_lower_bound,
        next_cursor=cursor_encode(narrowed.scope, last) if last else None,
    )


def _page(narrowed: JobFilter, limit: int, after: Mapping[str, Any] | None) -> tuple[list[Job], dict[str, str] | None]:
    """Up to `limit` jobs after the place `after`, and the place to go on from if there may be more."""
    found: list[Job] = []
    looked_at = 0
    for keys in _keys(narrowed, after, page_size=max(limit + 1, 25)):
        jobs = {job.job_id: job for job in Job.find_many([key["job_id"] for key in keys])}
        for key in keys:
            looked_at += 1
            job = jobs.get(key["job_id"])
            if job is None or not narrowed.matches(job):
                continue
            if len(found) == limit:
                return found, _place(found[-1])
            found.append(job)
        if looked_at >= _LOOK_AT_MOST:
            return found, keys[-1]
    return found, None


def _place(job: Job) -> dict[str, str]:
    return {"job_id": job.job_id, "created_at": job.created_at}


def _keys(narrowed: JobFilter, after: Mapping[str, Any] | None, page_size: int) -> Iterator[list[dict[str, str]]]:
    """The places of jobs that may match, newest first, in pages of at most 100 for one BatchGet each."""
    condition = _index_condition(narrowed)
    for index, hash_key in _partitions(narrowed, after):
        start = _start_key(index, hash_key, after)
        while True:
            results = index.query(
                hash_key,
                filter_condition=condition,
                scan_index_forward=False,
                page_size=min(page_size, 100),
                limit=min(page_size, 100),
                last_evaluated_key=start,
            )
            keys = [_place(job) for job in results]
            start = results.last_evaluated_key
            if keys:
                yield keys
            if start is None:
                break


def _partitions(
    narrowed: JobFilter, after: Mapping[str, Any] | None
) -> Iterator[tuple[GlobalSecondaryIndex[Job], str]]:
    """Which index to read, and which partitions of it, newest first."""
    if narrowed.status is not None and narrowed.status not in FINAL:
        yield Job.by_open, OPEN
    elif narrowed.agent_id is not None:
        yield Job.by_agent, narrowed.agent_id
    else:
        for day in _days(after):
            if narrowed.status is None:
                yield Job.by_day, day
            else:
                yield Job.by_outcome, f"{narrowed.status}#{day}"


def _days(after: Mapping[str, Any] | None) -> Iterator[str]:
    """The days on which jobs were created, newest first, from the day of the place `after` on."""
    newest = after["created_at"][:10] if after else "9"
    for year in range(clock.now().year, _FIRST_YEAR - 1, -1):
        for day in sorted(days_with_jobs(year=year), reverse=True):
            if day.isoformat() <= newest:
                yield day.isoformat()


def _start_key(
    index: GlobalSecondaryIndex[Job], hash_key: str, after: Mapping[str, Any] | None
) -> dict[str, dict[str, str]] | None:
    """The place `after` as the index's own key, if it lies in this partition."""
    if after is None:
        return None
    name = index._hash_key_attribute().attr_name
    if name in {"created_day", "outcome"} and not hash_key.endswith(after["created_at"][:10]):
        return None
    return {
        name: {"S": hash_key},
        "created_at": {"S": after["created_at"]},
        "job_id": {"S": after["job_id"]},
    }


def _index_condition(narrowed: JobFilter) -> Condition | None:
    """What the indexes can filter by themselves: attributes that never change and that they carry."""
    conditions = [
        attribute == value
        for attribute, value in ((Job.pipeline, narrowed.pipeline), (Job.git_ref, narrowed.git_ref))
        if value is not None
    ]
    if not conditions or (narrowed.status is not None and narrowed.status not in FINAL):
        return None
    return conditions[0] if len(conditions) == 1 else conditions[0] & conditions[1]


def _total(narrowed: JobFilter) -> tuple[int, bool]:
    """How many jobs match, and whether counting stopped before the end."""
    others = narrowed.pipeline or narrowed.git_ref or narrowed.agent_id
    if not others and (narrowed.status is None or narrowed.status in FINAL):
        name = narrowed.status or "created"
        return sum(outcome_total(year=year, status=name) for year in _years()), False
    total = 0
    if (narrowed.status is not None) and (narrowed.status not in FINAL or narrowed.agent_id):
        return _total_by_looking(narrowed)
    for index, hash_key in _partitions(narrowed, None):
        total += index.count(hash_key, filter_condition=_index_condition(narrowed), limit=TOTAL_LIMIT + 1 - total)
        if total > TOTAL_LIMIT:
            return TOTAL_LIMIT, True
    return total, False


def _years() -> range:
    return range(_FIRST_YEAR, clock.now().year + 1)


def _total_by_looking(narrowed: JobFilter) -> tuple[int, bool]:
    """The same by looking at the jobs, for filters on what changes; stops after `_LOOK_AT_MOST` of them."""
    total = looked_at = 0
    for keys in _keys(narrowed, None, page_size=100):
        total += sum(narrowed.matches(job) for job in Job.find_many([key["job_id"] for key in keys]))
        looked_at += len(keys)
        if looked_at >= _LOOK_AT_MOST:
            return total, True
    return total, False
