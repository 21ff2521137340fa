"""Running jobs of a run again: each gets a new record in its place, and those that depend on it wait anew."""

from collections.abc import Sequence
from typing import Any

from apps.audit.actions import Action
from apps.audit.services import audit_add
from apps.jobs.models import DUE, FILE_NODE, OPEN_RUNS, RUN, IdempotencyKey, Job, Run, RunNode
from apps.jobs.run_graph import GraphJob
from apps.jobs.selectors.jobs import job_get
from apps.jobs.selectors.runs import RunView, node_jobs, run_view
from apps.jobs.services.advance import run_advance
from apps.jobs.services.check_changes import checks_changed_add
from apps.jobs.services.counters import counter_add
from apps.jobs.services.new_jobs import idempotency_add, job_made_with
from apps.jobs.services.run_expansion import job_record
from apps.jobs.services.run_nodes import node_row
from apps.jobs.states import FINAL, RunStatus, Status
from controlplane.lib import clock
from controlplane.lib.actor import Actor
from controlplane.lib.batches import batched
from controlplane.lib.error_codes import ErrorCode
from controlplane.lib.errors import Conflict
from controlplane.lib.ids import new_id
from controlplane.nosql.transaction import Transaction, TransactionFailed

# How many of its retries a job names.
_RETRIES_NAMED = 20
# How many jobs one transaction takes back: three items each, of at most 100.
_BATCH = 30

# Ends after which `run_retry` runs a job again unless it is asked for all.
_NOT_GOOD = frozenset({Status.FAILED, Status.TIMED_OUT, Status.CANCELLED})


def retry_note(transaction: Transaction, old: Job, new: Job) -> None:
    """Have the old job name its retry, unless another request has done so since it was read."""
    named = list(old.retried_by or ())
    unchanged = Job.retried_by[len(named) - 1] == named[-1] if named else Job.retried_by.does_not_exist()
    transaction.update(
        "origin",
        old,
        actions=[Job.retried_by.set([*named, new.job_id][-_RETRIES_NAMED:])],
        condition=Job.job_id.exists() & unchanged,
    )


def node_retry(old: Job, *, actor: Actor, idempotency: IdempotencyKey | None) -> Job:
    """Run an ended job of a graph again. Returns the new job, which waits or is queued.

    Raises Conflict with code ``job_state``, TransactionFailed when another request was faster.
    """
    view = run_view(old.run_id)
    if old.node == FILE_NODE or old.node not in view.nodes or not view.is_complete:
        raise Conflict(
            "This job has read the pipeline file of its run. Run its failed jobs again, or start another run.",
            code=ErrorCode.JOB_STATE,
        )
    again = next(job for job in view.jobs if job.name == old.node)
    transaction = Transaction()
    new = _take_back(transaction, view, again, old, actor)
    if idempotency:
        idempotency_add(transaction, idempotency, job_id=new.job_id)
    _reopen(transaction, view, actor=actor, count=1, target=f"job:{old.job_id}", action=Action.JOB_RETRIED)
    counter_add(transaction, status=Status.WAITING)
    try:
        transaction.commit()
    except TransactionFailed as failure:
        made = failure.failed.get("idempotency")
        if idempotency and isinstance(made, IdempotencyKey):
            return job_made_with(made, idempotency)
        raise
    followers = _followers(view, {old.node}) - {old.node}
    _take_back_all(view, [job for job in view.jobs if job.name in followers], actor)
    run_advance(run_id=old.run_id)
    return job_get(new.job_id)


def run_take_back(*, actor: Actor, view: RunView, everything: bool) -> int:
    """Run jobs of a graph again: those that failed or were cancelled, or all that have ended. Returns their number.

    Those that were skipped because of them wait anew. Raises Conflict with code ``run_nothing_to_retry``.
    """
    states = view.states
    ended = {name for name, state in states.items() if state in FINAL and name != FILE_NODE}
    first = ended if everything else {name for name in ended if states[name] in _NOT_GOOD}
    if not first:
        raise Conflict("No job of the run has failed or was cancelled.", code=ErrorCode.RUN_NOTHING_TO_RETRY)
    again = first | _followers(view, first)
    transaction = Transaction()
    _reopen(
        transaction, view, actor=actor, count=len(again), target=f"run:{view.run.run_id}", action=Action.RUN_RETRIED
    )
    _take_back_all(view, [job for job in view.jobs if job.name in again], actor, transaction)
    run_advance(run_id=view.run.run_id)
    return len(again)


def _followers(view: RunView, names: set[str]) -> set[str]:
    """The jobs that were skipped and that need one of these, directly or through others."""
    found = set(names)
    for job in view.jobs:
        if view.states[job.name] in (Status.SKIPPED, Status.CANCELLED) and any(name in found for name, _ in job.needs):
            found.add(job.name)
    return found


def _take_back_all(view: RunView, jobs: Sequence[GraphJob], actor: Actor, first: Transaction | None = None) -> None:
    """Give the jobs new records that wait, as far as they have not got them from another request meanwhile.

    The transaction `first` takes the first of them with what it has already. Raises Conflict with code
    ``job_just_retried`` when that fails: another request is at it.
    """
    records = node_jobs(view, names=[job.name for job in jobs])
    for batch in batched(jobs, _BATCH):
        transaction = first or Transaction()
        for job in batch:
            _take_back(transaction, view, job, records[job.name], actor)
        counter_add(transaction, status=Status.WAITING, number=len(batch))
        try:
            transaction.commit()
        except TransactionFailed as failure:
            if first is not None:
                raise Conflict(
                    "Another request runs jobs of this run again at this moment.", code=ErrorCode.JOB_JUST_RETRIED
                ) from failure
            for job in batch if len(batch) > 1 else ():
                _take_back_all(view, [job], actor)
        first = None


def _take_back(transaction: Transaction, view: RunView, job: GraphJob, old: Job, actor: Actor) -> Job:
    new = job_record(view.run, job, job_id=new_id(), works=str(old.work).partition("/")[0], retry_of=old.job_id)
    new.requested_by_id = actor.requester_id
    retry_note(transaction, old, new)
    transaction.put("job", new)
    # Jobs that it has let go before may still read its outputs.
    marks: list[Any] = [RunNode.reason, RunNode.group, RunNode.group_since, RunNode.due, RunNode.due_at]
    # It is another deployment, which needs approvals of its own.
    marks += [RunNode.environment, RunNode.attempt]
    transaction.update(
        "node",
        node_row(new),
        actions=[RunNode.state.set(Status.WAITING), RunNode.job_id.set(new.job_id), *(mark.remove() for mark in marks)],
        condition=(RunNode.job_id == old.job_id) & RunNode.state.is_in(*FINAL),
    )
    return new


def _reopen(transaction: Transaction, view: RunView, *, actor: Actor, count: int, target: str, action: Action) -> None:
    """The run goes on. Its mark has the sweep advance it, in case this request is interrupted."""
    transaction.update(
        "run",
        Run(view.run.run_id, RUN),
        actions=[
            Run.status.set(RunStatus.RUNNING),
            Run.open.set(OPEN_RUNS),
            Run.completed_at.remove(),
            Run.cancel_requested.remove(),
            Run.revision.add(1),
            Run.due.set(DUE),
            Run.due_at.set(clock.timestamp(clock.now())),
        ],
        condition=Run.jobs.exists(),
    )
    if view.run.checks_key:
        checks_changed_add(transaction, key=view.run.checks_key, run_id=str(view.run.run_id))
    audit_add(transaction, actor=actor, action=action, target=target, detail={"run_id": view.run.run_id, "jobs": count})
