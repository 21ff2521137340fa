"""The time limit of an attempt, and its steps when the control plane ends it."""

import pytest

from apps.jobs.services.limits import steps_ended, time_limit
from apps.jobs.services.steps import steps_of
from apps.jobs.states import Status


@pytest.mark.parametrize(
    ("timeout", "limit"), [(None, 3600), (0, 0), (1, 1), (77.9, 77), (86_400, 86_400), (86_401, 86_400)]
)
def test_a_limit_is_an_hour_by_default_and_a_day_at_most(timeout: float | None, limit: int) -> None:
    assert time_limit(timeout) == limit


@pytest.mark.parametrize(("end", "running"), [(Status.TIMED_OUT, "timed_out"), (Status.CANCELLED, "cancelled")])
def test_of_an_ended_attempt_the_running_step_has_its_end_and_those_after_it_are_skipped(
    end: Status, running: str
) -> None:
    states = ["completed", "failed", "running", "pending", "skipped"]
    steps = [{"name": state, "state": state, "exit_code": 1} for state in states]
    ended = steps_ended(steps, end=end)
    assert [step["state"] for step in ended] == ["completed", "failed", running, "skipped", "skipped"]
    assert [{**step, "state": ""} for step in ended] == [{**step, "state": ""} for step in steps]


def test_the_steps_of_a_definition_are_pending() -> None:
    definition = {"steps": [{"name": "lint", "run": "make"}, {"name": "test", "run": "make"}]}
    assert steps_of(definition) == [{"name": "lint", "state": "pending"}, {"name": "test", "state": "pending"}]
