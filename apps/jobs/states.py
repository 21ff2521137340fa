"""What may happen to a job: its statuses, the moves between them, and what the end of an attempt makes of it.

Also the statuses of runs, and what starts them.
"""

from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import Any

from apps.agents.states import StepState as StepState
from controlplane.lib.error_codes import ErrorCode
from controlplane.lib.errors import Conflict


class Status(StrEnum):
    """The status of a job."""

    # For other jobs of its run, for a slot of its concurrency group, for another cell of its matrix, or for the gates
    # of the environment that it deploys to.
    WAITING = "waiting"
    QUEUED = "queued"
    ASSIGNED = "assigned"
    RUNNING = "running"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"
    TIMED_OUT = "timed_out"
    # It never ran: what it needs ended otherwise than it asks for, or its condition is false.
    SKIPPED = "skipped"


class RunStatus(StrEnum):
    """The status of a run."""

    QUEUED = "queued"
    RUNNING = "running"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"


class Event(StrEnum):
    """What started a run."""

    API = "api"
    PAGE = "page"
    SCHEDULE = "schedule"
    # Of a repository, as a provider sent it; see `apps.sources`.
    PUSH = "push"
    TAG = "tag"
    PULL_REQUEST = "pull_request"
    # A user asked for a deployment: of a ref or a run, again, or back.
    DEPLOYMENT = "deployment"


# These name a commit, which the run builds also when the ref has moved since.
SOURCE_EVENTS = frozenset({Event.PUSH, Event.TAG, Event.PULL_REQUEST})


class DeploymentStatus(StrEnum):
    """The status of a deployment."""

    # For the gates of its environment.
    WAITING = "waiting"
    # The gates have opened: its job is queued or runs.
    IN_PROGRESS = "in_progress"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"
    REJECTED = "rejected"


class StatusGroup(StrEnum):
    """Several statuses of jobs under one name, as lists and the overview have them."""

    # Waits for an agent.
    PENDING = "pending"
    # An agent has it.
    ACTIVE = "active"


class AttemptEnd(StrEnum):
    """How an attempt ended: with a report of its agent, as the first four, or without one."""

    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"
    TIMED_OUT = "timed_out"
    # The agent fell silent, or was restarted.
    LOST = "lost"
    # The repository's file requires labels that the agent lacks.
    MOVED = "moved"
    # The agent's machine failed.
    AGENT_FAULT = "agent_fault"
    # The agent took the job and did not start it.
    NOT_STARTED = "not_started"
    # It ended with an exit code after which the pipeline file asks for another attempt.
    REPEATED = "repeated"


# How the audit trail gives the reasons for ends without a report; `apps.jobs.selectors.story` reads them again.
REASON_SILENT = "its agent sent no heartbeat for "
REASON_MOVED = "its pipeline file requires other labels: "
REASON_NOT_STARTED = "the agent did not acknowledge it"
REASON_GATES = "a gate of its environment has closed: "
REASON_REPEATED = "its pipeline file asks to run it again after exit code "


def reason_fault(agent: str, fault: str) -> str:
    """The reason for the end of an attempt whose machine failed."""
    return f"the machine of {agent} failed: {fault}"


# An agent has a lease on the job: it was offered the attempt, or runs it.
LEASED = frozenset({Status.ASSIGNED, Status.RUNNING})
FINAL = frozenset({Status.COMPLETED, Status.FAILED, Status.CANCELLED, Status.TIMED_OUT, Status.SKIPPED})
OPEN = frozenset(Status) - FINAL
GROUPS: Mapping[StatusGroup, frozenset[Status]] = {
    StatusGroup.PENDING: OPEN - LEASED,
    StatusGroup.ACTIVE: LEASED,
}
# What a lost attempt may leave behind: its job waits for the next attempt, or has failed with this one. A late report
# of the very attempt still decides how the job ended.
LOST = frozenset({Status.QUEUED, Status.FAILED})

DEPLOYMENT_OPEN = frozenset({DeploymentStatus.WAITING, DeploymentStatus.IN_PROGRESS})
RUN_FINAL = frozenset({RunStatus.COMPLETED, RunStatus.FAILED, RunStatus.CANCELLED})

_MAY_FOLLOW: Mapping[Status, frozenset[Status]] = {
    # To an end without an attempt when its run has no use for it, or has its result already.
    Status.WAITING: frozenset({Status.QUEUED, Status.CANCELLED, Status.SKIPPED, Status.FAILED, Status.COMPLETED}),
    # To an end when no agent can ever claim it.
    Status.QUEUED: frozenset({Status.ASSIGNED, Status.CANCELLED, Status.FAILED}),
    # Back to the queue when the agent does not acknowledge; to an end when it is lost for the last time; a deployment
    # also back to waiting, if a gate of its environment has closed since it was queued.
    Status.ASSIGNED: frozenset({Status.RUNNING, Status.QUEUED, Status.CANCELLED, Status.FAILED, Status.WAITING}),
    Status.RUNNING: FINAL - {Status.SKIPPED} | {Status.QUEUED},
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
    if before not in LOST or not (
        after in FINAL - {Status.SKIPPED} or (before, after) == (Status.QUEUED, Status.RUNNING)
    ):
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


def deployment_status_of(status: Status) -> DeploymentStatus:
    """The status of a deployment whose job has ended with this status."""
    if status == Status.COMPLETED:
        return DeploymentStatus.COMPLETED
    return DeploymentStatus.FAILED if status in (Status.FAILED, Status.TIMED_OUT) else DeploymentStatus.CANCELLED


def run_status_of(status: Status) -> RunStatus:
    """The status of a run of one job with this status."""
    if status == Status.TIMED_OUT:
        return RunStatus.FAILED
    if status in FINAL:
        return RunStatus(status.value)
    return RunStatus.RUNNING if status in LEASED else RunStatus.QUEUED
