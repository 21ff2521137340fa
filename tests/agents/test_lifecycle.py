"""What becomes of agents, and that the counters always say how many there are."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import timedelta
from random import Random

import pytest

from apps.agents.models import Agent, Heartbeat
from apps.agents.selectors import fleet_counts, silent_heartbeats
from apps.agents.serializers import heartbeat_report
from apps.agents.services import (
    agent_drain,
    agent_resume,
    agent_retire,
    agents_mark_silent,
    heartbeat_record,
    lease_add,
)
from apps.agents.states import TRANSITIONS, AgentStatus, status_after_silence
from apps.audit.actions import Action
from apps.audit.selectors import audit_list
from controlplane.lib import clock
from controlplane.lib.actor import Actor
from controlplane.lib.errors import Conflict, Forbidden, NotFound, Unavailable
from controlplane.lib.ids import new_id
from controlplane.nosql.transaction import Transaction
from tests.agents.conftest import counters_are_right, stored_agent, stored_heartbeat
from tests.agents.interleaving import before_first
from tests.agents.machines import REPORT
from tests.conftest import OPERATOR
from tests.metering import dynamodb_calls

JOB = "01kahtnvg00000000000000000"

Enrol = Callable[..., str]


def heartbeat(agent_id: str, created: int) -> None:
    report = heartbeat_report({"agent_id": agent_id, **REPORT}, agent_id=agent_id)
    heartbeat_record(agent_id=agent_id, report=report, created=created, nonce="n" * 16)


def changes(agent_id: str) -> list[tuple[str, str, str]]:
    """The agent's changes of status in the trail: by whom, from what, to what."""
    day = clock.timestamp(clock.now())[:10]
    return [
        (record.actor_name, record.detail["from"], record.detail["to"])
        for record in reversed(audit_list(day=day).records)
        if record.action == Action.AGENT_STATUS_CHANGED and record.target == f"agent:{agent_id}"
    ]


def test_an_agent_is_drained_resumed_and_retired(enrol: Enrol, admin_actor: Actor) -> None:
    agent_id = enrol()
    for change, status in [(agent_drain, "draining"), (agent_resume, "healthy"), (agent_retire, "retired")]:
        assert change(agent_id=agent_id, actor=admin_actor).status == status
        assert stored_agent(agent_id).status == stored_heartbeat(agent_id).status == status
        assert fleet_counts() == {"eu-central-1": {status: 1}}
    assert changes(agent_id) == [
        ("Ada", "healthy", "draining"),
        ("Ada", "draining", "healthy"),
        ("Ada", "healthy", "retired"),
    ]


def test_asking_for_what_is_already_so_changes_and_records_nothing(enrol: Enrol, admin_actor: Actor) -> None:
    agent_id = enrol()
    agent_drain(agent_id=agent_id, actor=admin_actor)
    with dynamodb_calls() as metering:
        agent_drain(agent_id=agent_id, actor=admin_actor)
    assert metering.write_units == 0
    assert len(changes(agent_id)) == 1


@pytest.mark.parametrize("change", [agent_drain, agent_resume])
def test_a_retired_agent_does_not_come_back(enrol: Enrol, admin_actor: Actor, change: Callable[..., object]) -> None:
    agent_id = enrol()
    agent_retire(agent_id=agent_id, actor=admin_actor)
    with pytest.raises(Conflict) as caught:
        change(agent_id=agent_id, actor=admin_actor)
    assert caught.value.code == "agent_status"


@pytest.mark.parametrize("change", [agent_drain, agent_resume, agent_retire])
def test_an_unknown_agent_is_not_found(tables: None, admin_actor: Actor, change: Callable[..., object]) -> None:
    with pytest.raises(NotFound):
        change(agent_id=new_id(), actor=admin_actor)


def test_eight_threads_that_drain_an_agent_drain_it_once(enrol: Enrol, admin_actor: Actor) -> None:
    agent_id = enrol()
    with ThreadPoolExecutor(8) as threads:
        list(threads.map(lambda _: agent_drain(agent_id=agent_id, actor=admin_actor), range(16)))
    assert len(changes(agent_id)) == 1
    assert counters_are_right()


@pytest.mark.slow
def test_counters_are_right_after_all_kinds_of_changes_at_once(enrol: Enrol, admin_actor: Actor) -> None:
    agents = [enrol(region=f"region-{number % 2}") for number in range(6)]

    def change(number: int) -> None:
        random = Random(number)
        agent_id = random.choice(agents)
        kinds: list[Callable[[], object]] = [
            lambda: agent_drain(agent_id=agent_id, actor=admin_actor),
            lambda: agent_resume(agent_id=agent_id, actor=admin_actor),
            agents_mark_silent,
            lambda: heartbeat(agent_id, 1_800_000_000 + number),
            lambda: agent_retire(agent_id=agent_id, actor=admin_actor) if number % 7 == 0 else None,
            lambda: enrol(region="region-2"),
        ]
        with suppress(Conflict, Forbidden):
            random.choice(kinds)()

    with clock.shifted(timedelta(seconds=100)), ThreadPoolExecutor(8) as threads:
        list(threads.map(change, range(120)))
    assert counters_are_right()
    for agent_id in agents:
        assert stored_agent(agent_id).status == stored_heartbeat(agent_id).status


def test_silent_agents_with_leases_are_found(enrol: Enrol, admin_actor: Actor) -> None:
    lease, idle, retired, reporting = enrol(), enrol(region="b"), enrol(region="c"), enrol()
    for agent_id in (lease, retired, reporting):
        tx = Transaction()
        lease_add(tx, agent_id=agent_id, job_id=JOB, attempt=1, at=clock.timestamp(clock.now()), slots=4)
        tx.commit()
    agent_retire(agent_id=retired, actor=admin_actor)

    assert silent_heartbeats() == []
    with clock.shifted(timedelta(seconds=50)):
        heartbeat(reporting, 1_800_000_000)
        found = {silent.agent_id for silent in silent_heartbeats()}
    assert found == {lease, retired}
    assert idle not in found


def test_every_status_can_be_left_only_for_those_that_follow_it() -> None:
    assert set(TRANSITIONS) == set(AgentStatus)
    assert all(status not in following for status, following in TRANSITIONS.items())
    for status in AgentStatus:
        for seconds in (0, 45, 46, 300, 301):
            after = status_after_silence(status, seconds)
            assert after == status or after in TRANSITIONS[status]


def test_a_heartbeat_is_not_lost_from_view_when_its_agent_is_drained(enrol: Enrol, admin_actor: Actor) -> None:
    agent_id = enrol()
    heartbeat(agent_id, 1_800_000_000)
    agent_drain(agent_id=agent_id, actor=admin_actor)
    stored = Heartbeat.find(agent_id)
    assert stored is not None
    assert (stored.status, stored.jobs_completed) == ("draining", 7)


@pytest.mark.parametrize("change", [agent_drain, agent_resume, agent_retire])
def test_the_services_themselves_refuse_users_without_the_permission(
    enrol: Enrol, admin_actor: Actor, change: Callable[..., object]
) -> None:
    agent_id = enrol()
    if change is agent_resume:
        agent_drain(agent_id=agent_id, actor=admin_actor)
    before = stored_agent(agent_id).status
    for actor in (OPERATOR, Actor("user", "eve", "Eve"), Actor("agent", agent_id, "build-1")):
        with pytest.raises(Forbidden):
            change(agent_id=agent_id, actor=actor)
    assert stored_agent(agent_id).status == stored_heartbeat(agent_id).status == before


def test_a_status_that_changes_between_read_and_write_decides(enrol: Enrol, admin_actor: Actor) -> None:
    agent_id = enrol()

    def retire() -> None:
        agent_retire(agent_id=agent_id, actor=admin_actor)

    with before_first(Transaction, "commit", retire) as commits, pytest.raises(Conflict) as caught:
        agent_drain(agent_id=agent_id, actor=admin_actor)
    assert caught.value.code == "agent_status"
    assert len(commits) == 1
    assert stored_agent(agent_id).status == stored_heartbeat(agent_id).status == "retired"
    assert counters_are_right()
    assert [change[1:] for change in changes(agent_id)] == [("healthy", "retired")]


def test_an_agent_that_falls_silent_between_read_and_write_is_drained(enrol: Enrol, admin_actor: Actor) -> None:
    agent_id = enrol()
    with clock.shifted(timedelta(seconds=100)), before_first(Transaction, "commit", agents_mark_silent) as commits:
        agent_drain(agent_id=agent_id, actor=admin_actor)
    assert len(commits) == 2
    assert stored_agent(agent_id).status == stored_heartbeat(agent_id).status == "draining"
    assert counters_are_right()
    moves = [("healthy", "unhealthy"), ("unhealthy", "draining")]
    assert [change[1:] for change in changes(agent_id)] == moves


def test_resuming_forgets_what_the_machine_has_done_wrong(enrol: Enrol, admin_actor: Actor) -> None:
    agent_id = enrol()
    agent_drain(agent_id=agent_id, actor=admin_actor)
    Heartbeat(agent_id).update(actions=[Heartbeat.faults.set(3), Heartbeat.ignored.set(3)])
    agent_resume(agent_id=agent_id, actor=admin_actor)
    assert (stored_heartbeat(agent_id).faults, stored_heartbeat(agent_id).ignored) == (0, 0)


def test_silence_counts_only_since_agents_could_be_heard(enrol: Enrol) -> None:
    agent_id = enrol()
    with clock.shifted(timedelta(seconds=1000)):
        now = clock.now()
        assert agents_mark_silent(heard_since=now - timedelta(seconds=40)) == 0
        assert agents_mark_silent(heard_since=now - timedelta(seconds=50)) == 1
        assert stored_agent(agent_id).status == "unhealthy"
        assert agents_mark_silent(heard_since=now - timedelta(seconds=2000)) == 1
    assert stored_agent(agent_id).status == "dead"


def test_an_agent_that_is_deleted_between_read_and_write_is_not_made_again(enrol: Enrol, admin_actor: Actor) -> None:
    agent_id = enrol()
    with before_first(Transaction, "commit", lambda: Agent(agent_id).delete()), pytest.raises(NotFound):
        agent_drain(agent_id=agent_id, actor=admin_actor)
    assert Agent.find(agent_id) is None
    assert (stored_heartbeat(agent_id).status, changes(agent_id)) == ("healthy", [])


def test_an_agent_without_a_heartbeat_item_gets_none_by_a_change_of_status(enrol: Enrol, admin_actor: Actor) -> None:
    """As after a restore of one table alone."""
    agent_id = enrol()
    Heartbeat(agent_id).delete()
    with pytest.raises(Unavailable):
        agent_drain(agent_id=agent_id, actor=admin_actor)
    assert Heartbeat.find(agent_id) is None
    assert (stored_agent(agent_id).status, changes(agent_id)) == ("healthy", [])
