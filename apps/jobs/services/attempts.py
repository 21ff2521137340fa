"""An agent's reports about an attempt of a job: its start, its pipeline file and its end."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from apps.agents.services import End, LeaseEnd, lease_limit
from apps.audit.actions import Action
from apps.audit.services import audit_add
from apps.jobs.label_sets import agent_may_take
from apps.jobs.models import Job
from apps.jobs.policies import attempt_require, is_attempt_of, is_lost_attempt_of
from apps.jobs.services.limits import time_limit
from apps.jobs.services.losses import attempt_fault, attempt_pass_on
from apps.jobs.services.queue import entry_of
from apps.jobs.services.steps import steps_of
from apps.jobs.services.transitions import Move, attempt_fence, move_commit
from apps.jobs.states import FINAL, Status, status_after_finish
from apps.pipelines.parsing import definition_parse
from apps.pipelines.services import pipeline_learn
from controlplane.lib import clock, metric_names
from controlplane.lib.actor import Actor
from controlplane.lib.error_codes import ErrorCode
from controlplane.lib.errors import Conflict, InvalidInput, Unprocessable
from controlplane.lib.work import measure
from controlplane.nosql.transaction import Transaction, TransactionFailed

# How often the end of an attempt is tried when the job changes meanwhile.
_TRIES = 3


@dataclass(frozen=True)
class AttemptResult:
    """The result of an attempt, as its agent reports it.

    `exit_code` is None when no step could be run. `agent_fault` is the failure of the machine that ended the attempt.
    """

    exit_code: int | None
    error_message: str | None
    steps: Sequence[Mapping[str, Any]]
    log_chunks: int
    commit: str | None
    agent_fault: str | None = None


def attempt_start(*, agent: Actor, job_id: str, attempt: int) -> Job:
    """Acknowledge the attempt and return its job, with all data to run it. Starting again changes nothing.

    Raises NotFound, or Conflict with code ``stale_attempt``.
    """
    job = attempt_require(Job.find(job_id), agent_id=agent.id, attempt=attempt)
    if job.status == Status.RUNNING:
        return job
    move = Move(
        job=job,
        before=Status.ASSIGNED,
        after=Status.RUNNING,
        attempt=attempt,
        actor=agent,
        action=Action.JOB_STARTED,
        agent_id=agent.id,
        detail={"attempt": attempt},
    )
    try:
        move_commit(move)
    except TransactionFailed:
        # The same request arrived twice at the same time, or the agent has lost the attempt. The job shows which.
        job = attempt_require(Job.find(job_id), agent_id=agent.id, attempt=attempt)
        if job.status != Status.RUNNING:
            raise Conflict("The attempt can no longer be started. Stop it.", code=ErrorCode.STALE_ATTEMPT) from None
    return job


def attempt_define(
    *, agent: Actor, agent_labels: Collection[str], job_id: str, attempt: int, commit: str | None, text: str
) -> Mapping[str, Any]:
    """Read the repository's own pipeline file for a running attempt; returns the parsed definition.

    Reporting it again changes nothing. Raises Unprocessable whose errors name line and field, Conflict with code
    ``stale_attempt``, or Conflict with code ``job_moved`` when the file requires labels that this agent lacks: the job
    then waits for an agent that has them.
    """
    job = attempt_require(Job.find(job_id), agent_id=agent.id, attempt=attempt)
    if job.status != Status.RUNNING:
        raise _stale()
    try:
        definition = definition_parse(text).as_dict()
    except InvalidInput as error:
        raise Unprocessable(error.message, code=ErrorCode.DEFINITION_INVALID, errors=error.errors) from error
    labels = sorted({*job.labels, *definition["labels"]})
    pipeline_learn(
        name=job.pipeline,
        git_ref=job.git_ref,
        labels=definition["labels"],
        retries=definition["retries"],
        timeout=definition["timeout"],
    )
    if not agent_may_take(labels, agent_labels):
        attempt_pass_on(job=job, actor=agent, labels=labels)
        raise Conflict("The job requires labels that this agent lacks. Stop it.", code=ErrorCode.JOB_MOVED)
    if job.defined_attempt != attempt:
        _definition_write(job, definition, agent=agent, attempt=attempt, commit=commit, labels=labels)
    return definition


def _definition_write(
    job: Job, definition: Mapping[str, Any], *, agent: Actor, attempt: int, commit: str | None, labels: list[str]
) -> None:
    transaction = Transaction()
    transaction.update(
        "job",
        job,
        actions=[
            *([Job.commit.set(commit)] if commit else []),
            Job.defined_attempt.set(attempt),
            Job.steps.set(steps_of(definition)),
            Job.retries.set(definition["retries"]),
            Job.timeout.set(time_limit(definition["timeout"])),
            Job.labels.set(labels),
        ],
        condition=attempt_fence(agent.id, attempt)
        & (Job.status == Status.RUNNING)
        & (Job.defined_attempt.does_not_exist() | (Job.defined_attempt < attempt)),
    )
    lease_limit(
        transaction,
        agent_id=agent.id,
        job_id=job.job_id,
        attempt=attempt,
        limit=time_limit(definition["timeout"]),
    )
    target = f"job:{job.job_id}"
    audit_add(transaction, actor=agent, action=Action.JOB_DEFINED, target=target, detail={"commit": commit})
    try:
        transaction.commit()
    except TransactionFailed:
        # The same request arrived twice at the same time, or the agent has lost the attempt. The job shows which.
        job = attempt_require(Job.find(job.job_id), agent_id=agent.id, attempt=attempt)
        if job.defined_attempt != attempt:
            raise _stale() from None


def attempt_finish(*, agent: Actor, job_id: str, attempt: int, result: AttemptResult) -> bool:
    """End the attempt and its job. Returns True the first time, False for a repeated report.

    The late report of an attempt that the agent has lost counts as long as no newer attempt has begun. With
    `result.agent_fault`, the job is queued again instead (`losses.attempt_fault`).

    Raises NotFound, or Conflict with code ``stale_attempt``.
    """
    if result.agent_fault:
        return attempt_fault(agent=agent, job_id=job_id, attempt=attempt, reason=result.agent_fault, steps=result.steps)
    try:
        # The usual case needs no read.
        _finish(agent=agent, job_id=job_id, attempt=attempt, result=result, cancel_requested=False)
        return True
    except TransactionFailed:
        return _finish_otherwise(agent=agent, job_id=job_id, attempt=attempt, result=result)


def _finish_otherwise(*, agent: Actor, job_id: str, attempt: int, result: AttemptResult) -> bool:
    """End an attempt that is not simply running: the job shows which other case this is."""
    for _ in range(_TRIES):
        job = Job.find(job_id)
        try:
            if job is not None and is_lost_attempt_of(job, agent_id=agent.id, attempt=attempt):
                _finish_late(job, agent=agent, result=result)
                return True
            if job is not None and is_attempt_of(job, agent_id=agent.id, attempt=attempt) and job.status in FINAL:
                return False
            job = attempt_require(job, agent_id=agent.id, attempt=attempt)
            if job.status != Status.RUNNING:
                raise _stale()
            asked = bool(job.cancel_requested)
            _finish(agent=agent, job_id=job_id, attempt=attempt, result=result, cancel_requested=asked)
            return True
        except TransactionFailed:
            # The job has changed since it was read.
            continue
    raise _stale()


def _finish_late(job: Job, *, agent: Actor, result: AttemptResult) -> None:
    """End the job with an attempt that the agent has lost. Raises TransactionFailed when the job changes meanwhile."""
    attempt, before = int(job.attempt), Status(job.status)
    after = status_after_finish(
        exit_code=result.exit_code,
        error_message=result.error_message,
        steps=result.steps,
        cancel_requested=False,
    )
    move_commit(
        Move(
            job=job,
            before=before,
            after=after,
            attempt=attempt,
            actor=agent,
            action=Action.JOB_FINISHED if before == Status.QUEUED else Action.JOB_OUTCOME_REPLACED,
            agent_id=agent.id,
            entry=entry_of(job, attempt=attempt + 1),
            changes=[*_result_changes(result), *([] if result.error_message else [Job.error_message.remove()])],
            is_late=True,
            detail={"attempt": attempt, "exit_code": result.exit_code},
        )
    )


def _finish(*, agent: Actor, job_id: str, attempt: int, result: AttemptResult, cancel_requested: bool) -> None:
    """End the job if it is running and its cancel request is as `cancel_requested` says. Raises TransactionFailed."""
    after = status_after_finish(
        exit_code=result.exit_code,
        error_message=result.error_message,
        steps=result.steps,
        cancel_requested=cancel_requested,
    )
    move_commit(
        Move(
            job=Job(job_id=job_id),
            before=Status.RUNNING,
            after=after,
            attempt=attempt,
            actor=agent,
            action=Action.JOB_FINISHED,
            agent_id=agent.id,
            changes=_result_changes(result),
            lease_end=LeaseEnd(End.RAN),
            cancel_requested=cancel_requested,
            detail={"attempt": attempt, "exit_code": result.exit_code},
        )
    )
    seconds = _seconds_run(result.steps)
    if seconds is not None:
        measure(metric_names.JOB_RUN, seconds)


def _seconds_run(steps: Sequence[Mapping[str, Any]]) -> float | None:
    """From the start of the first step to the end of the last one, as the agent reports; None without these times."""
    begun = [clock.parse_timestamp(step["started_at"]) for step in steps if step.get("started_at")]
    ended = [clock.parse_timestamp(step["completed_at"]) for step in steps if step.get("completed_at")]
    return max(0.0, (max(ended) - min(begun)).total_seconds()) if begun and ended else None


def _result_changes(result: AttemptResult) -> list[Any]:
    """The updates of the job from the agent's report. Attributes that the report lacks stay as they are."""
    reported: list[tuple[Any, Any]] = [
        (Job.log_chunks, result.log_chunks),
        (Job.exit_code, result.exit_code),
        (Job.error_message, result.error_message),
        (Job.steps, list(result.steps) or None),
        (Job.commit, result.commit),
    ]
    return [attribute.set(value) for attribute, value in reported if value is not None]


def _stale() -> Conflict:
    return Conflict("This attempt of the job is not running. Stop it.", code=ErrorCode.STALE_ATTEMPT)
