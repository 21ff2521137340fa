"""Heartbeats: time moves only forward, a replay changes nothing, and one costs one write unit."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import pytest

from apps.agents.models import Agent, Heartbeat
from apps.agents.selectors import fleet_counts, identity_get
from apps.agents.serializers import heartbeat_report
from apps.agents.services import agent_drain, agent_retire, agents_mark_silent, heartbeat_record
from controlplane.lib import clock
from controlplane.lib.actor import Actor
from controlplane.lib.errors import Conflict, Forbidden, InvalidInput, NotFound, TooManyRequests
from controlplane.lib.ids import new_id
from controlplane.nosql.transaction import Transaction
from tests.agents.conftest import counters_are_right, stored_agent, stored_heartbeat
from tests.agents.interleaving import before_first
from tests.agents.machines import REPORT, Machine
from tests.agents.test_lost_answers import first_answer_lost
from tests.metering import dynamodb_calls

NOW = 1_800_000_000
JOB = "01kahtnvg00000000000000000"
STEPS: list[dict[str, Any]] = [
    {
        "name": "lint",
        "state": "completed",
        "exit_code": 0,
        "started_at": "2026-11-21T09:35:37.123000Z",
        "completed_at": "2026-11-21T09:35:39.000000Z",
    },
    {
        "name": "tests ☃",
        "state": "running",
        "exit_code": None,
        "started_at": "2026-11-21T09:35:39.001000Z",
        "completed_at": None,
    },
]

WRONG_NUMBERS: list[object] = [None, "5", -1, True, [], 1e300]


def report(agent_id: str, **members: Any) -> dict[str, Any]:
    return heartbeat_report({"agent_id": agent_id, **REPORT, **members}, agent_id=agent_id)


def record(agent_id: str, created: int = NOW, nonce: str = "n" * 16, **members: Any) -> bool:
    """Take a heartbeat; whether it was fresh."""
    return heartbeat_record(agent_id=agent_id, report=report(agent_id, **members), created=created, nonce=nonce).fresh


@pytest.fixture
def agent_id(enrol: Callable[..., str]) -> str:
    return enrol()


def test_a_heartbeat_of_a_silent_agent_that_was_deleted_is_not_found(agent_id: str) -> None:
    with clock.shifted(timedelta(minutes=10)):
        Heartbeat(agent_id).update(actions=[Heartbeat.status.set("dead")])
        Agent(agent_id).delete()
        with pytest.raises(NotFound) as refusal:
            record(agent_id, created=NOW + 600)
    assert refusal.value.code == "agent_not_found"


def test_a_heartbeat_is_kept_as_it_was_sent(agent_id: str) -> None:
    running = [{"job_id": JOB, "attempt": 2, "steps": STEPS}, {"job_id": new_id(), "attempt": 1}]
    result = heartbeat_record(agent_id=agent_id, report=report(agent_id, running=running), created=NOW, nonce="n" * 16)
    heartbeat = stored_heartbeat(agent_id)
    for read in (result.heartbeat, heartbeat):
        assert (read.cpu_percent, read.memory_percent, read.disk_percent) == (12.3, 50, 88.8)
        assert (read.jobs_completed, read.uptime_seconds, read.free_slots) == (7, 3600, 2)
        assert read.running == running
        assert read.status == "healthy"
    assert abs(clock.now() - clock.parse_timestamp(heartbeat.at)) < timedelta(seconds=10)


def test_a_heartbeat_costs_one_call_and_one_write_unit(agent_id: str) -> None:
    jobs: list[dict[str, Any]] = [{"job_id": new_id(), "attempt": 1, "steps": STEPS} for _ in range(3)]
    for job in jobs:
        lease = {"attempt": 1, "at": clock.timestamp(clock.now()), "started": True}
        Heartbeat(agent_id).update(actions=[Heartbeat.lease_map[job["job_id"]].set(lease)])
    record(agent_id)
    with dynamodb_calls() as metering:
        record(agent_id, NOW + 1, running=jobs, free_slots=1)
    assert metering.operations == ["UpdateItem"]
    assert metering.write_units == 1


def test_a_replay_changes_nothing_and_is_said_not_to_be_fresh(agent_id: str) -> None:
    assert record(agent_id)
    before = stored_heartbeat(agent_id).to_simple_dict()
    assert not record(agent_id, cpu_percent=99)
    assert stored_heartbeat(agent_id).to_simple_dict() == before


def test_an_older_heartbeat_is_refused(agent_id: str) -> None:
    record(agent_id, NOW)
    with pytest.raises(Conflict) as caught:
        record(agent_id, NOW - 1, nonce="m" * 16)
    assert caught.value.code == "heartbeat_out_of_order"


def test_a_second_heartbeat_of_the_same_second_is_taken_and_both_are_known_after(agent_id: str) -> None:
    assert record(agent_id, nonce="first-nonce-0000")
    assert record(agent_id, nonce="second-nonce-000", cpu_percent=99)
    assert stored_heartbeat(agent_id).cpu_percent == 99
    assert not record(agent_id, nonce="first-nonce-0000")
    assert not record(agent_id, nonce="second-nonce-000")
    assert stored_heartbeat(agent_id).cpu_percent == 99


def test_more_than_twenty_heartbeats_in_a_second_are_too_many_until_the_next(agent_id: str) -> None:
    for number in range(20):
        assert record(agent_id, nonce=f"nonce-{number:016}")
    with pytest.raises(TooManyRequests) as caught:
        record(agent_id, nonce="one-too-many-000")
    assert caught.value.retry_after == 1
    assert not record(agent_id, nonce=f"nonce-{3:016}")
    assert record(agent_id, NOW + 1)
    assert len(stored_heartbeat(agent_id).nonces) == 1


def test_heartbeats_of_one_second_over_eight_threads_are_each_taken_once(agent_id: str) -> None:
    def send(number: int) -> bool:
        return record(agent_id, nonce=f"nonce-{number % 8:016}")

    with ThreadPoolExecutor(8) as threads:
        fresh = list(threads.map(send, range(64)))
    assert sum(fresh) == 8
    assert sorted(stored_heartbeat(agent_id).nonces) == [f"nonce-{number:016}" for number in range(8)]


def test_an_unknown_agents_heartbeat_is_not_taken(tables: None) -> None:
    agent_id = new_id()
    with pytest.raises(NotFound):
        record(agent_id)
    assert Heartbeat.find(agent_id) is None


def test_a_retired_agents_heartbeat_is_refused(agent_id: str, admin_actor: Actor) -> None:
    agent_retire(agent_id=agent_id, actor=admin_actor)
    with pytest.raises(Forbidden) as caught:
        record(agent_id)
    assert caught.value.code == "agent_retired"
    assert stored_heartbeat(agent_id).created == 0


def test_a_draining_agent_still_heartbeats(agent_id: str, admin_actor: Actor) -> None:
    agent_drain(agent_id=agent_id, actor=admin_actor)
    assert record(agent_id)
    assert stored_heartbeat(agent_id).status == "draining"


@pytest.mark.parametrize(("seconds", "status"), [(50, "unhealthy"), (310, "dead")])
def test_a_heartbeat_brings_a_silent_agent_back(agent_id: str, seconds: int, status: str) -> None:
    with clock.shifted(timedelta(seconds=seconds)):
        assert agents_mark_silent() == 1
        assert fleet_counts() == {"eu-central-1": {status: 1}}
        assert record(agent_id, cpu_percent=77)
        heartbeat = stored_heartbeat(agent_id)
        assert (heartbeat.status, heartbeat.cpu_percent, heartbeat.created) == ("healthy", 77, NOW)
        assert stored_agent(agent_id).status == "healthy"
        assert fleet_counts() == {"eu-central-1": {"healthy": 1}}
        assert not record(agent_id, cpu_percent=5)
        assert agents_mark_silent() == 0


def test_a_silent_agent_that_replays_an_old_heartbeat_stays_silent(agent_id: str) -> None:
    record(agent_id, NOW)
    with clock.shifted(timedelta(seconds=50)):
        agents_mark_silent()
        assert not record(agent_id, NOW)
        with pytest.raises(Conflict):
            record(agent_id, NOW - 1)
    assert stored_heartbeat(agent_id).status == "unhealthy"


def test_a_silent_agent_that_heartbeats_over_eight_threads_comes_back_once(agent_id: str) -> None:
    with clock.shifted(timedelta(seconds=50)):
        agents_mark_silent()
        with ThreadPoolExecutor(8) as threads:
            fresh = list(threads.map(lambda _: record(agent_id), range(16)))
    assert sum(fresh) == 1
    assert fleet_counts() == {"eu-central-1": {"healthy": 1}}
    assert counters_are_right()


@pytest.mark.parametrize(
    "times", [pytest.param(200, marks=pytest.mark.slow), pytest.param(1000, marks=pytest.mark.nightly)]
)
def test_many_replays_over_eight_threads_have_one_effect(machine: Machine, times: int) -> None:
    body = machine.heartbeat_body()
    headers = machine.signed("POST", machine.heartbeat_path, body)
    assert machine.request("POST", machine.heartbeat_path, data=body, headers=headers).status_code == 200
    before = stored_heartbeat(machine.agent_id).to_simple_dict()

    def replay(_: int) -> set[int]:
        client = Machine(machine.server, machine.agent_id, machine.key_id, machine.key)
        return {
            client.request("POST", machine.heartbeat_path, data=body, headers=headers).status_code
            for _ in range(times // 8)
        }

    with ThreadPoolExecutor(8) as threads:
        assert set.union(*threads.map(replay, range(8))) == {200}
    assert stored_heartbeat(machine.agent_id).to_simple_dict() == before


def test_a_heartbeat_over_http_with_nothing_to_do_costs_two_calls_and_one_write_unit(machine: Machine) -> None:
    """The design's budget, for all but an agent's first heartbeats: the heartbeat and the registry of waiting work."""
    for _ in range(2):
        # The first one marks the key used, the second one reads that.
        machine.heartbeat()
    measured = []
    for _ in range(3):
        with dynamodb_calls() as metering:
            assert machine.heartbeat().status_code == 200
        measured.append((metering.calls, metering.write_units))
    # Every ten seconds a process looks for lost jobs beside a heartbeat; that is not the heartbeat's cost.
    assert min(measured) == (2, 1)


def test_a_very_long_list_of_steps_still_fits_into_the_item(agent_id: str) -> None:
    steps = [{**STEPS[0], "name": "☃" * 100} for _ in range(100)]
    running = [{"job_id": new_id(), "attempt": 1, "steps": steps} for _ in range(64)]
    assert record(agent_id, running=running)
    assert stored_heartbeat(agent_id).running == [
        {"job_id": entry["job_id"], "attempt": entry["attempt"]} for entry in running
    ]


def test_what_is_optional_may_be_missing() -> None:
    agent_id = new_id()
    body = {"agent_id": agent_id, **REPORT}
    for name in ("free_slots", "running", "config_version"):
        del body[name]
    checked = heartbeat_report(body, agent_id=agent_id)
    assert (checked["free_slots"], checked["running"], checked["config_version"]) == (0, [], 0)


def test_an_agent_without_a_configuration_has_version_zero_and_a_fraction_of_a_second_is_cut() -> None:
    checked = report(new_id(), config_version=None, uptime_seconds=3600.7)
    assert (checked["config_version"], checked["uptime_seconds"]) == (0, 3600)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        *[(name, value) for name in ("cpu_percent", "uptime_seconds") for value in WRONG_NUMBERS],
        ("cpu_percent", 100.1),
        ("cpu_percent", float("nan")),
        ("disk_percent", float("inf")),
        *[(name, value) for name in ("jobs_queued", "free_slots") for value in ("5", -1, True, 1.5, 2**60)],
        ("agent_id", None),
        ("agent_id", "01kaother0000000000000000a"),
        ("free_slots", 65),
        *[("config_version", value) for value in ("1", "", False, -1)],
        ("running", None),
        ("running", {}),
        ("running", [{"job_id": JOB, "attempt": 1}] * 65),
        ("running[0]", 5),
        ("running[0].job_id", {"attempt": 1}),
        ("running[0].job_id", {"job_id": "../x", "attempt": 1}),
        ("running[0].attempt", {"job_id": JOB}),
        ("running[0].attempt", {"job_id": JOB, "attempt": 0}),
        ("running[0].attempt", {"job_id": JOB, "attempt": "1"}),
        ("running[0].attempt", {"job_id": JOB, "attempt": 1_000_001}),
        ("running[0].steps", {"job_id": JOB, "attempt": 1, "steps": {}}),
        ("running[0].steps", {"job_id": JOB, "attempt": 1, "steps": [STEPS[0]] * 101}),
        ("running[0].steps[1]", {"job_id": JOB, "attempt": 1, "steps": [STEPS[0], "x"]}),
        ("running[0].steps[0].name", {"job_id": JOB, "attempt": 1, "steps": [{**STEPS[0], "name": "x" * 101}]}),
        ("running[0].steps[0].name", {"job_id": JOB, "attempt": 1, "steps": [{**STEPS[0], "name": ""}]}),
        ("running[0].steps[0].state", {"job_id": JOB, "attempt": 1, "steps": [{**STEPS[0], "state": "odd"}]}),
        ("running[0].steps[0].state", {"job_id": JOB, "attempt": 1, "steps": [{**STEPS[0], "state": ["x"]}]}),
        ("running[0].steps[0].exit_code", {"job_id": JOB, "attempt": 1, "steps": [{**STEPS[0], "exit_code": "0"}]}),
        *[
            ("running[0].steps[0].started_at", {"job_id": JOB, "attempt": 1, "steps": [{**STEPS[0], "started_at": at}]})
            for at in ("yesterday", 5, "2026-11-21T09:35:37", "0001-01-01T00:00:00+23:00", "9999-12-31T23:59:59-23:00")
        ],
    ],
)
def test_a_wrong_heartbeat_is_refused_with_the_fields_name(field: str, value: object) -> None:
    agent_id = new_id()
    name, _, inner = field.partition("[")
    with pytest.raises(InvalidInput) as caught:
        heartbeat_report({"agent_id": agent_id, **REPORT, name: [value] if inner else value}, agent_id=agent_id)
    assert caught.value.errors[0]["field"] == field


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("agent_id", "01kahtnvg00000000000000009", "must be the id of the agent in the path"),
        ("cpu_percent", 101, "must be a number from 0 to 100"),
        ("free_slots", 65, "must be a whole number from 0 to 64"),
        ("running[0].job_id", {"job_id": "x", "attempt": 1}, "must be a job's id"),
        (
            "running[0].steps[0].state",
            {"job_id": JOB, "attempt": 1, "steps": [{**STEPS[0], "state": "odd"}]},
            "must be one of pending, running, completed, failed, timed_out, cancelled, skipped",
        ),
    ],
)
def test_a_wrong_heartbeat_is_refused_with_what_the_field_must_be(field: str, value: object, message: str) -> None:
    agent_id = new_id()
    name, _, inner = field.partition("[")
    with pytest.raises(InvalidInput) as caught:
        heartbeat_report({"agent_id": agent_id, **REPORT, name: [value] if inner else value}, agent_id=agent_id)
    assert caught.value.errors == [{"field": field, "message": message}]


def test_a_heartbeat_writes_no_more_than_its_own_item(agent_id: str) -> None:
    before = stored_agent(agent_id).to_simple_dict()
    record(agent_id)
    assert [agent.to_simple_dict() for agent in Agent.scan()] == [before]


# --- an unfit machine, and what comes between read and write ---------------------------------------------------------


def test_a_draining_agent_with_an_unfit_machine_goes_on_draining(agent_id: str, admin_actor: Actor) -> None:
    agent_drain(agent_id=agent_id, actor=admin_actor)
    assert record(agent_id, fault="git is missing")
    heartbeat = stored_heartbeat(agent_id)
    assert (heartbeat.status, heartbeat.status_reason, stored_agent(agent_id).status) == ("draining", None, "draining")
    assert counters_are_right()


def test_a_later_heartbeat_decides_whether_the_machine_is_fit(agent_id: str) -> None:
    with before_first(Transaction, "commit", lambda: record(agent_id, NOW + 1)) as commits:
        result = heartbeat_record(
            agent_id=agent_id, report=report(agent_id, fault="git is missing"), created=NOW, nonce="n" * 16
        )
    assert len(commits) == 1
    heartbeat = stored_heartbeat(agent_id)
    assert (heartbeat.status, heartbeat.created, result.heartbeat.created) == ("healthy", NOW + 1, NOW + 1)


def test_a_heartbeat_whose_answer_was_lost_is_still_fresh(agent_id: str) -> None:
    with first_answer_lost("UpdateItem") as sent:
        assert record(agent_id)
    assert len(sent) == 2
    assert not record(agent_id)


def test_the_same_heartbeat_twice_at_once_is_recorded_once(agent_id: str) -> None:
    record(agent_id, nonce="first-nonce-0000")
    # The usual write has failed, and the one for another heartbeat of the same second is about to be sent.
    with before_first(Heartbeat, "update", lambda: record(agent_id, nonce="second-nonce-000"), nth=2):
        assert not record(agent_id, nonce="second-nonce-000")
    assert stored_heartbeat(agent_id).nonces == ["first-nonce-0000", "second-nonce-000"]


def test_the_twentieth_of_a_second_leaves_no_room_for_another_at_the_same_time(agent_id: str) -> None:
    for number in range(19):
        record(agent_id, nonce=f"nonce-{number:016}")
    with (
        before_first(Heartbeat, "update", lambda: record(agent_id, nonce="the-twentieth-00"), nth=2),
        pytest.raises(TooManyRequests),
    ):
        record(agent_id, nonce="one-too-many-000")
    assert len(stored_heartbeat(agent_id).nonces) == 20


def test_a_later_heartbeat_of_a_silent_agent_is_not_overwritten_by_an_earlier_one(agent_id: str) -> None:
    with clock.shifted(timedelta(seconds=50)):
        agents_mark_silent()
        with before_first(Transaction, "commit", lambda: record(agent_id, NOW + 5)), pytest.raises(Conflict):
            record(agent_id, NOW)
    assert (stored_heartbeat(agent_id).created, stored_heartbeat(agent_id).status) == (NOW + 5, "healthy")


def test_an_unhealthy_machine_says_its_latest_reason_and_its_status_is_written_once(agent_id: str) -> None:
    record(agent_id, NOW, fault="git is missing")
    with dynamodb_calls() as metering:
        record(agent_id, NOW + 1, fault="the disk is read-only")
    assert "TransactWriteItems" not in metering.operations
    heartbeat = stored_heartbeat(agent_id)
    assert (heartbeat.status, heartbeat.status_reason) == ("unhealthy", "the disk is read-only")


def test_an_agent_that_comes_back_is_healthy_for_its_next_request_at_once(agent_id: str) -> None:
    key_id = stored_agent(agent_id).keys[0].key_id
    with clock.shifted(timedelta(seconds=50)):
        agents_mark_silent()
        for status in ("unhealthy", "healthy"):
            identity = identity_get(agent_id, key_id)
            assert identity is not None
            assert identity.status == status
            record(agent_id)
