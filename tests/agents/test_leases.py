"""The leases of an agent."""

from collections.abc import Callable
from datetime import timedelta
from functools import partial

import pytest

from apps.agents.models import Heartbeat, Lease
from apps.agents.services import (
    End,
    LeaseEnd,
    lease_add,
    lease_limit,
    lease_remove,
    lease_request_cancel,
    lease_restore,
    lease_start,
)
from controlplane.lib import clock
from controlplane.lib.ids import new_id
from controlplane.nosql.transaction import Transaction, TransactionFailed

pytestmark = pytest.mark.usefixtures("tables")

JOB = "01kahtnvg00000000000000000"
AT = "2026-11-21T09:35:37.000000Z"


@pytest.fixture
def agent_id() -> str:
    heartbeat = Heartbeat(new_id(), at=clock.timestamp(clock.now()), status="healthy")
    heartbeat.save()
    return str(heartbeat.agent_id)


def leases(agent_id: str) -> dict[str, Lease]:
    heartbeat = Heartbeat.find(agent_id)
    assert heartbeat is not None
    return heartbeat.leases


def commit(operation: Callable[..., None], **arguments: object) -> None:
    tx = Transaction()
    operation(tx, **arguments)
    tx.commit()


start_in_an_hour = partial(lease_start, limit=3600)


def refused(operation: Callable[..., None], **arguments: object) -> Heartbeat | None:
    with pytest.raises(TransactionFailed) as caught:
        commit(operation, **arguments)
    existing = caught.value.failed["heartbeat"]
    assert existing is None or isinstance(existing, Heartbeat)
    return existing


def test_an_agent_takes_a_job_starts_it_and_gives_it_back(agent_id: str) -> None:
    commit(lease_add, agent_id=agent_id, job_id=JOB, attempt=1, at=AT, slots=4)
    assert leases(agent_id) == {JOB: Lease(attempt=1, at=AT, started=False)}
    with clock.shifted(timedelta(seconds=7)):
        commit(lease_start, agent_id=agent_id, job_id=JOB, attempt=1, limit=3600)
    running = leases(agent_id)[JOB]
    assert (running.attempt, running.started, running.limit) == (1, True, 3600)
    assert running.at > AT, "the lease begins again when the job starts"
    commit(lease_remove, agent_id=agent_id, job_id=JOB, attempt=1)
    assert leases(agent_id) == {}


def test_a_cancel_request_is_stored_with_the_lease(agent_id: str) -> None:
    commit(lease_add, agent_id=agent_id, job_id=JOB, attempt=2, at=AT, slots=4)
    commit(lease_request_cancel, agent_id=agent_id, job_id=JOB, attempt=2)
    assert leases(agent_id)[JOB].command == "cancel"


def test_a_second_lease_of_a_job_is_refused_and_the_refusal_shows_the_existing_one(agent_id: str) -> None:
    commit(lease_add, agent_id=agent_id, job_id=JOB, attempt=1, at=AT, slots=4)
    existing = refused(lease_add, agent_id=agent_id, job_id=JOB, attempt=2, at=AT, slots=4)
    assert existing is not None
    assert existing.leases[JOB].attempt == 1


def test_an_unknown_agent_takes_nothing() -> None:
    assert refused(lease_add, agent_id=new_id(), job_id=JOB, attempt=1, at=AT, slots=4) is None


@pytest.mark.parametrize("status", ["draining", "retired"])
def test_a_leaving_agent_takes_nothing(agent_id: str, status: str) -> None:
    Heartbeat(agent_id).update(actions=[Heartbeat.status.set(status)])
    existing = refused(lease_add, agent_id=agent_id, job_id=JOB, attempt=1, at=AT, slots=4)
    assert existing is not None
    assert existing.status == status


@pytest.mark.parametrize("operation", [start_in_an_hour, lease_remove, lease_request_cancel])
@pytest.mark.parametrize("attempt", [1, 3])
def test_another_attempt_is_left_alone(agent_id: str, operation: Callable[..., None], attempt: int) -> None:
    commit(lease_add, agent_id=agent_id, job_id=JOB, attempt=2, at=AT, slots=4)
    refused(operation, agent_id=agent_id, job_id=JOB, attempt=attempt)
    assert leases(agent_id) == {JOB: Lease(attempt=2, at=AT, started=False)}


@pytest.mark.parametrize("operation", [start_in_an_hour, lease_remove, lease_request_cancel])
def test_a_job_without_a_lease_cannot_be_started_or_given_back(agent_id: str, operation: Callable[..., None]) -> None:
    refused(operation, agent_id=agent_id, job_id=JOB, attempt=1)
    assert leases(agent_id) == {}


def test_a_lease_that_ran_out_ends_unless_a_heartbeat_came_in_between(agent_id: str) -> None:
    commit(lease_add, agent_id=agent_id, job_id=JOB, attempt=1, at=AT, slots=4)
    heartbeat = Heartbeat.find(agent_id)
    assert heartbeat is not None
    seen = heartbeat.at
    Heartbeat(agent_id).update(actions=[Heartbeat.at.set("2026-11-21T10:00:00.000000Z")])
    refused(lease_remove, agent_id=agent_id, job_id=JOB, attempt=1, end=LeaseEnd(heartbeat_at=seen))
    assert JOB in leases(agent_id)
    in_time = LeaseEnd(heartbeat_at="2026-11-21T10:00:00.000000Z")
    commit(lease_remove, agent_id=agent_id, job_id=JOB, attempt=1, end=in_time)
    assert leases(agent_id) == {}


# --- room, and agents that take no work -----------------------------------------------------------------------------


def test_an_agent_has_no_more_leases_than_slots(agent_id: str) -> None:
    for number in range(2):
        commit(lease_add, agent_id=agent_id, job_id=f"job-{number}", attempt=1, at=AT, slots=2)
    refused(lease_add, agent_id=agent_id, job_id="job-2", attempt=1, at=AT, slots=2)
    assert sorted(leases(agent_id)) == ["job-0", "job-1"]
    commit(lease_add, agent_id=agent_id, job_id="job-2", attempt=1, at=AT, slots=3)


def test_an_agent_whose_machine_is_unfit_takes_nothing(agent_id: str) -> None:
    Heartbeat(agent_id).update(actions=[Heartbeat.status_reason.set("The disk is full.")])
    refused(lease_add, agent_id=agent_id, job_id=JOB, attempt=1, at=AT, slots=4)
    assert leases(agent_id) == {}


# --- leases that are restored ---------------------------------------------------------------------------------------


def test_a_lost_lease_is_restored_as_it_was(agent_id: str) -> None:
    commit(lease_restore, agent_id=agent_id, job_id=JOB, attempt=2, at=AT, limit=60)
    assert leases(agent_id) == {JOB: Lease(attempt=2, at=AT, started=True, limit=60)}


def test_a_lease_that_had_no_limit_and_was_not_started_is_restored_without(agent_id: str) -> None:
    commit(lease_restore, agent_id=agent_id, job_id=JOB, attempt=2, at=AT, started=False)
    assert leases(agent_id) == {JOB: Lease(attempt=2, at=AT, started=False)}


def test_a_lease_is_restored_with_a_command_and_its_time(agent_id: str) -> None:
    before = clock.timestamp(clock.now())
    commit(lease_restore, agent_id=agent_id, job_id=JOB, attempt=2, at=AT, command="cancel")
    lease = leases(agent_id)[JOB]
    assert lease.command == "cancel"
    assert lease.command_at is not None
    assert before <= lease.command_at <= clock.timestamp(clock.now())


def test_a_lease_is_not_restored_over_another_or_for_an_unknown_agent(agent_id: str) -> None:
    commit(lease_add, agent_id=agent_id, job_id=JOB, attempt=3, at=AT, slots=4)
    refused(lease_restore, agent_id=agent_id, job_id=JOB, attempt=2, at=AT)
    assert leases(agent_id)[JOB].attempt == 3
    unknown = new_id()
    assert refused(lease_restore, agent_id=unknown, job_id=JOB, attempt=2, at=AT) is None
    assert Heartbeat.find(unknown) is None


# --- limits and cancel requests -------------------------------------------------------------------------------------


def test_a_limit_is_set_for_the_attempt_that_has_the_lease(agent_id: str) -> None:
    commit(lease_add, agent_id=agent_id, job_id=JOB, attempt=2, at=AT, slots=4)
    commit(lease_limit, agent_id=agent_id, job_id=JOB, attempt=2, limit=60)
    for attempt in (1, 3):
        refused(lease_limit, agent_id=agent_id, job_id=JOB, attempt=attempt, limit=5)
    assert leases(agent_id)[JOB].limit == 60


def test_a_cancel_request_has_its_time(agent_id: str) -> None:
    commit(lease_add, agent_id=agent_id, job_id=JOB, attempt=2, at=AT, slots=4)
    before = clock.timestamp(clock.now())
    commit(lease_request_cancel, agent_id=agent_id, job_id=JOB, attempt=2)
    asked = leases(agent_id)[JOB].command_at
    assert asked is not None
    assert before <= asked <= clock.timestamp(clock.now())


# --- what the end of a lease says about the machine -----------------------------------------------------------------


def counted(agent_id: str) -> tuple[int, int]:
    heartbeat = Heartbeat.get(agent_id)
    return int(heartbeat.faults), int(heartbeat.ignored)


def lease_and_end(agent_id: str, end: LeaseEnd, *, starts: bool = False) -> None:
    commit(lease_add, agent_id=agent_id, job_id=JOB, attempt=1, at=AT, slots=4)
    if starts:
        commit(start_in_an_hour, agent_id=agent_id, job_id=JOB, attempt=1)
    commit(lease_remove, agent_id=agent_id, job_id=JOB, attempt=1, end=end)


def test_failures_of_the_machine_are_counted_until_a_job_has_run(agent_id: str) -> None:
    for number in (1, 2, 3):
        lease_and_end(agent_id, LeaseEnd(End.FAULT, reason=f"reason {number}"))
        assert counted(agent_id) == (number, 0)
    heartbeat = Heartbeat.get(agent_id)
    assert heartbeat.fault_reason == "reason 3"
    assert abs(clock.now() - clock.parse_timestamp(heartbeat.fault_at)) < timedelta(seconds=10)
    lease_and_end(agent_id, LeaseEnd())
    assert counted(agent_id) == (3, 0)
    lease_and_end(agent_id, LeaseEnd(End.RAN))
    assert counted(agent_id) == (0, 0)


def test_offers_that_the_agent_does_not_start_are_counted_until_it_starts_one(agent_id: str) -> None:
    for number in (1, 2, 3):
        lease_and_end(agent_id, LeaseEnd(End.IGNORED))
        assert counted(agent_id) == (0, number)
    ignored_at = Heartbeat.get(agent_id).ignored_at
    assert abs(clock.now() - clock.parse_timestamp(ignored_at)) < timedelta(seconds=10)
    lease_and_end(agent_id, LeaseEnd(), starts=True)
    assert counted(agent_id) == (0, 0)
