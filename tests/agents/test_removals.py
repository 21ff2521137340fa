"""Agents that were retired long ago are deleted, in portions of a limited time."""

from collections.abc import Callable
from datetime import timedelta

from apps.agents.models import PROGRESS, Agent, Heartbeat, TaskProgress
from apps.agents.selectors import fleet_counts
from apps.agents.services import (
    agent_retire,
    retired_agents_delete,
)
from apps.agents.services.removals import KEPT_FOR
from apps.audit.models import AuditRecord
from controlplane.lib import clock
from controlplane.lib.actor import SYSTEM
from tests.conftest import ADMIN
from tests.interleaving import before_call


def test_retired_agents_are_deleted_after_30_days(fleet: Callable[[int], list[str]]) -> None:
    retired, other = fleet(2)
    agent_retire(agent_id=retired, actor=ADMIN)
    assert retired_agents_delete(seconds=5) == 0
    with clock.shifted(KEPT_FOR - timedelta(minutes=1)):
        assert retired_agents_delete(seconds=5) == 0
    with clock.shifted(KEPT_FOR + timedelta(minutes=1)):
        assert retired_agents_delete(seconds=5) == 1
        assert retired_agents_delete(seconds=5) == 0
    assert [agent.agent_id for agent in Agent.scan()] == [other]
    assert [heartbeat.agent_id for heartbeat in Heartbeat.scan()] == [other]
    assert fleet_counts() == {"us": {"healthy": 1}}
    (event,) = [record for record in AuditRecord.scan() if record.action == "agent.deleted"]
    assert (event.actor_id, event.target) == (SYSTEM.id, f"agent:{retired}")
    assert event.detail["region"] == "eu"


def test_the_time_of_a_retired_agent_begins_when_it_is_retired_not_with_its_last_heartbeat(
    fleet: Callable[[int], list[str]],
) -> None:
    (agent_id,) = fleet(1)
    with clock.shifted(timedelta(days=60)):
        agent_retire(agent_id=agent_id, actor=ADMIN)
        assert [retired_agents_delete(seconds=5) for _ in range(2)] == [0, 0]
    assert Agent.find(agent_id) is not None


def test_a_retired_agent_with_leases_stays_until_they_have_expired(fleet: Callable[[int], list[str]]) -> None:
    (agent_id,) = fleet(1)
    agent_retire(agent_id=agent_id, actor=ADMIN)
    retired_agents_delete(seconds=5)
    heartbeat = Heartbeat.get(agent_id)
    lease = {"attempt": 1, "at": heartbeat.at, "started": True}
    heartbeat.update(actions=[Heartbeat.lease_map["some-job"].set(lease)])
    with clock.shifted(KEPT_FOR + timedelta(minutes=1)):
        assert retired_agents_delete(seconds=5) == 0


def test_of_two_sweeps_at_once_the_first_one_says_since_when_an_agent_is_retired(
    fleet: Callable[[int], list[str]],
) -> None:
    (agent_id,) = fleet(1)
    agent_retire(agent_id=agent_id, actor=ADMIN)
    first: list[str] = []

    def sweep() -> None:
        retired_agents_delete(seconds=5)
        first.append(Heartbeat.get(agent_id).retired_at)

    with before_call(sweep, operations=frozenset({"UpdateItem"})):
        assert retired_agents_delete(seconds=5) == 0
    assert [Heartbeat.get(agent_id).retired_at] == first


def test_of_two_sweeps_at_once_one_deletes_an_agent(fleet: Callable[[int], list[str]]) -> None:
    for agent_id in fleet(6):
        agent_retire(agent_id=agent_id, actor=ADMIN)
    retired_agents_delete(seconds=5)
    with clock.shifted(KEPT_FOR + timedelta(minutes=1)):
        inner: list[int] = []
        transactions = frozenset({"TransactWriteItems"})
        with before_call(lambda: inner.append(retired_agents_delete(seconds=5)), operations=transactions):
            outer = retired_agents_delete(seconds=5)
    assert (*inner, outer) == (6, 0)
    assert list(Agent.scan()) == []
    assert sum(record.action == "agent.deleted" for record in AuditRecord.scan()) == 6


def test_many_retired_agents_take_a_task_only_its_time(fleet: Callable[[int], list[str]], small_batches: None) -> None:
    """This fleet has six, and no time: each call leaves its place to the next one, and all are deleted in the end."""
    for agent_id in fleet(6):
        agent_retire(agent_id=agent_id, actor=ADMIN)
    for _ in range(6):
        retired_agents_delete(seconds=0)
    with clock.shifted(KEPT_FOR + timedelta(minutes=1)):
        assert [retired_agents_delete(seconds=0) for _ in range(6)] == [1] * 6
    assert fleet_counts() == {}
    assert TaskProgress.get(PROGRESS, "retired_agents_delete").place is not None
