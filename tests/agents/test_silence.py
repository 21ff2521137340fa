"""What becomes of agents that are silent."""

from collections.abc import Callable
from datetime import timedelta

import pytest

from apps.agents.models import Heartbeat
from apps.agents.selectors import fleet_counts
from apps.agents.services import agent_drain, agent_retire, agents_mark_silent
from controlplane.lib import clock
from controlplane.lib.actor import Actor
from controlplane.nosql.transaction import Transaction
from tests.agents.conftest import counters_are_right, stored_agent, stored_heartbeat
from tests.agents.test_lifecycle import Enrol, changes, heartbeat


@pytest.mark.usefixtures("noon")
def test_a_silent_agent_is_marked_unhealthy_then_dead(enrol: Enrol) -> None:
    agent_id = enrol()
    for seconds, status in [(44, "healthy"), (46, "unhealthy"), (299, "unhealthy"), (301, "dead"), (9999, "dead")]:
        with clock.shifted(timedelta(seconds=seconds)):
            agents_mark_silent()
        assert stored_agent(agent_id).status == stored_heartbeat(agent_id).status == status, seconds
        assert fleet_counts() == {"eu-central-1": {status: 1}}
    assert [change[1:] for change in changes(agent_id)] == [("healthy", "unhealthy"), ("unhealthy", "dead")]


@pytest.mark.slow
def test_only_the_silent_are_marked_in_every_region_and_page(enrol: Enrol) -> None:
    silent = [enrol(region=f"region-{number % 3}") for number in range(110)]
    with clock.shifted(timedelta(seconds=100)):
        reporting = enrol(region="region-1")
        assert agents_mark_silent() == len(silent)
        assert agents_mark_silent() == 0
    assert stored_agent(reporting).status == "healthy"
    assert counters_are_right()


def test_an_agent_that_is_heard_keeps_no_silent_one_behind_it_from_being_marked(enrol: Enrol) -> None:
    agents = [enrol() for _ in range(4)]
    with clock.shifted(timedelta(seconds=100)):
        for agent_id in agents[:2]:
            Heartbeat(agent_id).update(actions=[Heartbeat.at.set(clock.timestamp(clock.now()))])
        assert agents_mark_silent() == 2
    assert [stored_agent(agent_id).status for agent_id in agents] == ["healthy"] * 2 + ["unhealthy"] * 2


@pytest.mark.parametrize("change", [agent_drain, agent_retire])
def test_draining_and_retired_agents_may_be_silent(
    enrol: Enrol, admin_actor: Actor, change: Callable[..., object]
) -> None:
    change(agent_id=enrol(), actor=admin_actor)
    with clock.shifted(timedelta(seconds=1000)):
        assert agents_mark_silent() == 0


def test_a_heartbeat_that_comes_while_the_sweep_reads_wins(enrol: Enrol, monkeypatch: pytest.MonkeyPatch) -> None:
    agent_id = enrol()
    commit = Transaction.commit

    def late(tx: Transaction, **arguments: int) -> None:
        heartbeat(agent_id, 1_800_000_000)
        commit(tx, **arguments)

    with clock.shifted(timedelta(seconds=100)):
        monkeypatch.setattr(Transaction, "commit", late)
        assert agents_mark_silent() == 0
        monkeypatch.undo()
        assert stored_agent(agent_id).status == "healthy"
        assert changes(agent_id) == []
