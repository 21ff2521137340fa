"""Ends of attempts that no agent has run to the end: the job is queued again, or ends.

An attempt may be released, expire, fail with its machine, be passed on, or be ended by the control plane.
"""

import logging
from collections.abc import Collection, Mapping, Sequence
from datetime import timedelta
from typing import Any

from apps.agents.services import PLAIN_END, End, LeaseEnd, lease_remove
from apps.audit.actions import Action
from apps.jobs.models import Job
from apps.jobs.policies import attempt_require, is_attempt_of, is_lost_attempt_of
from apps.jobs.services.limits import steps_ended
from apps.jobs.services.queue import entry_of, set_open, set_register
from apps.jobs.services.run_following import run_follow
from apps.jobs.services.steps import steps_of
from apps.jobs.services.transitions import Move, move_commit
from apps.jobs.states import (
    FINAL,
    LEASED,
    REASON_MOVED,
    REASON_NOT_STARTED,
    REASON_REPEATED,
    Status,
    StepState,
    reason_fault,
    status_after_loss,
)
from controlplane.lib import clock
from controlplane.lib.actor import SYSTEM, Actor
from controlplane.lib.error_codes import ErrorCode
from controlplane.lib.errors import Conflict, TooManyRequests, Unprocessable
from controlplane.nosql.transaction import Transaction, TransactionFailed

logger = logging.getLogger(__name__)

# After so many failures of machines the job fails, since it may be the cause.
MOST_FAULTS = 5
# How much of each reason the job keeps.
_REASON_KEPT = 200

# For how long an agent does not get a job again that has just failed to run on it. Then it may: it may be the only one.
AVOID_FOR = timedelta(minutes=2)

# How often the end of an attempt is tried when the job changes meanwhile.
_TRIES = 3


def attempt_release(*, agent_id: str, job_id: str, attempt: int) -> bool:
    """Release an attempt that its agent did not acknowledge. False when the agent has lost it already.

    Other agents get the job first. After three releases in a row the agent gets no work for a while.
    """
    job = Job.find(job_id)
    if job is None or not _is_leased(job, agent_id=agent_id, attempt=attempt):
        _lease_discard(job, agent_id=agent_id, job_id=job_id, attempt=attempt)
        return False
    if job.status != Status.ASSIGNED:
        return False
    return _requeue(
        job,
        actor=SYSTEM,
        reason=REASON_NOT_STARTED,
        lease_end=LeaseEnd(End.IGNORED),
        avoid=[agent_id],
    )


def attempt_expire(*, agent_id: str, job_id: str, attempt: int, heartbeat_at: str | None, reason: str) -> bool:
    """Expire an attempt that its agent has lost. The job is queued again, or ends after its last retry.

    Until the next attempt begins, a late report of the agent still ends the job.

    With `heartbeat_at`, only if the agent has sent no heartbeat since then. False when nothing was changed.
    """
    job = Job.find(job_id)
    if job is None or not _is_leased(job, agent_id=agent_id, attempt=attempt):
        _lease_discard(job, agent_id=agent_id, job_id=job_id, attempt=attempt)
        return False
    lost = int(job.lost_attempts) + 1
    after = status_after_loss(lost_attempts=lost, retries=int(job.retries), cancel_requested=bool(job.cancel_requested))
    changes = [Job.lost_attempts.set(lost)]
    if job.status == Status.RUNNING and after != Status.CANCELLED:
        changes.append(Job.lost_agent_id.set(agent_id))
        changes.append(Job.lost_started_at.set(job.started_at))
    lease_end = LeaseEnd(heartbeat_at=heartbeat_at)
    if after == Status.QUEUED:
        return _requeue(job, actor=SYSTEM, reason=reason, changes=changes, lease_end=lease_end)
    return _end(job, after, message=_lost(job, reason), reason=reason, changes=changes, lease_end=lease_end)


def _is_leased(job: Job | None, *, agent_id: str, attempt: int) -> bool:
    return job is not None and is_attempt_of(job, agent_id=agent_id, attempt=attempt) and job.status in LEASED


def _lease_discard(job: Job | None, *, agent_id: str, job_id: str, attempt: int) -> None:
    """Remove a lease that its job contradicts, as after a restore: it would take a slot of the agent for ever."""
    unchanged = Job.job_id.does_not_exist()
    if job is not None:
        unchanged = (Job.status == job.status) & (Job.attempt == job.attempt)
    transaction = Transaction()
    transaction.check("job", Job(job_id=job_id), unchanged)
    lease_remove(transaction, agent_id=agent_id, job_id=job_id, attempt=attempt)
    try:
        transaction.commit()
    except TransactionFailed:
        # The attempt has just ended, and its lease with it.
        return
    logger.warning(
        "a lease contradicted its job and was removed",
        extra={"job_id": job_id, "agent_id": agent_id, "attempt": attempt},
    )


def attempt_keep(*, agent: Actor, job_id: str, attempt: int) -> bool:
    """Whether the agent, which says that it runs this attempt without a lease, shall go on with it.

    It shall as long as it has only lost the attempt and no newer one has begun. If the job waits, the attempt runs
    again with a new lease; if it has failed with the loss, the agent's report at the end still counts. A deployment is
    to stop once another one to its environment has begun.
    """
    job = Job.find(job_id)
    if job is None or not is_lost_attempt_of(job, agent_id=agent.id, attempt=attempt):
        return False
    if job.environment:
        # Few jobs deploy, and no cold start shall load what these need.
        from apps.jobs.selectors.deployments import deployment_is_last

        if not deployment_is_last(str(job.job_id)):
            return False
    if job.status != Status.QUEUED:
        return True
    move = Move(
        job=job,
        before=Status.QUEUED,
        after=Status.RUNNING,
        attempt=attempt,
        actor=agent,
        action=Action.JOB_RESUMED,
        agent_id=agent.id,
        entry=entry_of(job, attempt=attempt + 1),
        is_late=True,
        detail={"attempt": attempt},
    )
    try:
        move_commit(move)
    except TransactionFailed:
        return False
    return True


def attempt_fault(*, agent: Actor, job_id: str, attempt: int, reason: str, steps: Sequence[Mapping[str, Any]]) -> bool:
    """End an attempt that failed because of its agent's machine, as the agent reports. Other agents get the job first.

    It counts as a lost attempt only if a step had started. After `MOST_FAULTS` such attempts the job fails, and names
    the machines and their reasons. Returns True the first time, False for a repeated report and for an attempt that was
    lost meanwhile. Raises NotFound, or Conflict with code ``stale_attempt``.
    """
    for _ in range(_TRIES):
        job = Job.find(job_id)
        if job is not None and _has_ended(job, agent_id=agent.id, attempt=attempt):
            return False
        if _fault(attempt_require(job, agent_id=agent.id, attempt=attempt), agent=agent, reason=reason, steps=steps):
            return True
    raise Conflict("The attempt keeps changing. Try again.", code=ErrorCode.JOB_STATE)


def _has_ended(job: Job, *, agent_id: str, attempt: int) -> bool:
    """Whether the agent's attempt has ended already, and no other has begun."""
    if is_lost_attempt_of(job, agent_id=agent_id, attempt=attempt):
        return True
    if job.status in FINAL and is_attempt_of(job, agent_id=agent_id, attempt=attempt):
        return True
    reported = [(fault["agent_id"], fault["attempt"]) for fault in job.faults or []]
    return job.attempt == attempt and (agent_id, attempt) in reported


def _fault(job: Job, *, agent: Actor, reason: str, steps: Sequence[Mapping[str, Any]]) -> bool:
    now = clock.timestamp(clock.now())
    fault = {"agent_id": agent.id, "agent": agent.name, "attempt": int(job.attempt), "reason": reason, "at": now}
    faults = [*(job.faults or []), {**fault, "reason": reason[:_REASON_KEPT]}]
    began = any(step["state"] not in (StepState.PENDING, StepState.SKIPPED) for step in steps)
    lost = int(job.lost_attempts) + began
    changes = [Job.faults.set(faults), Job.lost_attempts.set(lost)]
    end, cause = LeaseEnd(End.FAULT, reason=reason), reason_fault(agent.name, reason)
    if job.cancel_requested:
        return _end(job, Status.CANCELLED, message=_lost(job, cause), reason=cause, changes=changes, lease_end=end)
    if lost > int(job.retries):
        return _end(job, Status.FAILED, message=_lost(job, cause), reason=cause, changes=changes, lease_end=end)
    if len(faults) >= MOST_FAULTS:
        message = f"{len(faults)} attempts failed because of their machines. " + "; ".join(
            f"{fault['agent']}: {fault['reason']}" for fault in faults
        )
        return _end(job, Status.FAILED, message=message, reason=cause, changes=changes, lease_end=end)
    avoid = {fault["agent_id"] for fault in faults if clock.now() - clock.parse_timestamp(fault["at"]) < AVOID_FOR}
    return _requeue(job, actor=agent, reason=cause, changes=changes, lease_end=end, avoid=avoid)


def attempt_pass_on(*, job: Job, actor: Actor, labels: list[str], lacking: Collection[str]) -> bool:
    """Queue a running job again for an agent with these labels. With a cancel request, the job ends instead.

    `lacking` are those of them that the agent lacks. False when the attempt has changed meanwhile. Raises Unprocessable
    with code ``too_many_label_sets``.
    """
    reason = f"{REASON_MOVED}{', '.join(sorted(lacking))}"
    if job.cancel_requested:
        return _end(job, Status.CANCELLED, message=_lost(job, reason), reason=reason)
    try:
        set_open(labels=labels, pipeline=job.pipeline, actor=actor)
    except TooManyRequests as error:
        # Agents repeat a request that is refused with 429. This one is their job's fault.
        raise Unprocessable(error.message, code=error.code) from error
    changes = [Job.file_labels.set(job.file_labels_of(labels))]
    return _requeue(job, actor=actor, reason=reason, labels=labels, changes=changes)


def start_fail(*, job: Job, message: str) -> bool:
    """Fail a job whose attempt cannot start, since its definition cannot be filled in."""
    return _end(job, Status.FAILED, message=message, reason=message)


def attempt_repeat(*, job: Job, actor: Actor, exit_code: int) -> bool:
    """Queue a running job again that has ended with an exit code after which its file asks for that.

    It counts as a lost attempt. False when no retry is left, or when the attempt has changed meanwhile.
    """
    lost = int(job.lost_attempts) + 1
    if job.cancel_requested or lost > int(job.retries):
        return False
    reason = f"{REASON_REPEATED}{exit_code}"
    lease_end = LeaseEnd(End.RAN)
    return _requeue(job, actor=actor, reason=reason, changes=[Job.lost_attempts.set(lost)], lease_end=lease_end)


def attempt_end(
    *, agent_id: str, job_id: str, attempt: int, after: Status, message: str, steps: Sequence[Mapping[str, Any]] | None
) -> bool:
    """End a running attempt whose agent neither ends it in time nor obeys a cancel request.

    `after` is timed_out or cancelled, `steps` is the agent's last report. False when nothing was changed.
    """
    job = Job.find(job_id)
    if job is None or not is_attempt_of(job, agent_id=agent_id, attempt=attempt) or job.status != Status.RUNNING:
        return False
    changes = [Job.steps.set(steps_ended(steps, end=after))] if steps else []
    return _end(job, after, message=message, reason=message, changes=changes)


def _lost(job: Job, reason: str) -> str:
    return f"Attempt {int(job.attempt)} was lost: {reason.removesuffix('.')}."


def _requeue(
    job: Job,
    *,
    actor: Actor,
    reason: str,
    labels: list[str] | None = None,
    changes: Sequence[Any] = (),
    lease_end: LeaseEnd = PLAIN_END,
    avoid: Collection[str] = (),
) -> bool:
    """Put the job of a leased attempt back into the queue. False when the attempt has changed meanwhile.

    A cancel request counts as a change: no queued job has one. The agents in `avoid` do not get the job for a while.
    """
    attempt, agent_id = int(job.attempt), str(job.agent_id)
    if labels is not None:
        job.labels = labels
    set_register(labels=job.labels)
    entry = entry_of(job, attempt=attempt + 1, since=clock.timestamp(clock.now()))
    if avoid:
        entry.avoid, entry.avoid_until = sorted(avoid), clock.timestamp(clock.now() + AVOID_FOR)
    move = Move(
        job=job,
        before=Status(job.status),
        after=Status.QUEUED,
        attempt=attempt,
        actor=actor,
        action=Action.JOB_REQUEUED,
        agent_id=agent_id,
        entry=entry,
        changes=[
            Job.labels.set(job.labels),
            *changes,
            *([Job.steps.set(steps_of({"steps": job.steps}))] if job.steps else []),
        ],
        lease_end=lease_end,
        detail={"attempt": attempt, "reason": reason, "agent_id": agent_id},
    )
    return _moved(move, reason)


def _end(
    job: Job,
    after: Status,
    *,
    message: str,
    reason: str,
    changes: Sequence[Any] = (),
    lease_end: LeaseEnd = PLAIN_END,
) -> bool:
    """End the job with an attempt that its agent has not ended. `message` is for users, `reason` for the trail."""
    attempt, agent_id = int(job.attempt), str(job.agent_id)
    move = Move(
        job=job,
        before=Status(job.status),
        after=after,
        attempt=attempt,
        actor=SYSTEM,
        action=Action.JOB_FINISHED,
        agent_id=agent_id,
        changes=[Job.error_message.set(message), *changes],
        lease_end=lease_end,
        cancel_requested=bool(job.cancel_requested),
        detail={"attempt": attempt, "reason": reason, "agent_id": agent_id},
    )
    return _moved(move, reason)


def _moved(move: Move, reason: str) -> bool:
    """Make the move and log it. False when the job has changed meanwhile."""
    try:
        move_commit(move)
    except TransactionFailed:
        return False
    subject = {"job_id": move.job.job_id, "agent_id": move.agent_id, "attempt": move.attempt}
    if move.after in FINAL:
        run_follow(move.job)
    outcome = "the job is queued again" if move.after == Status.QUEUED else f"the job has ended as {move.after}"
    logger.warning("attempt lost: %s; %s", reason, outcome, extra=subject)
    return True
