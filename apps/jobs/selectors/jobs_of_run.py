"""The jobs of a run for its page and the API: how far each is, and what those that wait are waiting for."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cache

from apps.jobs.models import FILE_NODE, GroupRow, Job
from apps.jobs.models.group import line_place
from apps.jobs.run_graph import GraphJob
from apps.jobs.selectors.groups import group_line_before, group_slots
from apps.jobs.selectors.runs import RunView, node_jobs, run_view
from apps.jobs.selectors.waiting import Waiting, WaitingCode, job_waiting, span_until_now
from apps.jobs.states import FINAL, Status
from apps.pipelines.selectors import pipeline_get
from controlplane.lib import clock
from controlplane.lib.errors import NotFound
from controlplane.lib.ids import id_moment

# How many other jobs a sentence names.
_NAMED = 3


@dataclass(frozen=True)
class RunJob:
    """A job of a run. `needs` are the jobs that it needs, `job` is the name in the file that cells of a matrix share.

    `record` is the current record. `reason` says why a job was skipped or cancelled.
    """

    name: str
    job: str
    cell: Mapping[str, str]
    needs: tuple[str, ...]
    status: Status
    record: Job
    reason: str | None


def run_jobs(view: RunView) -> list[RunJob]:
    """All jobs of the run, each after what it needs; the only one of a run without a graph. A call for each 100."""
    if not view.jobs:
        (job,) = Job.find_many([view.run.job_id])
        return [RunJob("main", "main", {}, (), Status(job.status), job, None)]
    records = node_jobs(view)
    return [_run_job(job, view, records[job.name]) for job in view.jobs if job.name in records]


def _run_job(job: GraphJob, view: RunView, record: Job) -> RunJob:
    needs = tuple(name for name, _ in job.needs)
    if job.name != FILE_NODE and not needs:
        needs = (FILE_NODE,)
    status, reason = Status(record.status), view.nodes[job.name].reason
    return RunJob(job.name, job.job, job.node.cell, needs, status, record, reason)


def job_waits(job: Job) -> Waiting | None:
    """What the job waits for: for others of its run, or in the queue. None if it does not wait.

    Costs one read of its run or of its pipeline, or the calls of `job_waiting`; and two more for a concurrency group.
    """
    if job.status != Status.WAITING:
        return job_waiting(job)
    if job.is_first:
        return _pause_waits(job)
    return run_waits(run_view(str(job.run_id)), [str(job.node)]).get(str(job.node))


def first_waits(jobs: Iterable[RunJob]) -> dict[str, Waiting]:
    """What the only job of a run waits for while its pipeline is paused, by name. One call if it does, else none."""
    return {job.name: _pause_waits(job.record) for job in jobs if job.record.is_first and job.status == Status.WAITING}


def _pause_waits(job: Job) -> Waiting:
    since, name = str(job.created_at), str(job.pipeline)
    try:
        pipeline = pipeline_get(name)
    except NotFound:
        pipeline = None
    if pipeline is None or not pipeline.paused_at:
        return _waiting(WaitingCode.BEING_QUEUED, "it is queued within a minute", since)
    ago = span_until_now(pipeline.paused_at)
    what = f"{pipeline.paused_by} paused the pipeline {name} {ago} ago: resume it to start the run"
    return _waiting(WaitingCode.PAUSED_PIPELINE, what, since)


def run_waits(view: RunView, names: Iterable[str] | None = None) -> dict[str, Waiting]:
    """What the jobs of the run that wait are waiting for, by name: all of them, or those of `names`.

    Costs one call for each concurrency group that they wait for; with `names`, two. If deployments wait for gates, also
    one for up to 100 of them, one for each of their environments, and one for the people who may approve.
    """
    states, slots = view.states, cache(group_slots)
    wanted = states if names is None else [name for name in names if name in states]
    waiting = {name for name in wanted if states[name] == Status.WAITING}
    found = {job.name: _waits(job, view, states, slots, names is not None) for job in view.jobs if job.name in waiting}
    return found | _gates_waits(view, waiting)


def _waits(
    job: GraphJob, view: RunView, states: Mapping[str, Status], slots: Callable[[str], list[GroupRow]], counts: bool
) -> Waiting:
    node = view.nodes[job.name]
    # The record of a job that is run again is newer than the run.
    since = clock.timestamp(id_moment(str(node.job_id)))
    if not view.is_complete:
        return _waiting(WaitingCode.RUN_IS_MADE, "the jobs of the run are being written", since)
    open_needs = [name for name, _ in job.needs if states[name] not in FINAL]
    if open_needs:
        return _waiting(WaitingCode.NEEDS, f"it needs {_names(open_needs)} to end", since)
    if node.group_since:
        place = line_place(str(node.group_since), str(node.job_id))
        ahead = group_line_before(str(node.group), place) if counts else None
        return _in_line(str(node.group), slots(str(node.group)), ahead, str(node.group_since))
    if view.run.group and not view.run.has_slot:
        return _in_line(str(view.run.group), slots(str(view.run.group)), None, str(view.run.group_since or since))
    cells = [other.name for other in view.jobs if other.job == job.job and other.name != job.name]
    running = [name for name in cells if states[name] == Status.QUEUED]
    # Those in the line of a concurrency group come first.
    in_line = [name for name in cells if states[name] == Status.WAITING and view.nodes[name].group_since]
    before = running + in_line
    if job.max_parallel is not None and len(before) >= job.max_parallel:
        most = f"at most {job.max_parallel} cells of {job.job} run at once (max_parallel)"
        what = "do" if len(running) >= job.max_parallel else "come first"
        return _waiting(WaitingCode.MAX_PARALLEL, f"{most}, and {_names(before)} {what}", since)
    return _waiting(WaitingCode.BEING_QUEUED, "it is queued within seconds", since)


def _gates_waits(view: RunView, names: Iterable[str]) -> dict[str, Waiting]:
    """What the deployments among these jobs wait for at the gates of their environments; none whose gates are open."""
    nodes = {str(view.nodes[name].job_id): name for name in names if view.nodes[name].environment}
    if not nodes:
        return {}
    # Few jobs deploy.
    from apps.jobs.selectors.deployments import deployments_gates
    from apps.jobs.selectors.gates import closed

    found = ((deployment, closed(gates)) for deployment, gates in deployments_gates(nodes))
    return {
        nodes[str(deployment.deployment_id)]: _waiting(
            shut[0].code, "; ".join(gate.message for gate in shut), str(deployment.created_at)
        )
        for deployment, shut in found
        if shut
    }


def _in_line(group: str, holders: list[GroupRow], ahead: int | None, since: str) -> Waiting:
    name = group.partition("/")[2]
    members = [f"{holder.node} of run {holder.run_id}" if holder.node else f"run {holder.run_id}" for holder in holders]
    by = _names(members) or "another job that is ending"
    place = f", after {ahead} job{'s' if ahead != 1 else ''} before it" if ahead else ""
    message = f"its concurrency group {name} has no free slot: taken by {by}{place}"
    return _waiting(WaitingCode.GROUP_HELD, message, since, ahead=ahead)


def _waiting(code: WaitingCode, what: str, since: str, *, ahead: int | None = None) -> Waiting:
    return Waiting(code, f"Waiting for {span_until_now(since)}; {what}.", since, ahead, 0)


def _names(names: list[str]) -> str:
    more = len(names) - _NAMED
    return ", ".join(names[:_NAMED]) + (f" and {more} more" if more > 0 else "")
