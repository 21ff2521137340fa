"""The attempts of a job as one chooses between their logs."""

from dataclasses import dataclass
from typing import Any

from apps.dashboard.templatetags.dashboard import span
from apps.jobs.selectors import JobAttempt
from apps.jobs.states import AttemptEnd, Status
from controlplane.lib import clock

# What became of an attempt; %s is its agent.
_ENDS = {
    AttemptEnd.COMPLETED: "completed on %s",
    AttemptEnd.FAILED: "failed on %s",
    AttemptEnd.TIMED_OUT: "timed out on %s",
    AttemptEnd.CANCELLED: "was cancelled on %s",
    AttemptEnd.LOST: "was lost with %s",
    AttemptEnd.MOVED: "was moved away from %s",
    AttemptEnd.AGENT_FAULT: "ended with a fault of %s",
    AttemptEnd.NOT_STARTED: "was not started by %s",
}


@dataclass(frozen=True)
class AttemptChoice:
    """An attempt: its number, its state (a word that the pages have a shape for), and what became of it, in words."""

    number: int
    state: str
    words: str
    reason: str | None


def attempt_choices(job: Any, attempts: list[JobAttempt]) -> list[AttemptChoice]:
    """All attempts of the job, the first one first. None while the first one goes on, or if it ended the job.

    The audit trail may not list an attempt yet, or no longer.
    """
    if int(job.attempt or 0) < 2 and job.status != Status.QUEUED:
        return []
    known = {attempt.number: attempt for attempt in attempts}
    return [_choice(number, known.get(number)) for number in range(1, int(job.attempt or 0) + 1)]


def attempt_began(job: Any, attempts: list[JobAttempt], number: int) -> str:
    """When the attempt began, or else an empty text."""
    found = next((attempt for attempt in attempts if attempt.number == number), None)
    if found is None:
        return str(job.started_at or "") if number == job.attempt else ""
    return found.started_at or found.assigned_at or ""


def _choice(number: int, attempt: JobAttempt | None) -> AttemptChoice:
    if attempt is None:
        return AttemptChoice(number, "pending", "", None)
    agent = f"agent {attempt.agent_name or attempt.agent_id or 'unknown'}"
    if attempt.outcome is None:
        if attempt.started_at is None:
            return AttemptChoice(number, "assigned", f"was offered to {agent}", None)
        return AttemptChoice(number, "running", f"runs on {agent}", None)
    if attempt.end is None:
        # The trail does not say yet how it ended.
        return AttemptChoice(number, "lost", f"ended on {agent}{_after(attempt)}", None)
    return AttemptChoice(number, attempt.end, _ENDS[attempt.end] % agent + _after(attempt), attempt.why)


def _after(attempt: JobAttempt) -> str:
    began = attempt.started_at or attempt.assigned_at
    if not began or not attempt.ended_at:
        return ""
    seconds = (clock.parse_timestamp(attempt.ended_at) - clock.parse_timestamp(began)).total_seconds()
    return f" after {span(max(0.0, seconds))}"
