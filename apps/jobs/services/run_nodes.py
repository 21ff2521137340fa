"""What a job's move changes of its run and of its concurrency group, in the job's own transaction."""

import hashlib
from collections.abc import Mapping

from apps.jobs.models import DUE, FIRST_NODE, NODE, RUN, Job, Run, RunNode
from apps.jobs.services.groups import line_leave, slot_return
from apps.jobs.states import FINAL, RunStatus, Status, run_status_of
from controlplane.lib import clock
from controlplane.nosql.transaction import Transaction


def node_queue(transaction: Transaction, job: Job) -> None:
    """The waiting job is queued now. The transaction fails with the label "node" if it does not wait any more."""
    if job.node == FIRST_NODE:
        # It waited for its paused pipeline, and has no row beside its run's.
        return
    still_waits = (RunNode.state == Status.WAITING) & (RunNode.job_id == job.job_id)
    transaction.update("node", node_row(job), actions=[RunNode.state.set(Status.QUEUED)], condition=still_waits)


def node_wait(transaction: Transaction, job: Job) -> None:
    """The job waits in the line of its concurrency group. The transaction fails if it does not wait any more."""
    group, since = job.group, job.group_since
    transaction.update(
        "node",
        node_row(job),
        actions=[RunNode.group.set(group), RunNode.group_since.set(since)],
        condition=(RunNode.state == Status.WAITING) & (RunNode.job_id == job.job_id),
    )
    transaction.update(
        "job",
        job,
        actions=[Job.group.set(group), Job.group_since.set(since)],
        condition=Job.status == Status.WAITING,
    )


def node_leave(transaction: Transaction, job: Job) -> None:
    """The job leaves the line of its concurrency group, and waits on. The transaction fails if it is not there."""
    node_there = (RunNode.state == Status.WAITING) & (RunNode.group_since == job.group_since)
    gone = [RunNode.group.remove(), RunNode.group_since.remove()]
    transaction.update("node", node_row(job), actions=gone, condition=node_there)
    job_there = (Job.status == Status.WAITING) & (Job.group_since == job.group_since)
    transaction.update("job", job, actions=[Job.group.remove(), Job.group_since.remove()], condition=job_there)


def node_mark(transaction: Transaction, *, run_id: str, node: str) -> None:
    """The run is to be advanced, for something outside of it has changed for this job. The sweep does it if need be."""
    marks = [RunNode.due.set(DUE), RunNode.due_at.set(clock.timestamp(clock.now()))]
    transaction.update("mark", RunNode(run_id, f"{NODE}{node}"), actions=marks)


def node_end(
    transaction: Transaction,
    job: Job,
    *,
    before: Status,
    after: Status,
    outputs: Mapping[str, str] | None = None,
    commit: str | None = None,
    reason: str | None = None,
    is_advance: bool = False,
) -> None:
    """The job has ended: its run is to be advanced, unless the advance itself has ended it.

    The run of an only job has ended with it, and has its commit: the record's, or the one that is reported with
    the end. The job gives the slot of its concurrency group back. A job that has been run again since is no part of
    its run any more.
    """
    if job.group and before == Status.WAITING and job.group_since:
        line_leave(transaction, job)
    elif job.group and before not in FINAL | {Status.WAITING}:
        slot_return(transaction, job)
    if not job.node or job.retried_by:
        return
    now = clock.timestamp(clock.now())
    if job.node == FIRST_NODE:
        ended = [Run.status.set(run_status_of(after)), Run.completed_at.set(now), Run.open.remove()]
        commit = job.commit or commit
        ended += [Run.commit.set(commit)] if commit else []
        transaction.update("run", Run(job.run_id, RUN), actions=ended)
        if job.announced:
            run_end_add(transaction, job, result=run_status_of(after), ended_at=now)
        return
    marks = [RunNode.state.set(after)]
    if not is_advance:
        marks += [RunNode.due.set(DUE), RunNode.due_at.set(now)]
    if outputs:
        marks.append(RunNode.outputs.set(dict(outputs)))
    elif after == Status.COMPLETED:
        # Those of an end before a retry.
        marks.append(RunNode.outputs.remove())
    marks += [RunNode.reason.set(reason)] if reason else []
    transaction.update("node", node_row(job), actions=marks)


def run_end_add(transaction: Transaction, run: Run | Job, *, result: RunStatus, ended_at: str) -> None:
    """Add to the end of a run, or of the only job of one, that it is to be announced."""
    # Few runs need it.
    from apps.notifications.services import outbox_add
    from apps.notifications.states import Topic

    ref = hashlib.sha256(str(run.git_ref).encode()).hexdigest()[:16]
    fact = {
        "run_id": run.run_id,
        "pipeline": run.pipeline,
        "git_ref": run.git_ref,
        "result": result,
        "ended_at": ended_at,
    }
    # The ends of runs of one branch are announced in their order.
    outbox_add(transaction, topic=Topic.RUN, key=f"run:{run.pipeline}:{ref}", fact=fact)


def node_row(job: Job) -> RunNode:
    """The key of the job's row in its run."""
    return RunNode(job.run_id, f"{NODE}{job.node}")
