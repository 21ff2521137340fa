"""Releasing and expiring attempts: the job is queued again, or ends."""

import logging

from apps.audit.actions import Action
from apps.jobs.models import Job
from apps.jobs.policies import is_attempt_of
from apps.jobs.services.queue import entry_of, set_open, set_register
from apps.jobs.services.steps import steps_of
from apps.jobs.services.transitions import Move, move_commit
from apps.jobs.states import LEASED, Status, status_after_loss
from controlplane.lib import clock
from controlplane.lib.actor import SYSTEM, Actor
from controlplane.lib.errors import TooManyRequests, Unprocessable
from controlplane.nosql.transaction import TransactionFailed

logger = logging.getLogger(__name__)


def attempt_release(*, agent_id: str, job_id: str, attempt: int) -> bool:
    """Release an attempt that its agent did not acknowledge. False when the agent has lost it already."""
    job = Job.find(job_id)
    if job is None or not is_attempt_of(job, agent_id=agent_id, attempt=attempt) or job.status != Status.ASSIGNED:
        return False
    return _requeue(job, actor=SYSTEM, reason="the agent did not acknowledge it")


def attempt_expire(*, agent_id: str, job_id: str, attempt: int, heartbeat_at: str | None, reason: str) -> bool:
    """Expire an attempt that its agent has lost. The job is queued again, or ends after its last retry.

    With `heartbeat_at`, only if the agent has sent no heartbeat since then. False when nothing was changed.
    """
    job = Job.find(job_id)
    if job is None or not is_attempt_of(job, agent_id=agent_id, attempt=attempt) or job.status not in LEASED:
        return False
    lost = int(job.lost_attempts) + 1
    after = status_after_loss(lost_attempts=lost, retries=int(job.retries), cancel_requested=bool(job.cancel_requested))
    if after == Status.QUEUED:
        return _requeue(job, actor=SYSTEM, reason=reason, lost_attempts=lost, heartbeat_at=heartbeat_at)
    return _lose(job, after, reason=reason, lost_attempts=lost, heartbeat_at=heartbeat_at)


def attempt_pass_on(*, job: Job, actor: Actor, labels: list[str]) -> bool:
    """Queue a running job again for an agent with these labels. With a cancel request, the job ends instead.

    False when the attempt has changed meanwhile. Raises Unprocessable with code ``too_many_label_sets``.
    """
    reason = "its pipeline requires other labels"
    if job.cancel_requested:
        return _lose(job, Status.CANCELLED, reason=reason, lost_attempts=int(job.lost_attempts))
    try:
        set_open(labels=labels, pipeline=job.pipeline, actor=actor)
    except TooManyRequests as error:
        # Agents repeat a request that is refused with 429. This one is their job's fault.
        raise Unprocessable(error.message, code=error.code) from error
    return _requeue(job, actor=actor, reason=reason, labels=labels)


def _requeue(
    job: Job,
    *,
    actor: Actor,
    reason: str,
    lost_attempts: int | None = None,
    labels: list[str] | None = None,
    heartbeat_at: str | None = None,
) -> bool:
    """Put the job of a leased attempt back into the queue. False when the attempt has changed meanwhile.

    A cancel request counts as a change: no queued job has one.
    """
    attempt, agent_id = int(job.attempt), str(job.agent_id)
    if labels is not None:
        job.labels = labels
    set_register(labels=job.labels)
    move = Move(
        job=job,
        before=Status(job.status),
        after=Status.QUEUED,
        attempt=attempt,
        actor=actor,
        action=Action.JOB_REQUEUED,
        agent_id=agent_id,
        entry=entry_of(job, attempt=attempt + 1, since=clock.timestamp(clock.now())),
        changes=[
            Job.labels.set(job.labels),
            Job.lost_attempts.set(int(job.lost_attempts) if lost_attempts is None else lost_attempts),
            *([Job.steps.set(steps_of({"steps": job.steps}))] if job.steps else []),
        ],
        heartbeat_at=heartbeat_at,
        detail={"attempt": attempt, "reason": reason, "agent_id": agent_id},
    )
    return _moved(move, reason)


def _lose(job: Job, after: Status, *, reason: str, lost_attempts: int, heartbeat_at: str | None = None) -> bool:
    """End the job with its last attempt, or with an attempt that has a cancel request."""
    attempt, agent_id = int(job.attempt), str(job.agent_id)
    move = Move(
        job=job,
        before=Status(job.status),
        after=after,
        attempt=attempt,
        actor=SYSTEM,
        action=Action.JOB_FINISHED,
        agent_id=agent_id,
        changes=[
            Job.error_message.set(f"Attempt {attempt} was lost: {reason}."),
            Job.lost_attempts.set(lost_attempts),
        ],
        heartbeat_at=heartbeat_at,
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
    outcome = "the job is queued again" if move.after == Status.QUEUED else f"the job has ended as {move.after}"
    logger.warning("attempt lost: %s; %s", reason, outcome, extra=subject)
    return True
