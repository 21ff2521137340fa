"""Single values of a JSON object, for endpoints that are called all the time and do without DRF.

Each function returns what it was given, checked, or raises InvalidInput that names the field.
"""

from collections.abc import Collection
from typing import Any

from controlplane.lib import clock
from controlplane.lib.errors import InvalidInput

MAX_STEPS = 100
MAX_STEP_NAME = 100


def whole_number(value: Any, field: str, *, least: int, most: int) -> int:
    """A number without a fraction, from `least` to `most`."""
    # A bool is an int in Python, but not in JSON.
    if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
        raise InvalidInput.field(field, f"is a whole number from {least} to {most}")
    return value


def optional_text(value: Any, field: str, *, longest: int | None = None) -> str | None:
    """A text of at most `longest` characters, or null."""
    if value is not None and not isinstance(value, str):
        raise InvalidInput.field(field, "is a text or null")
    if value is not None and longest is not None and len(value) > longest:
        raise InvalidInput.field(field, f"has at most {longest} characters")
    return value


def optional_time(value: Any, field: str) -> str | None:
    """A date and time with its time zone (RFC 3339), as a timestamp of ours, or null."""
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


def exit_code(value: Any, field: str) -> int | None:
    """How a process ended, or null. Negative for a signal; Windows knows codes of 32 bits."""
    return None if value is None else whole_number(value, field, least=-(2**31), most=2**32)


def steps(value: Any, field: str, *, states: Collection[str]) -> list[dict[str, Any]]:
    """The steps of an attempt with where they stand, which is one of `states`, as agents report them."""
    if not isinstance(value, list) or len(value) > MAX_STEPS:
        raise InvalidInput.field(field, f"is a list of at most {MAX_STEPS} steps")
    return [_step(step, f"{field}[{number}]", states) for number, step in enumerate(value)]


def _step(step: Any, field: str, states: Collection[str]) -> dict[str, Any]:
    if not isinstance(step, dict):
        raise InvalidInput.field(field, "is an object")
    name, state = step.get("name"), step.get("state")
    if not isinstance(name, str) or not 1 <= len(name) <= MAX_STEP_NAME:
        raise InvalidInput.field(f"{field}.name", f"is a text of 1 to {MAX_STEP_NAME} characters")
    if not isinstance(state, str) or state not in states:
        raise InvalidInput.field(f"{field}.state", f"is one of {', '.join(states)}")
    return {
        "name": name,
        "state": state,
        "exit_code": exit_code(step.get("exit_code"), f"{field}.exit_code"),
        "started_at": optional_time(step.get("started_at"), f"{field}.started_at"),
        "completed_at": optional_time(step.get("completed_at"), f"{field}.completed_at"),
    }
