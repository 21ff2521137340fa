"""The story of a job on its page: its attempts, what it waits for, and its retries."""

from collections.abc import Sequence
from typing import Any

from apps.jobs.selectors import JobAttempt, Waiting, WaitingCode, job_waits
from apps.jobs.states import FINAL, Status
from apps.pipelines.definitions import GUIDE_PATH

# What a person has to change, or the job waits for ever.
_NEEDS_A_PERSON = frozenset(WaitingCode) - {
    WaitingCode.AGENTS_AVAILABLE,
    WaitingCode.AGENTS_BUSY,
    WaitingCode.AGENTS_AVOIDED,
    WaitingCode.BEING_CLAIMED,
    WaitingCode.ENVIRONMENT_BUSY,
    WaitingCode.FROZEN,
    WaitingCode.WAIT_TIMER,
    WaitingCode.NEEDS,
    WaitingCode.GROUP_HELD,
    WaitingCode.MAX_PARALLEL,
    WaitingCode.RUN_IS_MADE,
    WaitingCode.BEING_QUEUED,
}


def needs_a_person(waiting: Waiting) -> bool:
    """Whether a person has to change something, or the job waits for ever."""
    return waiting.code in _NEEDS_A_PERSON


def job_story(job: Any, attempts: Sequence[JobAttempt]) -> dict[str, Any]:
    """What the page shows about the job's past and about what happens next, besides its attempts."""
    waiting = job_waits(job)
    return {
        "last_attempt": attempts[-1] if attempts else None,
        "waiting": waiting,
        "needs_a_person": waiting is not None and needs_a_person(waiting),
        "state_words": _state_words(job),
        # The message about a file of another product names the guide.
        "guide": GUIDE_PATH if GUIDE_PATH in (job.error_message or "") else None,
    }


def _state_words(job: Any) -> str:
    """The job's state as its title has it."""
    if job.cancel_requested and job.status not in FINAL:
        return "Cancelling"
    if job.status == Status.QUEUED and job.attempt:
        return "Queued again"
    return str(job.status).replace("_", " ").capitalize()
