"""Whether an agent's machine gets work: by its report, and by how its last attempts ended."""

from datetime import timedelta
from typing import Any

import pytest

from apps.agents.models import Heartbeat
from apps.agents.services.fitness import unfit_reason
from controlplane.lib import clock


def heartbeat(**members: Any) -> Heartbeat:
    return Heartbeat("01kahtnvg00000000000000000", at=ago(0), status="healthy", **members)


def ago(seconds: float) -> str:
    return clock.timestamp(clock.now() - timedelta(seconds=seconds))


def reason(disk: float = 50, fault: str | None = None, **members: Any) -> str | None:
    return unfit_reason(heartbeat(**members), {"disk_percent": disk, "fault": fault})


def test_a_machine_that_reports_a_fault_is_unfit_for_this_reason() -> None:
    assert reason(fault="git is missing.") == "git is missing."
    assert reason() is None
    assert reason(fault="") is None


@pytest.mark.parametrize(("disk", "fit"), [(94.9, True), (95, False), (100, False)])
def test_a_full_disk_is_unfit(disk: float, fit: bool) -> None:
    assert (reason(disk) is None) is fit
    assert fit or "The disk is full: 95 % or more" in str(reason(disk))


def test_a_disk_that_was_full_needs_some_room_first() -> None:
    assert reason(93, status_reason="The disk is full.") is not None
    assert reason(92.9, status_reason="The disk is full.") is None


@pytest.mark.parametrize(("count", "seconds", "fit"), [(2, 0, True), (3, 0, False), (3, 299, False), (3, 301, True)])
def test_three_failures_of_the_machine_in_a_row_pause_it_for_five_minutes(
    count: int, seconds: float, fit: bool
) -> None:
    found = reason(faults=count, fault_at=ago(seconds), fault_reason="no space")
    assert (found is None) is fit
    assert fit or found == "3 jobs in a row failed because of this machine. The last time: no space"


@pytest.mark.parametrize(("count", "seconds", "fit"), [(2, 0, True), (3, 0, False), (3, 299, False), (3, 301, True)])
def test_three_offers_in_a_row_that_it_did_not_start_pause_it_for_five_minutes(
    count: int, seconds: float, fit: bool
) -> None:
    found = reason(ignored=count, ignored_at=ago(seconds))
    assert (found is None) is fit
    assert fit or found == "The agent took 3 jobs in a row and did not start them."


def test_a_count_without_a_time_pauses_nothing() -> None:
    assert reason(faults=3, ignored=3) is None


@pytest.mark.parametrize(
    ("members", "limit"),
    [({}, 4), ({"faults": 2, "ignored": 2}, 4), ({"faults": 3}, 1), ({"ignored": 3}, 1), ({"faults": 9}, 1)],
)
def test_a_machine_that_must_prove_itself_gets_one_job_at_a_time(members: dict[str, int], limit: int) -> None:
    assert heartbeat(**members).lease_limit(4) == limit
