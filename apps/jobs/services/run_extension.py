"""Extending a run: a job adds jobs to its own run while it runs."""

import hashlib
from collections.abc import Sequence

from apps.audit.actions import Action
from apps.audit.services import audit_add
from apps.jobs.models import DUE, FILE_NODE, GRAPH, RUN, Job, Run, RunGraph
from apps.jobs.policies import attempt_require
from apps.jobs.run_graph import GraphJob, graph_pack, graph_unpack, jobs_before
from apps.jobs.selectors.run_context import run_context
from apps.jobs.selectors.runs import RunView, run_get, run_view
from apps.jobs.services.run_expansion import Source, jobs_write, label_sets_open, run_expand, stale, works_write
from apps.jobs.services.run_following import run_follow
from apps.jobs.services.transitions import attempt_fence
from apps.jobs.states import Status
from apps.pipelines.definitions import Pipeline
from apps.pipelines.parsing import pipeline_expand, pipeline_extend
from controlplane.lib import clock
from controlplane.lib.actor import Actor
from controlplane.lib.error_codes import ErrorCode
from controlplane.lib.errors import Conflict, InvalidInput, Unprocessable
from controlplane.lib.ids import new_id
from controlplane.nosql.transaction import ItemTooLarge, Transaction, TransactionFailed

# How often jobs may extend one run, and how long the chain of jobs that added each other may be.
MAX_PARTS = 50
MAX_DEPTH = 5
# How often it is tried when other jobs extend the run at the same time.
_TRIES = 8


def run_extend(*, agent: Actor, job_id: str, attempt: int, text: str) -> list[str]:
    """Add the jobs of a pipeline file to the run of the job, which runs. Returns the names of the new jobs.

    They may need jobs of the run, and are validated as those of a pipeline file. Uploading the same text again from the
    same job changes nothing.

    Raises NotFound, Conflict with code ``stale_attempt``, and Unprocessable with code
    ``definition_invalid`` or ``too_many_label_sets``.
    """
    job = attempt_require(Job.find(job_id), agent_id=agent.id, attempt=attempt)
    if job.status != Status.RUNNING:
        raise stale()
    try:
        names = _first_extend(job, agent, attempt, text) if job.is_first else _extend(job, agent, attempt, text)
    except InvalidInput as error:
        raise Unprocessable(error.message, code=ErrorCode.DEFINITION_INVALID, errors=error.errors) from error
    run_follow(Job(job_id=job.job_id, run_id=job.run_id, node=FILE_NODE))
    return names


def _first_extend(job: Job, agent: Actor, attempt: int, text: str) -> list[str]:
    """Make a graph of the run whose only job this is."""
    pipeline = _graph_require(pipeline_extend(text, {}))
    run = run_get(str(job.run_id))
    context = run_context(run) | {"commit": str(job.commit or "")}
    nodes = pipeline_expand(pipeline, context)
    source = Source(str(job.commit or run.git_ref))
    run_expand(agent=agent, job=job, attempt=attempt, pipeline=pipeline, nodes=nodes, source=source)
    return [node.name for node in nodes]


def _graph_require(pipeline: Pipeline) -> Pipeline:
    if not pipeline.is_graph:
        raise InvalidInput("An upload must have `jobs`.", code=ErrorCode.DEFINITION_INVALID)
    return pipeline


def _extend(job: Job, agent: Actor, attempt: int, text: str) -> list[str]:
    digest = hashlib.sha256(text.encode()).hexdigest()
    for _ in range(_TRIES):
        view = run_view(str(job.run_id))
        part = next((one for one in view.parts if (one.reported_by, one.digest) == (job.job_id, digest)), None)
        part = part or _part_write(view, job, agent=agent, attempt=attempt, text=text, digest=digest)
        if part is None:
            continue
        jobs = graph_unpack(part.packed)
        if not part.complete:
            jobs_write(view.run, jobs, works=str(part.works))
            _complete(view.run, part, agent=agent, count=len(jobs))
        return [one.name for one in jobs]
    raise Conflict("Too many jobs extend this run at the same time. Try again.", code=ErrorCode.CONFLICT)


def _part_write(view: RunView, job: Job, *, agent: Actor, attempt: int, text: str, digest: str) -> RunGraph | None:
    """Write a part of the graph without its jobs. None if another job has extended the run meanwhile."""
    parts = [graph_unpack(part.packed) for part in view.parts]
    known = [one for jobs in parts for one in jobs]
    named = zip(view.parts, ({one.name for one in jobs} for jobs in parts), strict=True)
    depth = 1 + max((int(part.depth) for part, names in named if job.node in names), default=0)
    if len(view.parts) > MAX_PARTS or depth > MAX_DEPTH:
        raise Unprocessable(
            f"Jobs may extend a run {MAX_PARTS} times, and a job that was added {MAX_DEPTH} levels deep may not. "
            "Put more jobs into one upload.",
            code=ErrorCode.DEFINITION_INVALID,
        )
    pipeline = _graph_require(pipeline_extend(text, {one.job: one.node.outputs for one in known}))
    beside: dict[str, list[str]] = {}
    for one in known:
        beside.setdefault(one.job, []).append(one.name)
    jobs = [GraphJob(node, new_id()) for node in pipeline_expand(pipeline, run_context(view.run), beside=beside)]
    _takes_require(pipeline, jobs, [*known, *jobs])
    label_sets_open(view.run, jobs, actor=agent)
    works = f"{job.job_id}-{attempt}-{digest[:16]}"
    works_write(str(view.run.run_id), works, pipeline, used={one.job for one in jobs})
    part = RunGraph(
        view.run.run_id,
        f"{GRAPH}{len(view.parts) + 1:04d}",
        packed=graph_pack(jobs),
        reported_by=job.job_id,
        digest=digest,
        works=works,
        depth=depth,
    )
    transaction = Transaction()
    transaction.check("job", job, attempt_fence(agent.id, attempt) & (Job.status == Status.RUNNING))
    transaction.put("graph", part)
    try:
        transaction.commit()
    except TransactionFailed as failure:
        if "job" in failure.failed:
            raise stale() from None
        return None
    except ItemTooLarge:
        raise Unprocessable("The upload is too large to store.", code=ErrorCode.DEFINITION_INVALID) from None
    return part


def _takes_require(pipeline: Pipeline, jobs: Sequence[GraphJob], graph: Sequence[GraphJob]) -> None:
    """Have new jobs take artifacts only of jobs that they need, also through others of the run. Raises InvalidInput."""
    for job in (one for one in jobs if one.node.take):
        before = jobs_before(job.name, graph)
        missing = {*job.node.take} - {one.job for one in graph if one.name in before}
        if missing:
            place, field = pipeline.jobs[job.job], f"jobs.{job.job}.artifacts.from"
            message = f"must be a job that this one needs; add {min(missing)!r} to its `needs`"
            errors = [{"field": field, "line": place.line, "column": place.column, "message": message}]
            raise InvalidInput(
                f"line {place.line}, {field}: {message}", code=ErrorCode.DEFINITION_INVALID, errors=errors
            )


def _complete(run: Run, part: RunGraph, *, agent: Actor, count: int) -> None:
    """The new jobs count from now on, and the run cannot end without them."""
    transaction = Transaction()
    transaction.update(
        "graph", part, actions=[RunGraph.complete.set(True)], condition=RunGraph.complete.does_not_exist()
    )
    marks = [Run.due.set(DUE), Run.due_at.set(clock.timestamp(clock.now()))]
    transaction.update("run", Run(run.run_id, RUN), actions=[Run.jobs.add(count), Run.revision.add(1), *marks])
    audit_add(
        transaction,
        actor=agent,
        action=Action.RUN_EXTENDED,
        target=f"run:{run.run_id}",
        detail={"jobs": count, "job_id": part.reported_by},
    )
    try:
        transaction.commit()
    except TransactionFailed:
        # The same upload arrived twice at the same time.
        return
