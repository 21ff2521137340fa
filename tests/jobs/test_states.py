"""What may happen to a job, and what the end of an attempt makes of it."""

import pytest

from apps.jobs.states import (
    FINAL,
    LEASED,
    LOST,
    OPEN,
    Status,
    StepState,
    late_transition_require,
    may_follow,
    status_after_finish,
    status_after_loss,
    transition_require,
)
from controlplane.lib.errors import Conflict

ALLOWED = {
    ("waiting", "queued"),
    ("waiting", "cancelled"),
    ("waiting", "skipped"),
    ("waiting", "failed"),
    ("waiting", "completed"),
    ("queued", "assigned"),
    ("queued", "cancelled"),
    ("queued", "failed"),
    ("assigned", "running"),
    ("assigned", "queued"),
    ("assigned", "waiting"),
    ("assigned", "cancelled"),
    ("assigned", "failed"),
    ("running", "queued"),
    ("running", "completed"),
    ("running", "failed"),
    ("running", "cancelled"),
    ("running", "timed_out"),
}


def test_these_transitions_are_possible_and_no_others() -> None:
    assert {(str(a), str(b)) for a in Status for b in Status if may_follow(a, b)} == ALLOWED


def test_nothing_follows_an_end() -> None:
    for end in FINAL:
        for after in Status:
            with pytest.raises(Conflict) as refused:
                transition_require(end, after)
            assert refused.value.code == "job_finished"
            assert end.value in refused.value.message


def test_a_transition_that_is_not_possible_is_refused_with_both_states() -> None:
    with pytest.raises(Conflict) as refused:
        transition_require(Status.QUEUED, Status.RUNNING)
    assert refused.value.code == "job_state"
    assert "queued" in refused.value.message
    assert "running" in refused.value.message
    transition_require(Status.ASSIGNED, Status.RUNNING)


def test_a_late_report_ends_a_job_that_waits_or_has_failed_and_resumes_one_that_waits() -> None:
    ends = FINAL - {Status.SKIPPED}
    allowed = {(before, after) for before in ("queued", "failed") for after in ends} | {("queued", "running")}
    for before in Status:
        for after in Status:
            if (before, after) in allowed:
                late_transition_require(before, after)
                continue
            with pytest.raises(Conflict, match=f"A job that is {before} cannot become {after}.") as refused:
                late_transition_require(before, after)
            assert refused.value.code == "job_state"
    assert {"queued", "failed"} == LOST


def test_every_status_is_open_or_final_and_statuses_with_a_lease_are_open() -> None:
    assert set(Status) == OPEN | FINAL
    assert not OPEN & FINAL
    assert LEASED < OPEN


def test_every_open_job_can_come_to_an_end_and_only_one_that_waits_is_skipped() -> None:
    for status in OPEN:
        reachable = {status}
        while grown := {after for before in reachable for after in Status if may_follow(before, after)} - reachable:
            reachable |= grown
        assert reachable >= (FINAL if status == Status.WAITING else FINAL - {Status.SKIPPED}), status


@pytest.mark.parametrize(
    ("exit_code", "error", "states", "cancel", "expected"),
    [
        (0, None, [], False, Status.COMPLETED),
        (0, "", [StepState.COMPLETED], False, Status.COMPLETED),
        # It was too late for the command.
        (0, None, [StepState.COMPLETED], True, Status.COMPLETED),
        (0, "the workspace is gone", [], False, Status.FAILED),
        (1, None, [StepState.FAILED], False, Status.FAILED),
        (None, None, [], False, Status.FAILED),
        (None, "git failed", [], False, Status.FAILED),
        (143, None, [StepState.COMPLETED, StepState.TIMED_OUT], False, Status.TIMED_OUT),
        (None, "too slow", [StepState.TIMED_OUT, StepState.SKIPPED], False, Status.TIMED_OUT),
        (143, None, [StepState.CANCELLED], True, Status.CANCELLED),
        (143, None, [StepState.TIMED_OUT], True, Status.CANCELLED),
        # No user asked for that.
        (143, None, [StepState.CANCELLED], False, Status.FAILED),
    ],
)
def test_what_an_agent_reports_decides_the_end(
    exit_code: int | None, error: str | None, states: list[StepState], cancel: bool, expected: Status
) -> None:
    steps = [{"name": "step", "state": state.value} for state in states]
    ended = status_after_finish(exit_code=exit_code, error_message=error, steps=steps, cancel_requested=cancel)
    assert ended == expected
    assert may_follow(Status.RUNNING, ended)


@pytest.mark.parametrize(
    ("lost", "retries", "cancel", "expected"),
    [
        (1, 2, False, Status.QUEUED),
        (2, 2, False, Status.QUEUED),
        (3, 2, False, Status.FAILED),
        (1, 0, False, Status.FAILED),
        (1, 2, True, Status.CANCELLED),
        (3, 2, True, Status.CANCELLED),
    ],
)
def test_a_lost_attempt_is_repeated_as_often_as_the_pipeline_says(
    lost: int, retries: int, cancel: bool, expected: Status
) -> None:
    after = status_after_loss(lost_attempts=lost, retries=retries, cancel_requested=cancel)
    assert after == expected
    assert may_follow(Status.RUNNING, after)
    assert may_follow(Status.ASSIGNED, after)
