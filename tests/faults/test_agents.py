"""DynamoDB fails while something happens to agents."""

from datetime import timedelta

import pytest

from apps.agents.services import (
    agent_drain,
    agent_enrol,
    agent_key_mark_used,
    agent_key_rotate,
    agent_resume,
    agent_retire,
    agents_mark_silent,
    enrolment_token_create,
    retired_agents_delete,
)
from controlplane.lib import clock
from tests.conftest import ADMIN
from tests.faults.injection import Fault
from tests.faults.scenarios import FAULTS, Scenario, Scenarios, faults_survived
from tests.faults.world import Act, World

scenario = Scenarios(prepared_once=True)


# --- agents ---------------------------------------------------------------------------------------------------------


@scenario(repeatable=False)
def create_an_enrolment_token(world: World) -> Act:
    return lambda: enrolment_token_create(uses=3, expires_at=clock.now() + timedelta(days=1), actor=ADMIN)


@scenario()
def enrol(world: World) -> Act:
    return lambda: agent_enrol(
        token=world.token, name="new", region="us", labels=[], slots=1, idempotency_key="machine-1"
    )


@scenario(repeatable=False)
def enrol_without_a_key(world: World) -> Act:
    return lambda: agent_enrol(token=world.token, name="new", region="us", labels=[], slots=1)


@scenario(repeatable=False)
def rotate_a_key(world: World) -> Act:
    return lambda: agent_key_rotate(agent_id=world.agent.id, actor=ADMIN)


@scenario()
def mark_a_key_used(world: World) -> Act:
    return lambda: agent_key_mark_used(agent_id=world.agent.id, key_id=world.credentials.key_id)


@scenario()
def heartbeat_after_silence(world: World) -> Act:
    world.wait(50)
    agents_mark_silent()
    return lambda: world.heartbeat(free=0)


@scenario()
def mark_silent_agents(world: World) -> Act:
    world.wait(50)
    return agents_mark_silent


@scenario()
def delete_a_retired_agent(world: World) -> Act:
    agent_retire(agent_id=world.agent.id, actor=ADMIN)
    retired_agents_delete(seconds=5)
    world.wait(31 * 24 * 60 * 60)
    return lambda: retired_agents_delete(seconds=5)


@scenario()
def drain(world: World) -> Act:
    return lambda: agent_drain(agent_id=world.agent.id, actor=ADMIN)


@scenario()
def resume(world: World) -> Act:
    agent_drain(agent_id=world.agent.id, actor=ADMIN)
    return lambda: agent_resume(agent_id=world.agent.id, actor=ADMIN)


@scenario()
def retire(world: World) -> Act:
    return lambda: agent_retire(agent_id=world.agent.id, actor=ADMIN)


@pytest.mark.parametrize(("kind", "lasting"), FAULTS)
@pytest.mark.parametrize("act", list(scenario), ids=str)
def test_a_fault_at_any_call_neither_loses_nor_doubles_anything(
    tables: None, act: Scenario, kind: Fault, lasting: bool
) -> None:
    faults_survived(act, kind, lasting=lasting)
