"""Checking what agents send about their attempts. Plain functions, since these endpoints are called all the time."""

from collections.abc import Mapping
from typing import Any

from apps.jobs.services import AttemptResult
from apps.jobs.states import StepState
from controlplane.lib import clock
from controlplane.lib.errors import InvalidInput

MAX_STEPS = 100
MAX_STEP_NAME = 100
# What an agent says went wrong is cut to this many characters, so that a job's item stays small.
MAX_ERROR_MESSAGE = 1000
_MAX_LOG_CHUNKS = 10_000_000


def attempt_number(body: Mapping[str, Any]) -> int:
    """The number of the attempt that the request is about. Raises InvalidInput."""
    return _integer(body.get("attempt"), "attempt", least=1, most=1_000_000)


def optional_text(body: Mapping[str, Any], field: str, *, longest: int) -> str | None:
    """A text that may be missing or null. Raises InvalidInput when it is of another type or too long."""
    value = body.get(field)
    if value is not None and not isinstance(value, str):
        raise InvalidInput.field(field, "is a text or null")
    if value is not None and len(value) > longest:
        raise InvalidInput.field(field, f"has at most {longest} characters")
    return value


def attempt_result(body: Mapping[str, Any]) -> AttemptResult:
    """How an attempt ended. Raises InvalidInput naming the field."""
    error_message = body.get("error_message")
    if error_message is not None and not isinstance(error_message, str):
        raise InvalidInput.field("error_message", "is a text or null")
    return AttemptResult(
        exit_code=_exit_code(body.get("exit_code"), "exit_code"),
        error_message=error_message[:MAX_ERROR_MESSAGE] if error_message else None,
        steps=_steps(body.get("steps")),
        log_chunks=_integer(body.get("log_chunks"), "log_chunks", least=0, most=_MAX_LOG_CHUNKS),
        commit=optional_text(body, "commit", longest=64),
    )


def _steps(value: Any) -> list[dict[str, Any]]:
    if value is None:
        return []
    if not isinstance(value, list) or len(value) > MAX_STEPS:
        raise InvalidInput.field("steps", f"is a list of at most {MAX_STEPS} steps")
    return [_step(step, f"steps[{index}]") for index, step in enumerate(value)]


def _step(step: Any, field: str) -> dict[str, Any]:
    if not isinstance(step, dict):
        raise InvalidInput.field(field, "is an object")
    name, state = step.get("name"), step.get("state")
    if not isinstance(name, str) or not 1 <= len(name) <= MAX_STEP_NAME:
        raise InvalidInput.field(f"{field}.name", f"is a text of 1 to {MAX_STEP_NAME} characters")
    if not isinstance(state, str) or state not in set(StepState):
        raise InvalidInput.field(f"{field}.state", f"is one of {', '.join(StepState)}")
    exit_code = _exit_code(step.get("exit_code"), f"{field}.exit_code")
    times = {name: _time(step.get(name), f"{field}.{name}") for name in ("started_at", "completed_at")}
    return {"name": name, "state": state, "exit_code": exit_code, **times}


def _time(value: Any, field: str) -> str | None:
    if value is None:
        return None
    try:
        moment = clock.parse_timestamp(value)
        if moment.tzinfo is not None:
            return clock.timestamp(moment)
    except (TypeError, ValueError, OverflowError):
        # The first and the last day there are overflow in another time zone.
        pass
    raise InvalidInput.field(field, "is a date and time with its time zone as in RFC 3339, or null")


def _exit_code(value: Any, field: str) -> int | None:
    # Negative for a signal; Windows knows codes of 32 bits.
    return None if value is None else _integer(value, field, least=-(2**31), most=2**32)


def _integer(value: Any, field: str, *, least: int, most: int) -> int:
    # A bool is an int in Python, but not in JSON.
    if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
        raise InvalidInput.field(field, f"is a whole number from {least} to {most}")
    return value
