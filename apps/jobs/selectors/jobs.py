"""Reading jobs. An index only says where to look; what is shown comes from the jobs themselves."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from pynamodb.expressions.condition import Condition
from pynamodb.indexes import GlobalSecondaryIndex

from apps.agents.selectors import heartbeats_get
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
# How many counting may look at; it then has a lower bound too.
_COUNT_AT_MOST = 50_000
# So many entries a call looks at when it filters, or counts; and as so many a call counts at least, since a day with
# few jobs costs one as well.
_LOOK_SIZE, _LOOK_LEAST = 500, 20
_COUNT_SIZE, _COUNT_LEAST = 5_000, 500

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


def jobs_recent(*, agent_id: str | None = None, limit: int = 10) -> list[Job]:
    """The newest jobs, of an agent or of all, where nobody asks how many there are."""
    return _page(JobFilter(agent_id=agent_id), limit, None)[0]


def _page(narrowed: JobFilter, limit: int, after: Mapping[str, Any] | None) -> tuple[list[Job], dict[str, str] | None]:
    """Up to `limit` jobs after the place `after`, and the place to go on from if there may be more."""
    found: list[Job] = []
    looked_at = 0
    for look in _looks(narrowed, after, size=min(max(limit + 1, 25), 100)):
        jobs = {job.job_id: job for job in Job.find_many([key["job_id"] for key in look.keys])}
        for key in look.keys:
            job = jobs.get(key["job_id"])
            if job is None or not narrowed.matches(job):
                continue
            if len(found) == limit:
                return found, _place(found[-1])
            found.append(job)
        looked_at += look.cost
        if looked_at >= _LOOK_AT_MOST and look.place:
            return found, look.place
    return found, None


def _place(job: Job) -> dict[str, str]:
    return {"job_id": job.job_id, "created_at": job.created_at}


@dataclass(frozen=True)
class _Look:
    """Places of jobs that may match, newest first; what it cost to find them, in index entries; where to go on from."""

    keys: list[dict[str, str]]
    cost: int
    place: dict[str, str] | None


def _looks(narrowed: JobFilter, after: Mapping[str, Any] | None, *, size: int) -> Iterator[_Look]:
    """The places of all jobs that may match, newest first, up to `size` at a time."""
    entries = size if _index_condition(narrowed) is None else max(size, _LOOK_SIZE)
    for index, hash_key in _partitions(narrowed, after):
        start = _start_key(index, hash_key, after)
        while True:
            page = _index_page(narrowed, index, hash_key, start, limit=entries)
            start = page.get("LastEvaluatedKey")
            keys = [_key_place(item) for item in page["Items"]]
            for first in range(0, len(keys) - size, size):
                some = keys[first : first + size]
                yield _Look(some, 0, some[-1])
            rest = keys[(len(keys) - 1) // size * size :] if keys else []
            end = _key_place(start) if start else _partition_end(index, hash_key)
            yield _Look(rest, max(page["ScannedCount"], _LOOK_LEAST), end)
            if start is None:
                break


def _index_page(
    narrowed: JobFilter,
    index: GlobalSecondaryIndex[Job],
    hash_key: str,
    start: dict[str, dict[str, str]] | None,
    *,
    limit: int,
    select: str | None = None,
) -> dict[str, Any]:
    """DynamoDB's own answer for `limit` entries, since PynamoDB does not tell how many it has looked at."""
    page: dict[str, Any] = Job._get_connection().query(
        hash_key,
        index_name=index.Meta.index_name,
        filter_condition=_index_condition(narrowed),
        exclusive_start_key=start,
        limit=limit,
        scan_index_forward=False,
        select=select,
    )
    return page


def _key_place(item: Mapping[str, Mapping[str, str]]) -> dict[str, str]:
    """The place that an index entry, or a key of the index, stands for."""
    return {name: item[name]["S"] for name in ("job_id", "created_at")}


def _partition_end(index: GlobalSecondaryIndex[Job], hash_key: str) -> dict[str, str] | None:
    """A place behind all of a day, or None where the partition is the only one."""
    if index in (Job.by_open, Job.by_agent):
        return None
    return {"job_id": "0" * 26, "created_at": f"{hash_key[-10:]}T00:00:00.000000Z"}


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
    if (narrowed.status is not None) and (narrowed.status not in FINAL or narrowed.agent_id):
        return _total_by_looking(narrowed)
    total = looked_at = 0
    for index, hash_key in _partitions(narrowed, None):
        start = None
        while True:
            page = _index_page(narrowed, index, hash_key, start, limit=_COUNT_SIZE, select="COUNT")
            start = page.get("LastEvaluatedKey")
            total += page["Count"]
            looked_at += max(page["ScannedCount"], _COUNT_LEAST)
            if total > TOTAL_LIMIT:
                return TOTAL_LIMIT, True
            if looked_at >= _COUNT_AT_MOST:
                return total, True
            if start is None:
                break
    return total, False


def _years() -> range:
    return range(_FIRST_YEAR, clock.now().year + 1)


def _total_by_looking(narrowed: JobFilter) -> tuple[int, bool]:
    """The same by looking at the jobs, for filters on what changes; stops after `_LOOK_AT_MOST` of them."""
    total = looked_at = 0
    for look in _looks(narrowed, None, size=100):
        total += sum(narrowed.matches(job) for job in Job.find_many([key["job_id"] for key in look.keys]))
        looked_at += look.cost
        if looked_at >= _LOOK_AT_MOST and look.place:
            return total, True
    return total, False
