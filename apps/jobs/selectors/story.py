"""The story of a job: its attempts, which agent had each, and why it ended."""

import re
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from apps.audit.actions import Action
from apps.audit.selectors import audit_search
from apps.jobs.models import Job
from apps.jobs.states import (
    FINAL,
    LEASED,
    REASON_GATES,
    REASON_MOVED,
    REASON_NOT_STARTED,
    REASON_SILENT,
    AttemptEnd,
    Status,
    reason_fault,
)
from controlplane.lib.frozen import frozen

# The events of so many attempts are read: more than a job can have, unless its agents never start it.
_MOST_EVENTS = 100

_FAULT = re.compile(reason_fault("[A-Za-z0-9._-]+", "(.*)"), re.DOTALL)
# How the page and the API name the ends that say why.
_WORDS = {end: end.value.replace("_", " ") for end in AttemptEnd}


@frozen
class JobAttempt:
    """An attempt of a job. Times are texts of `controlplane.lib.clock`.

    `outcome` is the status of the job that the attempt ended with; ``queued`` says that the job went back to the queue.
    `end` says how the attempt itself ended, and `reason` why, in words: ``lost: no heartbeat for 45 s``. All three are
    None while the attempt goes on, and `reason` also for one that has completed.
    """

    number: int
    agent_id: str | None
    agent_name: str | None
    assigned_at: str | None
    started_at: str | None = None
    ended_at: str | None = None
    outcome: str | None = None
    end: AttemptEnd | None = None
    reason: str | None = None

    @property
    def why(self) -> str | None:
        """The reason without the word for the end: ``no heartbeat for 45 s``. None where it says nothing more."""
        return (self.reason or "").partition(": ")[2] or None


def job_attempts(job: Job) -> list[JobAttempt]:
    """The attempts of a job, the first one first.

    A first attempt that goes on, or that its agent has ended, is read from the job itself. Others cost two calls: they
    are read from the audit trail, whose index may lag by moments. The last attempt is right all the same.
    """
    if not job.attempt:
        return []
    is_first = int(job.attempt) == 1 and not job.lost_attempts and not job.faults
    if is_first and job.status not in (Status.QUEUED, Status.CANCELLED):
        return _with_record({}, job)
    events = audit_search(target=f"job:{job.job_id}", limit=_MOST_EVENTS).records
    return _with_record(_attempts(reversed(events)), job)


def job_retries_left(job: Job) -> int:
    """How many more attempts may be lost with their agents before the job fails."""
    return max(0, int(job.retries) - int(job.lost_attempts))


def _attempts(events: Iterable[Any]) -> dict[int, JobAttempt]:
    """What the events of a job, the oldest first, say about its attempts."""
    found: dict[int, JobAttempt] = {}
    canceller = None
    for event in events:
        detail = event.detail or {}
        number = int(detail.get("attempt") or 0)
        known = found.get(number)
        match event.action:
            case Action.JOB_CLAIMED:
                # The event of a claim names the attempt that it makes.
                found[number] = JobAttempt(number, event.actor_id, event.actor_name, event.at)
            case Action.JOB_STARTED if known:
                found[number] = replace(known, started_at=event.at)
            case Action.JOB_RESUMED if known:
                found[number] = replace(known, ended_at=None, outcome=None, end=None, reason=None)
            case Action.JOB_REQUEUED if known:
                end, reason = _unreported(detail.get("reason"), AttemptEnd.LOST)
                found[number] = replace(known, ended_at=event.at, outcome="queued", end=end, reason=reason)
            case Action.JOB_CANCEL_REQUESTED:
                canceller = event.actor_name
            case Action.JOB_CANCELLED if found:
                _cancelled(found, event)
            case Action.JOB_FINISHED | Action.JOB_OUTCOME_REPLACED if known:
                found[number] = _finished(known, event, canceller)
    return found


def _cancelled(found: dict[int, JobAttempt], event: Any) -> None:
    """A cancelled job that was not running: its last attempt ends, unless it had ended before."""
    last = found[max(found)]
    if last.ended_at is None:
        reason = f"cancelled by {event.actor_name}"
        found[last.number] = replace(
            last, ended_at=event.at, outcome=Status.CANCELLED, end=AttemptEnd.CANCELLED, reason=reason
        )


def _finished(attempt: JobAttempt, event: Any, canceller: str | None) -> JobAttempt:
    """The attempt with the end that its agent has reported, or that the control plane has made."""
    detail = event.detail or {}
    reason: str | None
    if detail.get("reason"):
        end, reason = _unreported(detail["reason"], _end_without_report(event.result, detail["reason"]))
    else:
        end = AttemptEnd(event.result)
        reason = _reported(end, exit_code=detail.get("exit_code"), message=None)
        if end == AttemptEnd.CANCELLED and canceller:
            reason = f"cancelled by {canceller}"
    return replace(attempt, ended_at=event.at, outcome=event.result, end=end, reason=reason)


def _end_without_report(outcome: str, reason: str) -> AttemptEnd:
    """What ended an attempt about which its agent has reported nothing: a limit, a cancel request, or its loss.

    The reasons of the first two are sentences.
    """
    if outcome == Status.TIMED_OUT:
        return AttemptEnd.TIMED_OUT
    return AttemptEnd.CANCELLED if outcome == Status.CANCELLED and reason.endswith(".") else AttemptEnd.LOST


def _unreported(reason: str | None, otherwise: AttemptEnd) -> tuple[AttemptEnd, str]:
    """The end that a reason of the audit trail is about, and the reason in words."""
    text = reason or ""
    fault = _FAULT.fullmatch(text)
    if fault:
        return AttemptEnd.AGENT_FAULT, _words(AttemptEnd.AGENT_FAULT, fault[1])
    if text.startswith(REASON_MOVED):
        labels = text.removeprefix(REASON_MOVED)
        return AttemptEnd.MOVED, _words(AttemptEnd.MOVED, f"needs label{'s' if ',' in labels else ''} {labels}")
    if text == REASON_NOT_STARTED or text.startswith(REASON_GATES):
        return AttemptEnd.NOT_STARTED, _words(AttemptEnd.NOT_STARTED, text)
    if text.startswith(REASON_SILENT):
        text = f"no heartbeat for {text.removeprefix(REASON_SILENT)}"
    return otherwise, _words(otherwise, text)


def _reported(end: AttemptEnd, *, exit_code: float | None, message: str | None) -> str | None:
    """Why an attempt ended whose agent has reported its end. None for one that has completed."""
    if end == AttemptEnd.COMPLETED:
        return None
    if end == AttemptEnd.FAILED and exit_code is not None:
        return _words(end, f"exit code {int(exit_code)}")
    # Of a list, the first entry.
    return _words(end, " ".join((message or "").splitlines()[:2]))


def _words(end: AttemptEnd, why: str) -> str:
    return f"{_WORDS[end]}: {why.removesuffix('.')}" if why else _WORDS[end]


def _with_record(found: dict[int, JobAttempt], job: Job) -> list[JobAttempt]:
    """The attempts, with what the job itself says about the last one."""
    number = int(job.attempt)
    last = found.get(number) or JobAttempt(number, job.agent_id or job.lost_agent_id, job.agent_name, job.assigned_at)
    if job.agent_id and job.status in LEASED | FINAL:
        last = replace(
            last,
            agent_id=job.agent_id,
            agent_name=job.agent_name or last.agent_name,
            assigned_at=job.assigned_at,
            started_at=job.started_at,
        )
        last = _ended(last, job) if job.status in FINAL else replace(last, ended_at=None, outcome=None, end=None)
    elif last.end is None:
        # The event of its end is not in the index yet.
        faults = [fault["reason"] for fault in job.faults or [] if fault["attempt"] == number]
        end = AttemptEnd.AGENT_FAULT if faults else AttemptEnd.LOST if job.lost_agent_id else None
        reason = _words(end, "".join(faults)) if end else None
        last = replace(
            last, started_at=last.started_at or job.lost_started_at, outcome="queued", end=end, reason=reason
        )
    return [*(found[earlier] for earlier in sorted(found) if earlier < number), last]


def _ended(attempt: JobAttempt, job: Job) -> JobAttempt:
    """The attempt with which the job has ended."""
    end, reason = attempt.end, attempt.reason
    lost = f"Attempt {attempt.number} was lost: "
    if end is None and (job.error_message or "").startswith(lost):
        end, reason = _unreported(job.error_message.removeprefix(lost).removesuffix("."), AttemptEnd.LOST)
    if end in (None, AttemptEnd.FAILED, AttemptEnd.TIMED_OUT):
        end = AttemptEnd(job.status)
        reason = _reported(end, exit_code=job.exit_code, message=job.error_message)
    return replace(attempt, ended_at=job.completed_at, outcome=str(job.status), end=end, reason=reason)
