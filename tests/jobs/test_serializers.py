"""What is stored of an agent's report, and in which form. What is refused is shown over HTTP."""

from typing import Any

import pytest

from apps.jobs.serializers.agent_protocol import FINISH, MAX_ERROR_MESSAGE, attempt_result
from apps.jobs.serializers.jobs import MAX_ENV_BYTES, JobCreateSerializer
from apps.jobs.services import AttemptResult
from controlplane.http.requests import body_validated

DONE: dict[str, Any] = {"attempt": 1, "exit_code": 0, "log_chunks": 3}


def result_of(report: dict[str, Any]) -> AttemptResult:
    return attempt_result(FINISH.check(report))


def test_a_result_may_leave_out_what_there_is_not() -> None:
    result = result_of(DONE)
    assert (result.exit_code, result.log_chunks) == (0, 3)
    assert (result.error_message, result.steps, result.commit) == (None, [], None)


@pytest.mark.parametrize(
    ("sent", "kept"),
    [
        ("2026-11-21T09:00:00Z", "2026-11-21T09:00:00.000000Z"),
        ("2026-11-21T10:00:00.25+01:00", "2026-11-21T09:00:00.250000Z"),
        ("2026-11-21T00:30:00.123456-09:30", "2026-11-21T10:00:00.123456Z"),
        (None, None),
    ],
)
def test_moments_are_kept_in_one_form(sent: str | None, kept: str | None) -> None:
    step = {"name": "lint", "state": "running", "started_at": sent}
    assert result_of({**DONE, "steps": [step]}).steps == [
        {"name": "lint", "state": "running", "exit_code": None, "started_at": kept, "completed_at": None}
    ]


def test_what_else_a_step_says_is_not_kept() -> None:
    step = {"name": "lint", "state": "completed", "exit_code": 0, "secret": "x" * 1000}
    assert set(result_of({**DONE, "steps": [step]}).steps[0]) == {
        "name",
        "state",
        "exit_code",
        "started_at",
        "completed_at",
    }


def test_an_empty_error_message_is_none_and_a_long_one_is_cut() -> None:
    assert result_of({**DONE, "error_message": ""}).error_message is None
    cut = result_of({**DONE, "error_message": "x" * 5000}).error_message
    assert cut == "x" * MAX_ERROR_MESSAGE


def test_the_environment_may_be_as_large_as_is_said() -> None:
    env = {"A": "é" * ((MAX_ENV_BYTES - 2) // 2), "B": ""}
    assert body_validated({"env": env}, JobCreateSerializer)["env"] == env
