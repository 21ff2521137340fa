"""Reading runs: a run with its graph and the states of its jobs, consistently; and lists of runs."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from apps.jobs.label_sets import DEFAULT_PRIORITY
from apps.jobs.models import GRAPH, NODE, OPEN_RUNS, RUN, Job, Run, RunGraph, RunNode, RunWork
from apps.jobs.run_graph import GraphJob, file_job, graph_unpack, ordered, unpack
from apps.jobs.selectors.counters import days_with_jobs
from apps.jobs.states import RUN_FINAL, Event, RunStatus, Status, run_status_of
from controlplane.lib import clock
from controlplane.lib.error_codes import ErrorCode
from controlplane.lib.errors import NotFound
from controlplane.lib.ids import id_moment
from controlplane.lib.labels import target_labels
from controlplane.nosql.listing import Listing, place_decode

# How many runs one page of a filtered list may examine. The next page continues from there.
_LOOK_AT_MOST = 1_000
_LOOK = 25
# How many jobs one call of DynamoDB reads.
_BATCH = 100


@dataclass(frozen=True)
class RunView:
    """A run, its jobs in an order in which each follows what it needs, and how far each of them is.

    `parts` are the parts of its graph, also those whose jobs are still being written. A run of one job has none of all
    these here.
    """

    run: Run
    parts: list[RunGraph] = field(default_factory=list)
    jobs: list[GraphJob] = field(default_factory=list)
    nodes: Mapping[str, RunNode] = field(default_factory=dict)

    @property
    def is_complete(self) -> bool:
        """Whether the graph has all of its jobs: they are written before any of them starts."""
        return bool(self.run.jobs) and len(self.nodes) >= int(self.run.jobs)

    @property
    def states(self) -> dict[str, Status]:
        """The status of each job; queued stands for all between waiting and an end."""
        return {name: Status(node.state) for name, node in self.nodes.items()}


def run_view(run_id: str) -> RunView:
    """The run with its graph, by one consistent query. Raises NotFound."""
    run, parts, nodes = None, [], {}
    for item in _items(run_id):
        part = item["part"]["S"]
        if part == RUN:
            run = Run.from_raw_data(item)
        elif part.startswith(GRAPH):
            parts.append(RunGraph.from_raw_data(item))
        elif part.startswith(NODE):
            node = RunNode.from_raw_data(item)
            nodes[node.name] = node
    if run is None or not run.pipeline:
        raise NotFound("There is no such run.", code=ErrorCode.RUN_NOT_FOUND)
    jobs = [job for part in parts if part.complete for job in graph_unpack(part.packed)]
    if jobs:
        jobs = [file_job(run.job_id), *ordered(jobs)]
    return RunView(run, parts, jobs, {job.name: nodes[job.name] for job in jobs if job.name in nodes})


def _items(run_id: str) -> Iterable[dict[str, Any]]:
    """The items of the run's partition as DynamoDB returns them: they are of several kinds."""
    last = None
    while True:
        answer = Run._get_connection().query(run_id, consistent_read=True, exclusive_start_key=last)
        yield from answer["Items"]
        last = answer.get("LastEvaluatedKey")
        if last is None:
            return


def run_find(run_id: str) -> Run | None:
    """The run without its jobs, read consistently, or None."""
    run = Run.find(run_id, RUN)
    return run if run is not None and run.pipeline else None


def run_get(run_id: str) -> Run:
    """The run without its jobs, read consistently. Raises NotFound."""
    run = run_find(run_id)
    if run is None:
        raise NotFound("There is no such run.", code=ErrorCode.RUN_NOT_FOUND)
    return run


def run_work(run_id: str, job: str) -> Mapping[str, Any] | None:
    """What a job of the run's file does, as the reader of the file has it; read consistently."""
    row = RunWork.find(work_key(run_id), job)
    return unpack(row.packed) if row else None


def work_key(run_id: str) -> str:
    """The partition of what the jobs of a run do."""
    return f"{run_id}#work"


def nodes_get(run_id: str, names: Iterable[str]) -> list[RunNode]:
    """The nodes of these names, read consistently, 100 a call."""
    return RunNode.find_many((run_id, f"{NODE}{name}") for name in names)


def nodes_first(run_id: str, *, limit: int) -> list[RunNode]:
    """The first nodes of the run by their names, read consistently by one query. A run of one job has none."""
    return list(
        RunNode.query(run_id, RunNode.part.startswith(NODE), limit=limit, page_size=limit, consistent_read=True)
    )


def node_jobs(view: RunView, *, names: Iterable[str] | None = None) -> dict[str, Job]:
    """The records of the run's jobs, or of those of these names, by name, read consistently, 100 a call."""
    wanted = view.nodes if names is None else [name for name in names if name in view.nodes]
    ids = {view.nodes[name].job_id: name for name in wanted}
    return {ids[job.job_id]: job for job in Job.find_many(ids)}


def _open_partition(asked: Mapping[str, Any]) -> list[str] | None:
    is_open = asked.get("open") == OPEN_RUNS or asked.get("status") in set(RunStatus) - RUN_FINAL
    return [OPEN_RUNS] if is_open else None


def _pipeline_partition(asked: Mapping[str, Any]) -> list[str] | None:
    return [asked["pipeline"]] if "pipeline" in asked else None


BY_OPEN = Listing(Run, Run.by_open, _open_partition, filters={"pipeline"}, descending=True, look=_LOOK)
BY_PIPELINE = Listing(Run, Run.by_pipeline, _pipeline_partition, descending=True, look=_LOOK)
BY_DAY = Listing(Run, Run.by_day, lambda _asked: days_with_jobs(), descending=True, look=_LOOK)


@dataclass(frozen=True)
class RunFilter:
    """The filters of a list of runs; None means any value. `branch` is the ref that the run was started for."""

    pipeline: str | None = None
    branch: str | None = None
    status: RunStatus | None = None
    event: Event | None = None
    requested_by: str | None = None

    @property
    def asked(self) -> dict[str, Any]:
        """The filters that are set."""
        return {name: value for name, value in vars(self).items() if value is not None}

    @property
    def scope(self) -> str:
        """The name of the list for its cursors."""
        return "runs:" + ":".join(f"{name}={value}" for name, value in sorted(self.asked.items()))

    def matches(self, run: Run) -> bool:
        """Whether the run is in the list, but for its status."""
        wanted = {"git_ref" if name == "branch" else name: value for name, value in self.asked.items()}
        return all(getattr(run, name) == value for name, value in wanted.items() if name != "status")


@dataclass(frozen=True)
class RunPage:
    """A page of runs, newest first. `statuses` are those that users see, by id of the run."""

    runs: list[Run]
    statuses: Mapping[str, RunStatus]
    next_cursor: str | None


def run_list(*, limit: int = 20, cursor: str | None = None, **filters: Any) -> RunPage:
    """A page of the runs that match the filters of `RunFilter`. A page may be short and still have a next one.

    It may lag by moments. Raises InvalidInput (field "cursor").
    """
    wanted = RunFilter(**filters)
    listing = next(one for one in (BY_OPEN, BY_PIPELINE, BY_DAY) if one.partitions(wanted.asked) is not None)
    statuses: dict[str, RunStatus] = {}

    def keep(run: Run) -> bool:
        if not wanted.matches(run):
            return False
        return wanted.status is None or RunStatus(run.status) == wanted.status or run.status not in RUN_FINAL

    page = listing.page(
        listing.partitions(wanted.asked) or (),
        limit=limit,
        keep=keep,
        start=place_decode(wanted.scope, cursor),
        look_at_most=_LOOK_AT_MOST,
    )
    statuses.update(run_statuses(page.records))
    runs = [run for run in page.records if wanted.status in (None, statuses[run.run_id])]
    return RunPage(runs, statuses, page.next_cursor(wanted.scope))


def runs_recent(pipeline: str, *, limit: int) -> list[Run]:
    """The newest runs of a pipeline. They may lag by moments."""
    return BY_PIPELINE.page([pipeline], limit=limit).records


def first_jobs_since(pipeline: str, since: str, *, limit: int) -> list[Job]:
    """The first jobs of the oldest runs of a pipeline that were started at `since` or later.

    The list of runs may lag by moments; runs and jobs are read consistently.
    """
    rows = Run.by_pipeline.query(pipeline, Run.created_at >= since, limit=limit, page_size=limit)
    runs = Run.find_many((row.run_id, RUN) for row in rows)
    return sorted(Job.find_many(run.job_id for run in runs), key=lambda job: str(job.job_id))


def run_statuses(runs: Iterable[Run]) -> dict[str, RunStatus]:
    """The statuses of runs by their ids. An open run of one job has that of its job: one call for up to 100 of them."""
    known = {run.run_id: RunStatus(run.status) for run in runs}
    asked = {run.job_id: run.run_id for run in runs if run.status == RunStatus.QUEUED}
    for job in Job.find_many(asked):
        known[asked[job.job_id]] = run_status_of(Status(job.status))
    return known


def runs_last(run_ids: Iterable[str | None]) -> dict[str, RunStatus]:
    """The statuses of these runs by their ids, read consistently; None and runs that do not exist are left out."""
    return run_statuses(Run.find_many((run_id, RUN) for run_id in {*run_ids} - {None}))


def job_labels(run: Run, job: GraphJob) -> list[str]:
    """The labels that the job requires of its agent: those of the run, its own, and that of its environment."""
    return sorted({*run.labels, *job.node.labels, *target_labels(job.node.environment)})


def waiting_record(view: RunView, job: GraphJob) -> Job:
    """What moves of the waiting job need of its record, without reading that."""
    node, run = view.nodes[job.name], view.run
    moment = id_moment(node.job_id)
    priority = job.node.priority if job.node.priority is not None else run.priority
    return Job(
        job_id=node.job_id,
        run_id=run.run_id,
        node=job.name,
        checks_key=run.checks_key,
        labels=job_labels(run, job),
        priority=DEFAULT_PRIORITY if priority is None else priority,
        created_at=clock.timestamp(moment),
        group=node.group,
        group_since=node.group_since,
        environment=node.environment,
        attempt=int(node.attempt or 0),
    )
