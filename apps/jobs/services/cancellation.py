"""Stopping jobs: those that wait at once, and those that run by a cancel request to their agents."""

from apps.audit.actions import Action
from apps.jobs.models import Job
from apps.jobs.selectors.jobs import job_get
from apps.jobs.services.queue import entry_of
from apps.jobs.services.transitions import Move, cancel_request_commit, move_commit
from apps.jobs.states import Status
from controlplane.lib.actor import Actor
from controlplane.lib.error_codes import ErrorCode
from controlplane.lib.errors import Conflict
from controlplane.nosql.transaction import TransactionFailed

# How often a cancellation is tried when the job changes meanwhile.
_TRIES = 5


def job_stop(*, actor: Actor, job_id: str, reason: str | None = None) -> Job:
    """Cancel the job, or ask its agent to, without asking who may. Returns the job as it is then.

    Raises NotFound, or Conflict with code ``job_finished`` when it has ended in another way.
    """
    for _ in range(_TRIES):
        job = job_get(job_id)
        if job.status == Status.CANCELLED or job.cancel_requested:
            return job
        try:
            _stop_in_state(job, actor=actor, reason=reason)
        except TransactionFailed:
            # The job has changed since it was read. Its new status decides how to cancel it.
            continue
        return job_get(job_id)
    raise Conflict("The job keeps changing. Try again.", code=ErrorCode.JOB_STATE)


def _stop_in_state(job: Job, *, actor: Actor, reason: str | None) -> None:
    """Cancel the job as its status requires. Raises TransactionFailed when the job has changed since it was read."""
    status, attempt = Status(job.status), int(job.attempt)
    if status == Status.RUNNING:
        cancel_request_commit(job=job, actor=actor)
        return
    move_commit(
        Move(
            job=job,
            before=status,
            after=Status.CANCELLED,
            attempt=attempt,
            actor=actor,
            action=Action.JOB_CANCELLED,
            agent_id=job.agent_id or "",
            entry=entry_of(job, attempt=attempt + 1),
            reason=reason,
            detail={"reason": reason} if reason else None,
        )
    )
