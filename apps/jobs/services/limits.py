"""For how long an attempt may run, and what becomes of its steps when the control plane ends it."""

from collections.abc import Iterable, Mapping
from typing import Any

from apps.jobs.states import Status, StepState
from apps.pipelines.definitions import DEFAULT_TIMEOUT_SECONDS, MAX_TIMEOUT_SECONDS


def time_limit(timeout: float | None) -> int:
    """The limit of an attempt in seconds. `timeout` is its definition's, None without one.

    Definitions from before the limit of 24 hours may have a longer one.
    """
    return DEFAULT_TIMEOUT_SECONDS if timeout is None else min(int(timeout), MAX_TIMEOUT_SECONDS)


def steps_ended(steps: Iterable[Mapping[str, Any]], *, end: Status) -> list[dict[str, Any]]:
    """The reported steps of an attempt that the control plane ends as `end`: timed out or cancelled."""
    running = StepState.TIMED_OUT if end == Status.TIMED_OUT else StepState.CANCELLED
    after = {StepState.RUNNING: running, StepState.PENDING: StepState.SKIPPED}
    return [{**step, "state": str(after.get(step["state"], step["state"]))} for step in steps]
