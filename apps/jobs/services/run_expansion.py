"""Expanding a run: from the pipeline file that its first job has read to the graph and the records of all its jobs.

The jobs are written in several transactions. Until the last one none of them starts. A repeated report goes on where
the one before stopped: the graph is written first, with the ids of all jobs, and the first graph counts.
"""

from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from itertools import groupby
from typing import Any

from apps.audit.actions import Action
from apps.audit.services import audit_add
from apps.jobs.label_sets import DEFAULT_PRIORITY, set_id
from apps.jobs.models import DUE, FILE_NODE, FIRST_NODE, GRAPH, NODE, OPEN, RUN, Job, Run, RunGraph, RunNode, RunWork
from apps.jobs.models.group import group_key
from apps.jobs.models.job import created_day
from apps.jobs.run_digests import with_digests
from apps.jobs.run_graph import GraphJob, graph_pack, graph_unpack, ordered, pack
from apps.jobs.selectors.runs import job_labels, run_get, work_key
from apps.jobs.services.counters import counter_add
from apps.jobs.services.queue import set_open
from apps.jobs.services.transitions import attempt_fence
from apps.jobs.states import RunStatus, Status
from apps.pipelines.definitions import Pipeline
from controlplane.lib import clock
from controlplane.lib.actor import Actor
from controlplane.lib.batches import batched
from controlplane.lib.error_codes import ErrorCode
from controlplane.lib.errors import Conflict, TooManyRequests, Unprocessable
from controlplane.lib.ids import id_moment, new_id
from controlplane.nosql.transaction import ItemTooLarge, Transaction, TransactionFailed

# How many jobs one transaction writes: two items each, of at most 100.
_BATCH = 40
# How many jobs' steps one transaction writes: up to 128 KB each, of at most 4 MB.
_WORKS_BATCH = 25


@dataclass(frozen=True)
class Source:
    """What the first job found in the repository: the commit, and what `if` and `inputs` ask about it.

    `parameters` are the values of the pipeline's parameters for this run, `group` is the concurrency group of the run.
    """

    commit: str
    parameters: Mapping[str, Any] | None = None
    changed_paths: Sequence[str] | None = None
    trees: Mapping[str, str] | None = None
    group: Mapping[str, Any] | None = None


def run_expand(
    *, agent: Actor, job: Job, attempt: int, pipeline: Pipeline, nodes: Sequence[Any], source: Source
) -> Run:
    """Write the graph `nodes` of the pipeline file, which the first job's attempt has read, and all of its jobs.

    Returns the run. Repeating it changes nothing. Raises Unprocessable with code ``too_many_label_sets`` or
    ``definition_invalid``, Conflict with code ``stale_attempt`` when the attempt is not the agent's any more.
    """
    run = run_get(job.run_id)
    if run.jobs:
        return run
    part = RunGraph.find(run.run_id, f"{GRAPH}0001")
    if part is None:
        part = _graph_write(run, job, agent=agent, attempt=attempt, pipeline=pipeline, nodes=nodes, source=source)
        run = run_get(job.run_id)
    jobs = graph_unpack(part.packed)
    jobs_write(run, jobs, works=str(part.works))
    _complete(run, job, part, agent=agent, attempt=attempt, count=len(jobs))
    return run_get(job.run_id)


def _graph_write(
    run: Run,
    job: Job,
    *,
    agent: Actor,
    attempt: int,
    pipeline: Pipeline,
    nodes: Sequence[Any],
    source: Source,
) -> RunGraph:
    jobs = with_digests(
        ordered([GraphJob(node, new_id()) for node in nodes]),
        works={name: asdict(one) for name, one in pipeline.jobs.items()},
        facts={"env": run.env or {}, "parameters": dict(source.parameters or {})},
        trees=source.trees or {},
    )
    label_sets_open(run, jobs, actor=agent)
    works = str(attempt)
    works_write(run.run_id, works, pipeline, used={entry.job for entry in jobs})
    part = RunGraph(run.run_id, f"{GRAPH}0001", packed=graph_pack(jobs), reported_by=job.job_id, works=works)
    transaction = Transaction()
    transaction.check("job", job, attempt_fence(agent.id, attempt) & (Job.status == Status.RUNNING))
    transaction.put("graph", part)
    found = [Run.commit.set(source.commit)]
    found += [Run.parameters.set(dict(source.parameters))] if source.parameters else []
    found += [Run.changed_paths.set(list(source.changed_paths))] if source.changed_paths is not None else []
    found += [Run.trees.set(dict(source.trees))] if source.trees else []
    if source.group:
        found += [
            Run.group.set(group_key(str(run.pipeline), source.group["name"])),
            Run.group_limit.set(source.group["limit"]),
            Run.group_cancels.set(source.group["cancel_in_progress"]),
        ]
    transaction.update("run", Run(run.run_id, RUN), actions=found)
    try:
        transaction.commit()
    except TransactionFailed as failure:
        stored = failure.failed.get("graph")
        if "job" in failure.failed or not isinstance(stored, RunGraph):
            raise stale() from None
        return stored
    except ItemTooLarge:
        raise Unprocessable(
            "The graph of the pipeline's jobs is too large to store. Shorten the variables and conditions of its jobs.",
            code=ErrorCode.DEFINITION_INVALID,
        ) from None
    return part


def label_sets_open(run: Run, jobs: Iterable[GraphJob], *, actor: Actor) -> None:
    """Register the label sets of the jobs, within the limits of the pipeline. Raises Unprocessable."""
    wanted = {set_id(labels): labels for labels in (job_labels(run, job) for job in jobs)}
    try:
        for labels in wanted.values():
            set_open(labels=labels, pipeline=str(run.pipeline), actor=actor)
    except TooManyRequests as error:
        # Agents repeat a request that is refused with 429. This one is the file's fault.
        raise Unprocessable(error.message, code=error.code) from error


def works_write(run_id: str, works: str, pipeline: Pipeline, *, used: Iterable[str]) -> None:
    """Write what the jobs of the file do, once for all cells of a matrix."""
    key = work_key(run_id)
    for batch in batched(sorted(used), _WORKS_BATCH):
        transaction = Transaction()
        for name in batch:
            row = RunWork(key, f"{works}/{name}", packed=pack(asdict(pipeline.jobs[name])))
            transaction.put("work", row, RunWork.part.exists() | RunWork.part.does_not_exist())
        transaction.commit()


def jobs_write(run: Run, jobs: Sequence[GraphJob], *, works: str) -> None:
    """Write the records and the nodes of waiting jobs, as far as they are not there yet."""
    for _, of_day in groupby(jobs, lambda job: created_day(job.first_id)):
        for batch in batched(of_day, _BATCH):
            transaction = Transaction()
            for job in batch:
                transaction.put("job", job_record(run, job, job_id=job.first_id, works=works))
                transaction.put(
                    "node", RunNode(run.run_id, f"{NODE}{job.name}", job_id=job.first_id, state=Status.WAITING)
                )
            counter_add(transaction, status=Status.WAITING, moment=id_moment(batch[0].first_id), number=len(batch))
            # When it fails, an earlier report has written this batch, all of it.
            with suppress(TransactionFailed):
                transaction.commit()


def job_record(run: Run, job: GraphJob, *, job_id: str, works: str, retry_of: str | None = None) -> Job:
    """The record of a job of the graph, which waits."""
    # A deployment is never run again by itself.
    node: Any = job.node
    retries: Mapping[str, Any] = {} if node.environment else node.retries
    priority = node.priority if node.priority is not None else run.priority
    return Job(
        job_id=job_id,
        run_id=run.run_id,
        node=node.name,
        event=run.event,
        checks_key=run.checks_key,
        work=f"{works}/{node.job}",
        pipeline=run.pipeline,
        repository=run.repository,
        fetch_with=run.fetch_with,
        git_ref=run.git_ref,
        commit=run.commit,
        env=run.env,
        labels=job_labels(run, job),
        priority=DEFAULT_PRIORITY if priority is None else priority,
        timeout=node.timeout,
        retries=int(retries.get("max", 0)) if retries.get("lost", True) or retries.get("exit_codes") else 0,
        retry_codes=list(retries.get("exit_codes") or ()) or None,
        requested_by=run.requested_by,
        requested_by_id=run.requested_by_id,
        retry_of=retry_of,
        status=Status.WAITING,
        created_at=clock.timestamp(id_moment(job_id)),
        created_day=created_day(job_id),
        open=OPEN,
    )


def _complete(run: Run, job: Job, part: RunGraph, *, agent: Actor, attempt: int, count: int) -> None:
    """Note that the graph has all of its jobs, so that they may start. The first job is one of them now.

    A cancel request to it, which was meant for the whole run, becomes one to the run.
    """
    for is_cancelled in (False, True):
        if _complete_once(run, job, part, agent=agent, attempt=attempt, count=count, is_cancelled=is_cancelled):
            return
    # The same report arrived twice at the same time, or the agent has lost the attempt. The run shows which.
    if not run_get(run.run_id).jobs:
        raise stale()


def _complete_once(
    run: Run, job: Job, part: RunGraph, *, agent: Actor, attempt: int, count: int, is_cancelled: bool
) -> bool:
    """Whether this call completed the run, as it is if a cancel request has come to its first job or has not."""
    asked, now = Job.cancel_requested, clock.timestamp(clock.now())
    transaction = Transaction()
    transaction.update(
        "job",
        job,
        actions=[Job.node.set(FILE_NODE)],
        condition=attempt_fence(agent.id, attempt)
        & (Job.status == Status.RUNNING)
        & (Job.node == FIRST_NODE)
        & (asked.exists() if is_cancelled else asked.does_not_exist()),
    )
    transaction.put("node", RunNode(run.run_id, f"{NODE}{FILE_NODE}", job_id=job.job_id, state=Status.QUEUED))
    cancels = [Run.cancel_requested.set(True), Run.due.set(DUE), Run.due_at.set(now)] if is_cancelled else []
    transaction.update(
        "run",
        Run(run.run_id, RUN),
        actions=[Run.jobs.set(count + 1), Run.status.set(RunStatus.RUNNING), *cancels],
        condition=Run.jobs.does_not_exist(),
    )
    transaction.update("graph", part, actions=[RunGraph.complete.set(True)])
    audit_add(
        transaction,
        actor=agent,
        action=Action.RUN_EXPANDED,
        target=f"run:{run.run_id}",
        detail={"jobs": count, "commit": run.commit},
    )
    try:
        transaction.commit()
    except TransactionFailed:
        return False
    return True


def stale() -> Conflict:
    """The error for an attempt that is not the agent's any more."""
    return Conflict("This attempt of the job is not running. Stop it.", code=ErrorCode.STALE_ATTEMPT)
