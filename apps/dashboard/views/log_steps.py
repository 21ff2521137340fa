"""The steps of an attempt's log: where each begins, and how it went."""

from collections.abc import Iterator
from typing import Any

from apps.dashboard.templatetags.dashboard import span
from apps.jobs.selectors import AttemptLog
from apps.jobs.states import FINAL, StepState
from controlplane.lib import clock

# The states that the page can show. A step is lost that has not ended although its attempt has.
STATES = ("running", "completed", "failed", "timed_out", "cancelled", "lost")


def log_steps(log: AttemptLog) -> list[dict[str, Any]]:
    """The steps that have begun: the number, the line of the title, the state, the exit code, and what it took.

    Those of the attempt that ended the job are known from its report. Those of others are known from the log only: a
    step could print a false end there, but then only its own log is wrong.
    """
    steps = [dict(step) for step in log.job.steps or []]
    reported = steps if log.job.status in FINAL and log.attempt == log.job.attempt else []
    return [
        {"number": number, "line": line, **(_reported(reported, number) or _printed(log, number, line, following))}
        for number, line, following in _beginnings(log, len(steps))
    ]


def _beginnings(log: AttemptLog, known: int) -> Iterator[tuple[int, int, int]]:
    """The number of each step, its first line, and that of the next one. Steps that the job does not have are none."""
    found: list[tuple[int, int]] = []
    for number, line in sorted(log.index.steps.items()):
        if (not known or number <= known) and (not found or line > found[-1][1]):
            found.append((number, line))
    ends = [*(line for _, line in found[1:]), log.index.total + 1]
    for (number, line), following in zip(found, ends, strict=False):
        yield number, line, following


def _reported(steps: list[dict[str, Any]], number: int) -> dict[str, Any] | None:
    """What the agent's report says about a step, unless the step did not end."""
    step = steps[number - 1] if number <= len(steps) else {}
    if step.get("state") not in (StepState.COMPLETED, StepState.FAILED, StepState.TIMED_OUT, StepState.CANCELLED):
        return None
    began, ended = step.get("started_at"), step.get("completed_at")
    took = (clock.parse_timestamp(ended) - clock.parse_timestamp(began)).total_seconds() if began and ended else None
    return _shown(str(step["state"]), step.get("exit_code"), took)


def _printed(log: AttemptLog, number: int, line: int, following: int) -> dict[str, Any]:
    """What the log says about a step."""
    end = log.index.ends.get(number)
    if end is None or not line < end.line < following:
        goes_on = not log.complete and following > log.index.total
        return _shown("running" if goes_on else "lost", None, None)
    return _shown(*_outcome(end.outcome), end.seconds)


def _outcome(words: str) -> tuple[str, int | None]:
    if not words.startswith("exit code "):
        return words.replace(" ", "_"), None
    code = int(words.removeprefix("exit code "))
    return ("failed" if code else "completed"), code


def _shown(state: str, exit_code: int | None, took: float | None) -> dict[str, Any]:
    return {"state": state, "exit_code": exit_code, "took": None if took is None else span(max(0.0, took))}
