"""What happens to an attempt of a job: started, defined, finished by its agent; released or lost without it."""

import logging
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from apps.agents.services import lease_remove, lease_remove_expired, lease_start
from apps.audit.actions import Action
from apps.audit.services import audit_add
from apps.jobs.label_sets import agent_may_take
from apps.jobs.models import Job
from apps.jobs.policies import attempt_require, is_attempt_of
from apps.jobs.services.counters import counter_add, ending_measure
from apps.jobs.services.jobs import ending_actions, steps_of
from apps.jobs.services.queue import entry_of, set_register
from apps.jobs.states import FINAL, LEASED, Status, status_after_finish, status_after_loss, transition_require
from apps.pipelines.parsing import definition_parse
from apps.pipelines.services import pipeline_learn
from controlplane.lib import clock, metric_names
from controlplane.lib.actor import SYSTEM, Actor
from controlplane.lib.errors import Conflict, InvalidInput, Unprocessable
from controlplane.lib.work import measure
from controlplane.nosql.transaction import Transaction, TransactionFailed

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class AttemptResult:
    """How an agent says that an attempt has ended. `exit_code` is None when no step's process could be run."""

    exit_code: int | None
    error_message: str | None
    steps: Sequence[Mapping[str, Any]]
    log_chunks: int
    commit: str | None


def attempt_start(*, agent: Actor, job_id: str, attempt: int) -> Job:
    """The agent acknowledges the attempt and gets all that it needs to run it. Starting again changes nothing.

    Raises NotFound, or Conflict with code ``stale_attempt``.
    """
    job = attempt_require(Job.find(job_id), agent_id=agent.id, attempt=attempt)
    if job.status == Status.RUNNING:
        return job
    transition_require(Status(job.status), Status.RUNNING)
    now = clock.timestamp(clock.now())
    transaction = Transaction()
    transaction.update(
        "job",
        job,
        actions=[
            Job.status.set(Status.RUNNING),
            Job.started_at.set(now),
            Job.started_by.set(agent.id),
            Job.agent_name.set(agent.name),
        ],
        condition=_is_attempt(agent.id, attempt) & (Job.status == Status.ASSIGNED),
    )
    lease_start(transaction, agent_id=agent.id, job_id=job_id, attempt=attempt)
    audit_add(transaction, actor=agent, action=Action.JOB_STARTED, target=f"job:{job_id}", detail={"attempt": attempt})
    try:
        transaction.commit()
    except TransactionFailed:
        # Either our own write, whose response was lost, or the attempt is gone: the job itself tells.
        job = attempt_require(Job.find(job_id), agent_id=agent.id, attempt=attempt)
        if job.status != Status.RUNNING:
            raise Conflict("The attempt cannot be started.", code="stale_attempt") from None
    return job


def attempt_define(
    *, agent: Actor, agent_labels: Collection[str], job_id: str, attempt: int, commit: str | None, text: str
) -> Mapping[str, Any]:
    """Read the repository's own pipeline file for a running attempt; returns the parsed definition.

    Telling it again changes nothing. Raises Unprocessable whose errors name line and field, Conflict with code
    ``stale_attempt``, or Conflict with code ``job_moved`` when the file asks for labels that this agent lacks: the job
    then waits for one that has them.
    """
    job = attempt_require(Job.find(job_id), agent_id=agent.id, attempt=attempt)
    if job.status != Status.RUNNING:
        raise Conflict("This attempt of the job is not running.", code="stale_attempt")
    try:
        definition = definition_parse(text).as_dict()
    except InvalidInput as error:
        raise Unprocessable(error.message, code="definition_invalid", errors=error.errors) from error
    labels = sorted({*job.labels, *definition["labels"]})
    pipeline_learn(
        name=job.pipeline,
        git_ref=job.git_ref,
        labels=definition["labels"],
        retries=definition["retries"],
        timeout=definition["timeout"],
    )
    if not agent_may_take(labels, agent_labels):
        _move(job, actor=agent, labels=labels)
        raise Conflict("The job asks for labels that this agent lacks.", code="job_moved")
    if job.defined_attempt == attempt:
        return definition
    transaction = Transaction()
    transaction.update(
        "job",
        job,
        actions=[
            *([Job.commit.set(commit)] if commit else []),
            Job.defined_attempt.set(attempt),
            Job.steps.set(steps_of(definition)),
            Job.retries.set(definition["retries"]),
            Job.labels.set(labels),
        ],
        condition=_is_attempt(agent.id, attempt)
        & (Job.status == Status.RUNNING)
        & (Job.defined_attempt.does_not_exist() | (Job.defined_attempt < attempt)),
    )
    audit_add(transaction, actor=agent, action=Action.JOB_DEFINED, target=f"job:{job_id}", detail={"commit": commit})
    try:
        transaction.commit()
    except TransactionFailed:
        # Either told before, maybe by our own write whose response was lost, or the attempt is gone.
        job = attempt_require(Job.find(job_id), agent_id=agent.id, attempt=attempt)
        if job.defined_attempt != attempt:
            raise Conflict("This attempt of the job is not running.", code="stale_attempt") from None
    return definition


def _move(job: Job, *, actor: Actor, labels: list[str]) -> None:
    """Let the job wait for an agent that has these labels, unless it is to be cancelled: then that is its end."""
    if job.cancel_requested:
        _lose(job, Status.CANCELLED, reason="its pipeline asks for other labels")
    else:
        _requeue(job, actor=actor, reason="its pipeline asks for other labels", labels=labels)


def attempt_finish(*, agent: Actor, job_id: str, attempt: int, result: AttemptResult) -> bool:
    """The agent's attempt has ended, and so has the job. True the first time, False when it is told again.

    Raises NotFound, or Conflict with code ``stale_attempt``.
    """
    try:
        _finish(agent=agent, job_id=job_id, attempt=attempt, result=result, cancel_requested=False)
    except TransactionFailed:
        # The usual case needs no read. What stands there tells which of the others this is.
        if _has_ended(agent.id, job_id, attempt):
            return False
        try:
            _finish(agent=agent, job_id=job_id, attempt=attempt, result=result, cancel_requested=True)
        except TransactionFailed:
            if _has_ended(agent.id, job_id, attempt):
                return False
            raise Conflict("This attempt of the job is not running.", code="stale_attempt") from None
    return True


def _has_ended(agent_id: str, job_id: str, attempt: int) -> bool:
    """Whether the attempt has ended its job. Raises NotFound, or Conflict when it is not the agent's any more."""
    job = Job.find(job_id)
    if job is not None and is_attempt_of(job, agent_id=agent_id, attempt=attempt) and job.status in FINAL:
        return True
    attempt_require(job, agent_id=agent_id, attempt=attempt)
    return False


def _finish(*, agent: Actor, job_id: str, attempt: int, result: AttemptResult, cancel_requested: bool) -> None:
    """End the job if it is running and a cancellation has, or has not, been asked for. Raises TransactionFailed."""
    status = status_after_finish(
        exit_code=result.exit_code,
        error_message=result.error_message,
        steps=result.steps,
        cancel_requested=cancel_requested,
    )
    transition_require(Status.RUNNING, status)
    asked = Job.cancel_requested == True if cancel_requested else Job.cancel_requested.does_not_exist()  # noqa: E712
    transaction = Transaction()
    transaction.update(
        "job",
        Job(job_id=job_id),
        actions=[*ending_actions(job_id, status), *_result_actions(result)],
        condition=_is_attempt(agent.id, attempt) & (Job.status == Status.RUNNING) & asked,
    )
    lease_remove(transaction, agent_id=agent.id, job_id=job_id, attempt=attempt)
    counter_add(transaction, status=status)
    audit_add(
        transaction,
        actor=agent,
        action=Action.JOB_FINISHED,
        target=f"job:{job_id}",
        result=status,
        detail={"attempt": attempt, "exit_code": result.exit_code},
    )
    transaction.commit()
    ending_measure(status=status)
    ran = _ran_seconds(result.steps)
    if ran is not None:
        measure(metric_names.JOB_RUN, ran)


def _ran_seconds(steps: Sequence[Mapping[str, Any]]) -> float | None:
    """From the begin of the first step to the end of the last one, as the agent tells it; None when it does not."""
    begun = [clock.parse_timestamp(step["started_at"]) for step in steps if step.get("started_at")]
    ended = [clock.parse_timestamp(step["completed_at"]) for step in steps if step.get("completed_at")]
    return max(0.0, (max(ended) - min(begun)).total_seconds()) if begun and ended else None


def attempt_release(*, agent_id: str, job_id: str, attempt: int) -> bool:
    """Take back an attempt that its agent did not acknowledge. False when it is not the agent's any more."""
    job = Job.find(job_id)
    if job is None or not is_attempt_of(job, agent_id=agent_id, attempt=attempt) or job.status != Status.ASSIGNED:
        return False
    return _requeue(job, actor=SYSTEM, reason="the agent did not acknowledge it")


def attempt_expire(*, agent_id: str, job_id: str, attempt: int, heartbeat_at: str | None, reason: str) -> bool:
    """Take away an attempt whose agent is silent or does not name it any more; the job waits again or has failed.

    With `heartbeat_at`, only if the agent has not been heard of since then. False when there was nothing to take away.
    """
    job = Job.find(job_id)
    if job is None or not is_attempt_of(job, agent_id=agent_id, attempt=attempt) or job.status not in LEASED:
        return False
    lost = int(job.lost_attempts) + 1
    after = status_after_loss(lost_attempts=lost, retries=int(job.retries), cancel_requested=bool(job.cancel_requested))
    if after == Status.QUEUED:
        return _requeue(job, actor=SYSTEM, reason=reason, lost_attempts=lost, heartbeat_at=heartbeat_at)
    return _lose(job, after, reason=reason, lost_attempts=lost, heartbeat_at=heartbeat_at)


def _requeue(
    job: Job,
    *,
    actor: Actor,
    reason: str,
    lost_attempts: int | None = None,
    labels: list[str] | None = None,
    heartbeat_at: str | None = None,
) -> bool:
    """Put the job of a held attempt back into the queue. False when the attempt has changed meanwhile.

    Also when it is to be cancelled since it was read: nothing that waits may be under a command for its end.
    """
    before, attempt = Status(job.status), int(job.attempt)
    transition_require(before, Status.QUEUED)
    agent_id = str(job.agent_id)
    if labels is not None:
        job.labels = labels
    set_register(labels=job.labels)
    transaction = Transaction()
    transaction.update(
        "job",
        job,
        actions=[
            Job.status.set(Status.QUEUED),
            Job.agent_id.remove(),
            Job.assigned_at.remove(),
            Job.started_at.remove(),
            Job.started_by.remove(),
            Job.agent_name.remove(),
            Job.labels.set(job.labels),
            Job.lost_attempts.set(int(job.lost_attempts) if lost_attempts is None else lost_attempts),
            *([Job.steps.set(steps_of({"steps": job.steps}))] if job.steps else []),
        ],
        condition=_is_attempt(agent_id, attempt) & (Job.status == before) & Job.cancel_requested.does_not_exist(),
    )
    transaction.put("entry", entry_of(job, attempt=attempt + 1, since=clock.timestamp(clock.now())))
    _lease_remove(transaction, job, agent_id, heartbeat_at)
    audit_add(
        transaction,
        actor=actor,
        action=Action.JOB_REQUEUED,
        target=f"job:{job.job_id}",
        detail={"attempt": attempt, "reason": reason, "agent_id": agent_id},
    )
    return _committed(transaction) and _told(job, reason, "waits again")


def _lose(
    job: Job, after: Status, *, reason: str, lost_attempts: int | None = None, heartbeat_at: str | None = None
) -> bool:
    """End the job of an attempt that was lost for the last time, or that was to be cancelled anyway."""
    transition_require(Status(job.status), after)
    attempt, agent_id = int(job.attempt), str(job.agent_id)
    # A command to cancel that comes in between decides how the job ends, so it is looked at again.
    asked = Job.cancel_requested == True if job.cancel_requested else Job.cancel_requested.does_not_exist()  # noqa: E712
    transaction = Transaction()
    transaction.update(
        "job",
        job,
        actions=[
            *ending_actions(job.job_id, after),
            Job.error_message.set(f"Attempt {attempt} was lost: {reason}."),
            Job.lost_attempts.set(int(job.lost_attempts) if lost_attempts is None else lost_attempts),
        ],
        condition=_is_attempt(agent_id, attempt) & (Job.status == job.status) & asked,
    )
    _lease_remove(transaction, job, agent_id, heartbeat_at)
    counter_add(transaction, status=after)
    audit_add(
        transaction,
        actor=SYSTEM,
        action=Action.JOB_FINISHED,
        target=f"job:{job.job_id}",
        result=after,
        detail={"attempt": attempt, "reason": reason, "agent_id": agent_id},
    )
    if not _committed(transaction):
        return False
    ending_measure(status=after)
    return _told(job, reason, f"has ended as {after}")


def _told(job: Job, reason: str, outcome: str) -> bool:
    """Write down that an attempt was taken from its agent; true."""
    subject = {"job_id": job.job_id, "agent_id": job.agent_id, "attempt": int(job.attempt)}
    logger.warning("attempt taken back, since %s; the job %s", reason, outcome, extra=subject)
    return True


def _lease_remove(transaction: Transaction, job: Job, agent_id: str, heartbeat_at: str | None) -> None:
    attempt = int(job.attempt)
    if heartbeat_at is None:
        lease_remove(transaction, agent_id=agent_id, job_id=job.job_id, attempt=attempt)
    else:
        lease_remove_expired(
            transaction, agent_id=agent_id, job_id=job.job_id, attempt=attempt, heartbeat_at=heartbeat_at
        )


def _result_actions(result: AttemptResult) -> list[Any]:
    """What the agent tells of the attempt; what it does not know stays as it is."""
    told: list[tuple[Any, Any]] = [
        (Job.log_chunks, result.log_chunks),
        (Job.exit_code, result.exit_code),
        (Job.error_message, result.error_message),
        (Job.steps, list(result.steps) or None),
        (Job.commit, result.commit),
    ]
    return [attribute.set(value) for attribute, value in told if value is not None]


def _is_attempt(agent_id: str, attempt: int) -> Any:
    """The condition that fences: only the agent that holds the attempt, and only this attempt."""
    return (Job.agent_id == agent_id) & (Job.attempt == attempt)


def _committed(transaction: Transaction) -> bool:
    try:
        transaction.commit()
    except TransactionFailed:
        return False
    return True
