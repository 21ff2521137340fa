"""How many jobs the healthy agents could take now."""

from collections.abc import Callable
from datetime import timedelta

import pytest

from apps.agents.models import Heartbeat
from apps.agents.selectors import FleetCapacity, fleet_capacity
from apps.agents.services import agent_drain, agent_retire, agents_mark_silent
from controlplane.lib import clock
from tests.agents.machines import Machine
from tests.conftest import ADMIN
from tests.metering import dynamodb_calls

MakeMachine = Callable[..., Machine]

LEASE = {"attempt": 1, "at": "2026-11-21T09:35:37.000000Z", "started": True}


def slots(fleet: FleetCapacity) -> list[tuple[int, int, int]]:
    """All, used and free slots of each agent."""
    return sorted((agent.slots, agent.used_slots, agent.free_slots) for agent in fleet.agents)


def healthy(fleet: FleetCapacity) -> list[bool]:
    return sorted((agent.is_healthy for agent in fleet.agents), reverse=True)


def lease(machine: Machine, jobs: int) -> None:
    Heartbeat(machine.agent_id).update(actions=[Heartbeat.lease_map.set({f"job-{job}": LEASE for job in range(jobs)})])


def test_an_agent_offers_its_labels_and_the_slots_that_it_reports_as_free(
    make_machine: MakeMachine,
) -> None:
    make_machine(region="eu", labels=["gpu"], slots=4).heartbeat(free_slots=3)
    (agent,) = fleet_capacity().agents
    assert (agent.region, sorted(agent.labels), agent.slots, agent.free_slots) == ("eu", ["gpu"], 4, 3)


def test_jobs_that_an_agent_was_given_since_its_report_take_its_slots(make_machine: MakeMachine) -> None:
    machine = make_machine(slots=4)
    machine.heartbeat(free_slots=4)
    lease(machine, 3)
    assert slots(fleet_capacity()) == [(4, 3, 1)]
    lease(machine, 5)
    assert slots(fleet_capacity()) == [(4, 5, 0)]


def test_an_agent_that_ends_has_no_free_slots(make_machine: MakeMachine) -> None:
    machine = make_machine(slots=4)
    machine.heartbeat(free_slots=0)
    lease(machine, 1)
    assert slots(fleet_capacity()) == [(4, 1, 0)]


def test_an_agent_that_must_prove_itself_has_one_free_slot(make_machine: MakeMachine) -> None:
    machine = make_machine(slots=4)
    machine.heartbeat(free_slots=4)
    Heartbeat(machine.agent_id).update(actions=[Heartbeat.faults.set(3)])
    assert slots(fleet_capacity()) == [(4, 0, 1)]


def test_only_healthy_agents_count(make_machine: MakeMachine) -> None:
    draining, retired, unfit, silent = (make_machine(name=name) for name in ("a", "b", "c", "d"))
    for machine in (draining, retired, silent):
        machine.heartbeat(free_slots=2)
    unfit.heartbeat(free_slots=2, disk_percent=99)
    agent_drain(agent_id=draining.agent_id, actor=ADMIN)
    agent_retire(agent_id=retired.agent_id, actor=ADMIN)
    assert healthy(fleet_capacity()) == [True, False, False]
    with clock.shifted(timedelta(seconds=46)):
        # No sweep has noticed it yet.
        found = fleet_capacity()
        assert (healthy(found), found.regions["eu-central-1"]["healthy"]) == ([False, False, False], 1)
        agents_mark_silent()
        found = fleet_capacity()
        assert (healthy(found), "healthy" in found.regions["eu-central-1"]) == ([False, False, False], False)


@pytest.mark.parametrize("how", ["draining", "silent"])
def test_the_jobs_of_an_agent_that_takes_no_more_count_until_its_leases_expire(
    make_machine: MakeMachine, how: str
) -> None:
    machine = make_machine(slots=4)
    machine.heartbeat(free_slots=4)
    lease(machine, 2)
    if how == "draining":
        agent_drain(agent_id=machine.agent_id, actor=ADMIN)
    with clock.shifted(timedelta(seconds=60 if how == "silent" else 0)):
        agents_mark_silent()
        assert slots(fleet_capacity()) == [(4, 2, 0)]


def test_dead_agents_are_not_read(make_machine: MakeMachine) -> None:
    make_machine().heartbeat()
    with clock.shifted(timedelta(minutes=6)):
        agents_mark_silent()
        with dynamodb_calls() as metering:
            assert fleet_capacity().agents == ()
    assert metering.operations == ["Query"]


@pytest.mark.parametrize(("agents", "calls"), [(1, 3), (3, 4)])
def test_it_costs_a_call_for_the_counters_one_for_each_region_and_one_for_each_hundred_agents(
    fleet: Callable[[int], list[str]], agents: int, calls: int
) -> None:
    fleet(agents)
    with dynamodb_calls() as metering:
        assert len(fleet_capacity().agents) == agents
    assert metering.calls == calls, metering.operations


def test_a_fleet_of_which_only_a_part_is_read_is_partial(
    fleet: Callable[[int], list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    fleet(3)
    assert not fleet_capacity().is_partial
    monkeypatch.setattr("apps.agents.selectors.capacity.AGENTS_AT_MOST", 1)
    found = fleet_capacity()
    assert (len(found.agents), found.is_partial) == (1, True)
