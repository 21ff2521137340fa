"""Checking what agents send about their attempts. Plain functions, since these endpoints are called all the time."""

from collections.abc import Mapping
from typing import Any

from apps.jobs.services import AttemptResult
from apps.jobs.states import StepState
from controlplane.http import json_values

# What an agent says went wrong is cut to this many characters, so that a job's item stays small.
MAX_ERROR_MESSAGE = 1000
_MAX_LOG_CHUNKS = 10_000_000
_STEP_STATES = [state.value for state in StepState]


def attempt_number(body: Mapping[str, Any]) -> int:
    """The number of the attempt that the request is about. Raises InvalidInput."""
    return json_values.whole_number(body.get("attempt"), "attempt", least=1, most=1_000_000)


def attempt_result(body: Mapping[str, Any]) -> AttemptResult:
    """How an attempt ended. Raises InvalidInput naming the field."""
    error_message = json_values.optional_text(body.get("error_message"), "error_message")
    steps = body.get("steps")
    return AttemptResult(
        exit_code=json_values.exit_code(body.get("exit_code"), "exit_code"),
        error_message=error_message[:MAX_ERROR_MESSAGE] if error_message else None,
        steps=[] if steps is None else json_values.steps(steps, "steps", states=_STEP_STATES),
        log_chunks=json_values.whole_number(body.get("log_chunks"), "log_chunks", least=0, most=_MAX_LOG_CHUNKS),
        commit=json_values.optional_text(body.get("commit"), "commit", longest=64),
    )
