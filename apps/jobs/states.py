"""What may happen to a job: its statuses, the moves between them, and what the end of an attempt makes of it."""

from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import Any

from apps.agents.states import StepState as StepState
from controlplane.lib.error_codes import ErrorCode
from controlplane.lib.errors import Conflict


class Status(StrEnum):
    """The status of a job."""

    WAITING = "waiting"
    QUEUED = "queued"
    ASSIGNED = "assigned"
    RUNNING = "running"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"
    TIMED_OUT = "timed_out"


# An agent has a lease on the job: it was offered the attempt, or runs it.
LEASED = frozenset({Status.ASSIGNED, Status.RUNNING})
FINAL = frozenset({Status.COMPLETED, Status.FAILED, Status.CANCELLED, Status.TIMED_OUT})
OPEN = frozenset(Status) - FINAL
# What a lost attempt may leave behind: its job waits for the next attempt, or has failed with this one. A late report
# of the very attempt still decides how the job ended.
LOST = frozenset({Status.QUEUED, Status.FAILED})

_MAY_FOLLOW: Mapping[Status, frozenset[Status]] = {
    Status.WAITING: frozenset({Status.QUEUED, Status.CANCELLED}),
    # To an end when no agent can ever claim it.
    Status.QUEUED: frozenset({Status.ASSIGNED, Status.CANCELLED, Status.FAILED}),
    # Back to the queue when the agent does not acknowledge; to an end when it is lost for the last time.
    Status.ASSIGNED: frozenset({Status.RUNNING, Status.QUEUED, Status.CANCELLED, Status.FAILED}),
    Status.RUNNING: FINAL | {Status.QUEUED},
}


def may_follow(before: Status, after: Status) -> bool:
    """Whether a job may go from `before` to `after`."""
    return after in _MAY_FOLLOW.get(before, frozenset())


def transition_require(before: Status, after: Status) -> None:
    """Raises Conflict with code ``job_finished`` or ``job_state`` when a job may not go from `before` to `after`."""
    if may_follow(before, after):
        return
    if before in FINAL:
        raise Conflict(f"The job has already ended: it is {before}.", code=ErrorCode.JOB_FINISHED)
    raise Conflict(f"A job that is {before} cannot become {after}.", code=ErrorCode.JOB_STATE)


def late_transition_require(before: Status, after: Status) -> None:
    """Raises Conflict when a late report of a lost attempt may not take a job from `before` to `after`.

    The report may end the job or, while it waits, show that the attempt still runs.
    """
    if before not in LOST or not (after in FINAL or (before, after) == (Status.QUEUED, Status.RUNNING)):
        raise Conflict(f"A job that is {before} cannot become {after}.", code=ErrorCode.JOB_STATE)


def status_after_finish(
    *, exit_code: int | None, error_message: str | None, steps: Sequence[Mapping[str, Any]], cancel_requested: bool
) -> Status:
    """The job's status after an attempt that its agent has finished."""
    if exit_code == 0 and not error_message:
        return Status.COMPLETED
    if cancel_requested:
        return Status.CANCELLED
    if any(step.get("state") == StepState.TIMED_OUT for step in steps):
        return Status.TIMED_OUT
    return Status.FAILED


def status_after_loss(*, lost_attempts: int, retries: int, cancel_requested: bool) -> Status:
    """The job's status after the loss of an attempt, the `lost_attempts`-th with this one."""
    if cancel_requested:
        return Status.CANCELLED
    return Status.QUEUED if lost_attempts <= retries else Status.FAILED
