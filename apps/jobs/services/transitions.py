"""The one way for a job to move from one status to another.

`apps.jobs.states` defines the allowed moves. This module adds to one transaction all that a move changes besides the
job: its row in the run, the queue entry, the lease, the counters and the audit trail; and it counts the move in the
metrics. A feature that must act when a job may start or has ended adds its part to `_job_may_start` or `_job_ended`;
all such moves call them.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from apps.agents.services import (
    PLAIN_END,
    LeaseEnd,
    lease_add,
    lease_remove,
    lease_request_cancel,
    lease_restore,
    lease_start,
)
from apps.agents.states import MAX_SLOTS
from apps.audit.actions import Action
from apps.audit.services import audit_add
from apps.jobs.models import FIRST_NODE, OPEN, Job, QueueEntry
from apps.jobs.models.job import created_day
from apps.jobs.services.counters import counter_add, counter_replace
from apps.jobs.services.limits import time_limit
from apps.jobs.services.queue import entry_announce
from apps.jobs.services.run_nodes import node_end, node_queue
from apps.jobs.states import FINAL, LEASED, Status, late_transition_require, transition_require
from controlplane.lib import clock, metric_names
from controlplane.lib.actor import Actor
from controlplane.lib.frozen import frozen
from controlplane.lib.ids import id_moment
from controlplane.lib.work import measure
from controlplane.nosql.connection import CONFLICT_ATTEMPTS
from controlplane.nosql.transaction import Transaction


@frozen
class Move:
    """A job's move to another status.

    `job` is the whole record when it is new (`before` is None), and when it is a deployment. Else its key is enough,
    with its place in its run (`run_id`, `node`, `group`, `checks_key`) where the move ends it: the transaction fails if
    the record has another, or is that of a deployment. `attempt` is the number of the attempt that the job is at before
    the move. `agent_id` names the agent that has the lease or gets it; it is empty if there is none.

    `entry` is the queue entry that the move adds or deletes. `changes` are further updates of the job. `lease_end` says
    how a lease ends, `slots` how many leases the agent may have with a new one. A cancel request that arrives in
    between may decide how an attempt ends, so `cancel_requested` says whether the caller has seen one.

    `action` is None for moves that follow from others, which have their audit events: a job that its run queues or
    skips. `counted` is False where the caller counts several moves of one transaction together. `outputs` are what an
    ended job hands on to those that need it, and `reason` is why it has ended without an attempt. `rejection` is that
    of the deployment which the job is, if it ends for that.

    `commit` is what the attempt checked out, as its agent reports it with the end. It becomes that of the run if the
    job is the only one and did not know its commit before.

    `is_late` marks a move that a report of a lost attempt brings: the agent has no lease any more, and `job` is the
    whole record.
    """

    job: Job
    before: Status | None
    after: Status
    attempt: int
    actor: Actor
    action: Action | None
    agent_id: str = ""
    entry: QueueEntry | None = None
    changes: Sequence[Any] = ()
    lease_end: LeaseEnd = PLAIN_END
    slots: int = MAX_SLOTS
    cancel_requested: bool = False
    is_late: bool = False
    detail: Mapping[str, str | int | None] | None = None
    outputs: Mapping[str, str] | None = None
    commit: str | None = None
    reason: str | None = None
    rejection: Mapping[str, Any] | None = None
    counted: bool = True


def move_commit(move: Move, *, transaction: Transaction | None = None, attempts: int = CONFLICT_ATTEMPTS) -> None:
    """Commit the move, together with the operations already in `transaction`, and count it in the metrics.

    It makes up to `attempts` attempts while it conflicts with other writers. Raises what `move_add` and
    `Transaction.commit` raise: TransactionFailed when the job, its queue entry or the lease has changed meanwhile.
    """
    transaction = transaction or Transaction()
    move_add(transaction, move)
    transaction.commit(attempts=attempts)
    if move.after in metric_names.JOBS_ENDED:
        measure(metric_names.JOBS_ENDED[move.after], 1)
    if move.after == Status.QUEUED and move.entry:
        entry_announce(labels=move.job.labels, position=move.entry.position)


def move_add(transaction: Transaction, move: Move) -> None:
    """Add all changes of the move, under the labels "job", "run" or "node", "entry", "heartbeat", "counter"
    and "audit".

    Raises Conflict with code ``job_finished`` or ``job_state`` for a move that `apps.jobs.states` does not allow.
    """
    if move.before is None:
        transaction.put("job", move.job)
        counter_add(transaction, status=move.after, moment=id_moment(move.job.job_id))
    else:
        (late_transition_require if move.is_late else transition_require)(move.before, move.after)
        transaction.update(
            "job", move.job, actions=[*_status_changes(move), *move.changes], condition=_fence_of(move, move.before)
        )
        _lease_follow(transaction, move, move.before)
    if move.before == Status.QUEUED and move.entry:
        # A claim requires the entry that it comes from. An end deletes any entry, and also needs none.
        is_this, is_any = QueueEntry.attempt == move.entry.attempt, QueueEntry.attempt.exists()
        is_any |= QueueEntry.attempt.does_not_exist()
        transaction.delete("entry", move.entry, is_this if move.after == Status.ASSIGNED else is_any)
    if move.after == Status.QUEUED:
        _job_may_start(transaction, move)
    if move.after in FINAL:
        _job_ended(transaction, move)
    if move.job.checks_key and move.after != Status.ASSIGNED:
        _checks_follow(transaction, move.job)
    if move.action is not None:
        _audit(transaction, move, move.action)


def _checks_follow(transaction: Transaction, job: Job) -> None:
    # Few runs have checks, and no cold start shall load what others do not need.
    from apps.jobs.services.check_changes import checks_changed_add

    checks_changed_add(transaction, key=str(job.checks_key), run_id=str(job.run_id))


def _audit(transaction: Transaction, move: Move, action: Action) -> None:
    audit_add(
        transaction,
        actor=move.actor,
        action=action,
        target=f"job:{move.job.job_id}",
        result=move.after if action in (Action.JOB_FINISHED, Action.JOB_OUTCOME_REPLACED) else "ok",
        detail=move.detail,
    )


def cancel_request_commit(*, job: Job, actor: Actor) -> None:
    """Ask the agent that runs the job to cancel it. The job keeps its status until the agent has cancelled it.

    Raises TransactionFailed when the job is no longer running, or another request was faster.
    """
    agent_id, attempt = str(job.agent_id), int(job.attempt)
    transaction = Transaction()
    transaction.update(
        "job",
        job,
        actions=[Job.cancel_requested.set(True)],
        condition=attempt_fence(agent_id, attempt)
        & (Job.status == Status.RUNNING)
        & Job.cancel_requested.does_not_exist()
        # That of the only job of a run is for the run, which may get more jobs at the same moment.
        & (Job.node == job.node if job.node else Job.node.does_not_exist()),
    )
    lease_request_cancel(transaction, agent_id=agent_id, job_id=job.job_id, attempt=attempt)
    audit_add(transaction, actor=actor, action=Action.JOB_CANCEL_REQUESTED, target=f"job:{job.job_id}")
    transaction.commit()


def attempt_fence(agent_id: str, attempt: int) -> Any:
    """The condition for writes of an agent: the job's current attempt is this one, and the agent has it."""
    return (Job.agent_id == agent_id) & (Job.attempt == attempt)


def _fence_of(move: Move, before: Status) -> Any:
    unchanged = (Job.status == before) & (Job.attempt == move.attempt)
    if before in LEASED:
        unchanged &= Job.agent_id == move.agent_id
    if move.is_late:
        unchanged &= Job.lost_agent_id == move.agent_id
        # A job that was run again is no part of its run any more.
        unchanged &= Job.retried_by.exists() if move.job.retried_by else Job.retried_by.does_not_exist()
    if move.after in FINAL:
        unchanged &= _place_of(move.job)
    if before in LEASED and move.after not in LEASED:
        asked = Job.cancel_requested
        unchanged &= asked == True if move.cancel_requested else asked.does_not_exist()  # noqa: E712 — a condition
    return unchanged


def _place_of(job: Job) -> Any:
    """The condition that the job has this place in its run, by which the move changes the run's row and its checks.

    Also that the end of its run is announced, or is not: the end of an only job must know.
    """
    if not job.node:
        return Job.node.does_not_exist()
    place = (Job.node == job.node) & (Job.run_id == job.run_id)
    place &= Job.environment == job.environment if job.environment else Job.environment.does_not_exist()
    place &= Job.checks_key == job.checks_key if job.checks_key else Job.checks_key.does_not_exist()
    if job.node == FIRST_NODE:
        place &= Job.announced.exists() if job.announced else Job.announced.does_not_exist()
    return place & (Job.group == job.group if job.group else Job.group.does_not_exist())


def _status_changes(move: Move) -> list[Any]:
    now = clock.timestamp(clock.now())
    changes = [Job.status.set(move.after)]
    if move.after == Status.ASSIGNED:
        changes += [Job.attempt.set(move.attempt + 1), Job.agent_id.set(move.agent_id), Job.assigned_at.set(now)]
        changes += _lost_marks_remove()
    elif move.after == Status.RUNNING and not move.is_late:
        changes += [
            Job.started_at.set(now),
            Job.started_by.set(move.agent_id),
            Job.agent_name.set(move.actor.name),
        ]
    elif move.after in (Status.QUEUED, Status.WAITING):
        marks = (Job.agent_id, Job.assigned_at, Job.started_at, Job.started_by, Job.agent_name)
        changes += [mark.remove() for mark in marks]
    elif move.after in FINAL:
        changes += [Job.outcome.set(f"{move.after}#{created_day(move.job.job_id)}"), Job.completed_at.set(now)]
    return [*changes, *(_late_changes(move) if move.is_late else [])]


def _lost_marks_remove() -> list[Any]:
    return [Job.lost_agent_id.remove(), Job.lost_started_at.remove()]


def _late_changes(move: Move) -> list[Any]:
    """The attempt was not lost after all: it counts as the agent's again, and its log is not archived yet."""
    return [
        Job.lost_attempts.add(-1),
        Job.agent_id.set(move.agent_id),
        Job.agent_name.set(move.actor.name),
        Job.started_by.set(move.agent_id),
        Job.started_at.set(move.job.lost_started_at),
        Job.open.set(OPEN),
        Job.log_stored.remove(),
        *_lost_marks_remove(),
    ]


def _lease_follow(transaction: Transaction, move: Move, before: Status) -> None:
    """Add, start or remove the agent's lease, as the move requires."""
    agent_id, job_id = move.agent_id, move.job.job_id
    if move.after == Status.ASSIGNED:
        at = clock.timestamp(clock.now())
        lease_add(transaction, agent_id=agent_id, job_id=job_id, attempt=move.attempt + 1, at=at, slots=move.slots)
    elif move.after == Status.RUNNING and move.is_late:
        lease_restore(
            transaction,
            agent_id=agent_id,
            job_id=job_id,
            attempt=move.attempt,
            at=move.job.lost_started_at,
            limit=time_limit(move.job.timeout),
        )
    elif move.after == Status.RUNNING:
        limit = time_limit(move.job.timeout)
        lease_start(transaction, agent_id=agent_id, job_id=job_id, attempt=move.attempt, limit=limit)
    elif before in LEASED:
        lease_remove(transaction, agent_id=agent_id, job_id=job_id, attempt=move.attempt, end=move.lease_end)


def _job_may_start(transaction: Transaction, move: Move) -> None:
    """The job waits for an agent from now on: add its entry to the queue."""
    if move.before == Status.WAITING:
        node_queue(transaction, move.job)
    if move.entry is not None:
        # An entry of an earlier attempt is left over, since the job was not in the queue.
        is_older = QueueEntry.attempt.does_not_exist() | (QueueEntry.attempt <= move.entry.attempt)
        transaction.put("entry", move.entry, is_older)


def _job_ended(transaction: Transaction, move: Move) -> None:
    """The job has ended: note it in its run, and count it for the day, in place of the end that this one replaces."""
    if move.before is not None:
        node_end(
            transaction,
            move.job,
            before=move.before,
            after=move.after,
            outputs=move.outputs,
            commit=move.commit,
            reason=move.reason,
            is_advance=move.action is None,
        )
        if move.job.environment:
            # Few jobs deploy, and no cold start shall load what these need.
            from apps.jobs.services.deployment_ends import deployment_end_add

            deployment_end_add(
                transaction,
                move.job,
                before=move.before,
                after=move.after,
                actor=move.actor,
                reason=move.reason,
                rejection=move.rejection,
            )
    if not move.counted:
        return
    if move.before in FINAL:
        ended_at = clock.parse_timestamp(move.job.completed_at)
        counter_replace(transaction, before=move.before, ended_at=ended_at, after=move.after)
    else:
        counter_add(transaction, status=move.after)
