"""An agent's reports about an attempt of a job: its start and its end. `file_reports` has that of its pipeline file."""

from collections.abc import Mapping, Sequence
from typing import Any

from apps.agents.services import End, LeaseEnd
from apps.audit.actions import Action
from apps.jobs.models import Job
from apps.jobs.policies import attempt_require, is_attempt_of, is_lost_attempt_of
from apps.jobs.services.losses import attempt_fault, attempt_repeat, start_fail
from apps.jobs.services.queue import entry_of
from apps.jobs.services.run_following import run_follow
from apps.jobs.services.steps import steps_of
from apps.jobs.services.transitions import Move, move_commit
from apps.jobs.states import FINAL, Status, status_after_finish
from apps.pipelines.definitions import Definition
from controlplane.lib import clock, metric_names
from controlplane.lib.actor import Actor
from controlplane.lib.error_codes import ErrorCode
from controlplane.lib.errors import Conflict, InvalidInput
from controlplane.lib.frozen import frozen
from controlplane.lib.labels import targets_required
from controlplane.lib.work import measure
from controlplane.nosql.transaction import Transaction, TransactionFailed

# How often the end of an attempt is tried when the job changes meanwhile.
_TRIES = 3


@frozen
class AttemptResult:
    """The result of an attempt, as its agent reports it.

    `exit_code` is None when no step could be run. `agent_fault` is the failure of the machine that ended the attempt.
    `outputs` are what the job hands on. `place` is the job's place in its run, from the answer to the start, so
    that the end needs no read; None if the agent is too old to say it.
    """

    exit_code: int | None
    error_message: str | None
    steps: Sequence[Mapping[str, Any]]
    log_chunks: int
    commit: str | None
    agent_fault: str | None = None
    outputs: Mapping[str, str] | None = None
    place: "JobPlace | None" = None


@frozen
class JobPlace:
    """The place of a job in its run. The end of an attempt requires that the job's record has the same."""

    run_id: str
    node: str
    group: str | None = None


def attempt_start(*, agent: Actor, job_id: str, attempt: int) -> Job:
    """Acknowledge the attempt and return its job, with all data to run it. Starting again changes nothing.

    The definition of a job of a graph is read from its run and filled in, and so is not in the job's record.
    Raises NotFound, or Conflict with code ``stale_attempt``, also if the definition cannot be filled in: the job has
    failed then.
    """
    job = attempt_require(Job.find(job_id), agent_id=agent.id, attempt=attempt)
    try:
        job.definition = _definition(job)
    except InvalidInput as error:
        start_fail(job=job, message=error.message)
        raise _stale() from error
    if job.status == Status.RUNNING:
        return job
    problem = _target_problem(job)
    if problem:
        start_fail(job=job, message=problem)
        raise _stale()
    transaction = Transaction()
    if job.work and (job.definition or {}).get("environment"):
        # Few jobs deploy, and no cold start shall load what these need.
        from apps.jobs.services.deployment_gates import deployment_start_add

        if not deployment_start_add(transaction, job, agent=agent):
            run_follow(job)
            raise _stale()
    move = Move(
        job=job,
        before=Status.ASSIGNED,
        after=Status.RUNNING,
        attempt=attempt,
        actor=agent,
        action=Action.JOB_STARTED,
        agent_id=agent.id,
        changes=[Job.steps.set(steps_of(job.definition))] if job.work and job.definition else [],
        detail={"attempt": attempt},
    )
    try:
        move_commit(move, transaction=transaction)
    except TransactionFailed:
        # The same request arrived twice at the same time, or the agent has lost the attempt. The job shows which.
        again = attempt_require(Job.find(job_id), agent_id=agent.id, attempt=attempt)
        if again.status != Status.RUNNING:
            raise Conflict("The attempt can no longer be started. Stop it.", code=ErrorCode.STALE_ATTEMPT) from None
        again.definition = job.definition
        return again
    return job


def _target_problem(job: Job) -> str | None:
    """Why the job may not have the agents of an environment that its file asks for. No read for most jobs."""
    labels = (job.definition or {}).get("labels") or ()
    if not targets_required(labels):
        return None
    # Few jobs ask for a target, and no cold start shall load what these need.
    from apps.jobs.selectors.environments import target_problem

    return target_problem(labels, (job.definition or {}).get("environment"))


def _definition(job: Job) -> Mapping[str, Any] | None:
    """What an attempt of the job runs; None if that is in the repository's file, which is still to be read.

    Raises InvalidInput.
    """
    if not job.work:
        return Definition.stored_fill(job.definition) if job.definition else None
    # No cold start shall load the language of pipeline files, which only jobs of graphs need.
    from apps.jobs.selectors.run_definitions import graph_definition

    return graph_definition(job)


def attempt_finish(*, agent: Actor, job_id: str, attempt: int, result: AttemptResult) -> bool:
    """End the attempt and its job. Returns True the first time, False for a repeated report.

    The late report of an attempt that the agent has lost counts as long as no newer attempt has begun. With
    `result.agent_fault`, the job is queued again instead (`losses.attempt_fault`).

    Raises NotFound, or Conflict with code ``stale_attempt``.
    """
    if result.agent_fault:
        return attempt_fault(agent=agent, job_id=job_id, attempt=attempt, reason=result.agent_fault, steps=result.steps)
    place = result.place
    try:
        if place and not _has_failed(result):
            # The usual case needs no read.
            job = Job(job_id=job_id, run_id=place.run_id, node=place.node, group=place.group)
            _finish(job, agent=agent, attempt=attempt, result=result, cancel_requested=False)
            return True
    except TransactionFailed:
        pass
    return _finish_otherwise(agent=agent, job_id=job_id, attempt=attempt, result=result)


def _has_failed(result: AttemptResult) -> bool:
    """Whether the job may have to run again because of the exit code: only its record says so."""
    return bool(result.exit_code)


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
            code = result.exit_code
            if code and code in (job.retry_codes or ()) and attempt_repeat(job=job, actor=agent, exit_code=code):
                return True
            asked = bool(job.cancel_requested)
            _finish(job, agent=agent, attempt=attempt, result=result, cancel_requested=asked)
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
            outputs=result.outputs,
            commit=result.commit,
            detail={"attempt": attempt, "exit_code": result.exit_code},
        )
    )
    run_follow(job)


def _finish(job: Job, *, agent: Actor, attempt: int, result: AttemptResult, cancel_requested: bool) -> None:
    """End the job if it is running and its cancel request is as `cancel_requested` says. Raises TransactionFailed.

    `job` is its record, or has at least its place in the run.
    """
    after = status_after_finish(
        exit_code=result.exit_code,
        error_message=result.error_message,
        steps=result.steps,
        cancel_requested=cancel_requested,
    )
    move_commit(
        Move(
            job=job,
            before=Status.RUNNING,
            after=after,
            attempt=attempt,
            actor=agent,
            action=Action.JOB_FINISHED,
            agent_id=agent.id,
            changes=_result_changes(result),
            lease_end=LeaseEnd(End.RAN),
            cancel_requested=cancel_requested,
            outputs=result.outputs,
            commit=result.commit,
            detail={"attempt": attempt, "exit_code": result.exit_code},
        )
    )
    run_follow(job)
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
