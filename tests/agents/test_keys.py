"""Keys of agents: rotation, first use, and what happens when both come at once."""

import base64
import json
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
import requests

from apps.agents.models import Agent
from apps.agents.selectors import identity_get
from apps.agents.services import agent_configure, agent_key_mark_used, agent_key_rotate, agent_retire
from apps.audit.actions import Action
from apps.audit.selectors import audit_list
from controlplane.lib import clock
from controlplane.lib.actor import Actor
from controlplane.lib.errors import Conflict, Forbidden, NotFound, Unavailable
from controlplane.lib.ids import new_id
from controlplane.nosql.transaction import Transaction
from tests.agents.conftest import stored_agent
from tests.agents.interleaving import before_first
from tests.agents.machines import Machine
from tests.conftest import ADMIN, OPERATOR
from tests.metering import dynamodb_calls


def refused(response: requests.Response, code: str) -> None:
    assert (response.status_code, response.json()["code"]) == (401, code), response.text


def keys(agent_id: str) -> list[tuple[str, bool]]:
    """The ids of the agent's keys, the newest first, and whether each is used."""
    return [(key.key_id, key.used) for key in stored_agent(agent_id).keys]


def mark(agent_id: str, key_id: str) -> None:
    agent_key_mark_used(agent_id=agent_id, key_id=key_id)


def rotate(agent_id: str, **options: Any) -> str:
    """Rotate the agent's key; the id of the new one."""
    return agent_key_rotate(agent_id=agent_id, actor=ADMIN, **options).key_id


@pytest.fixture
def agent_id(enrol: Callable[..., str]) -> str:
    return enrol()


@pytest.fixture
def first(agent_id: str) -> str:
    """The id of the agent's first key."""
    ((key_id, used),) = keys(agent_id)
    assert not used
    return key_id


# --- rotation and first use at once ---------------------------------------------------------------------------------


def test_a_first_use_that_comes_before_a_rotation_writes_is_kept(agent_id: str, first: str) -> None:
    with before_first(Transaction, "commit", lambda: mark(agent_id, first)) as commits:
        second = rotate(agent_id)
    assert keys(agent_id) == [(second, False), (first, True)]
    # The rotation saw that its read was outdated.
    assert len(commits) == 2


def test_a_rotation_that_comes_before_a_first_use_writes_leaves_the_new_key_unused(agent_id: str, first: str) -> None:
    made: list[str] = []
    with before_first(Agent, "update", lambda: made.append(rotate(agent_id))) as updates:
        mark(agent_id, first)
    # The mark is on the key that was used, at its new place.
    assert keys(agent_id) == [(made[0], False), (first, True)]
    assert len(updates) == 2


def test_a_key_that_a_rotation_has_replaced_before_its_first_use_is_written_is_not_marked(
    agent_id: str, first: str
) -> None:
    made: list[str] = []
    with before_first(Agent, "update", lambda: made.append(rotate(agent_id, immediate=True))) as updates:
        mark(agent_id, first)
    assert keys(agent_id) == [(made[0], False)]
    assert len(updates) == 1


def test_the_second_key_is_marked_and_not_the_first(agent_id: str, first: str) -> None:
    second = rotate(agent_id)
    mark(agent_id, first)
    assert keys(agent_id) == [(second, False), (first, True)]
    mark(agent_id, second)
    assert keys(agent_id) == [(second, True), (first, True)]


def test_a_key_that_is_marked_already_costs_no_write(agent_id: str, first: str) -> None:
    mark(agent_id, first)
    with dynamodb_calls() as metering:
        mark(agent_id, first)
    assert metering.operations == ["GetItem"]


def test_the_process_notices_a_rotation_and_a_first_use_at_once(agent_id: str, first: str) -> None:
    def remembered() -> dict[str, bool]:
        identity = identity_get(agent_id, first)
        assert identity is not None
        return {key.key_id: key.used for key in identity.keys}

    assert remembered() == {first: False}
    mark(agent_id, first)
    assert remembered() == {first: True}
    second = rotate(agent_id)
    assert remembered() == {second: False, first: True}


def test_each_key_is_another_one(agent_id: str) -> None:
    made = [agent_key_rotate(agent_id=agent_id, actor=ADMIN) for _ in range(3)]
    assert len({credentials.secret for credentials in made}) == len({credentials.key_id for credentials in made}) == 3
    assert {len(credentials.secret) for credentials in made} == {32}


def test_an_unknown_key_marks_none(agent_id: str, first: str) -> None:
    mark(agent_id, f"{agent_id}.00000000")
    assert keys(agent_id) == [(first, False)]


def test_of_two_rotations_at_once_the_second_keeps_the_key_that_the_agent_has(agent_id: str, first: str) -> None:
    mark(agent_id, first)
    made: list[str] = []
    with before_first(Transaction, "commit", lambda: made.append(rotate(agent_id))) as commits:
        last = rotate(agent_id)
    assert keys(agent_id) == [(last, False), (first, True)]
    assert len(commits) == 2
    assert int(stored_agent(agent_id).config_version) == 3


def test_a_rotation_keeps_the_newest_key_that_the_agent_ever_used(agent_id: str, first: str) -> None:
    mark(agent_id, first)
    second = rotate(agent_id)
    mark(agent_id, second)
    third = rotate(agent_id)
    assert keys(agent_id) == [(third, False), (second, True)]
    # The agent has not fetched the third one: it still signs with the second.
    fourth = rotate(agent_id)
    assert keys(agent_id) == [(fourth, False), (second, True)]


def test_a_rotation_and_a_configuration_at_once_both_count(agent_id: str, first: str) -> None:
    def configure() -> None:
        agent_configure(
            agent_id=agent_id, labels=["arm"], slots=2, deployment_targets=[], config_version=1, actor=ADMIN
        )

    with before_first(Transaction, "commit", configure):
        second = rotate(agent_id)
    agent = stored_agent(agent_id)
    assert ([key.key_id for key in agent.keys], agent.labels, agent.config_version) == ([second, first], ["arm"], 3)


def test_an_agent_that_is_retired_while_its_key_is_rotated_gets_none(agent_id: str, first: str) -> None:
    def retire() -> None:
        agent_retire(agent_id=agent_id, actor=ADMIN)

    with before_first(Transaction, "commit", retire), pytest.raises(Conflict) as caught:
        rotate(agent_id)
    assert caught.value.code == "agent_retired"
    assert keys(agent_id) == [(first, False)]


def test_a_rotation_gives_up_when_the_keys_change_again_and_again(
    agent_id: str, first: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def changed(self: Transaction, **_: Any) -> None:
        Agent(agent_id).update(actions=[Agent.keys[0]["key_id"].set(f"{agent_id}.{next(numbers):08}")])
        commit(self)

    commit, numbers = Transaction.commit, iter(range(100))
    monkeypatch.setattr(Transaction, "commit", changed)
    with pytest.raises(Unavailable):
        rotate(agent_id)
    assert len(keys(agent_id)) == 1


def test_the_services_themselves_refuse_users_without_the_permission(agent_id: str, first: str) -> None:
    for actor in (OPERATOR, Actor("user", "eve", "Eve")):
        with pytest.raises(Forbidden):
            agent_key_rotate(agent_id=agent_id, actor=actor)
    assert keys(agent_id) == [(first, False)]


def test_an_unknown_or_retired_agent_gets_no_key(agent_id: str, tables: None) -> None:
    with pytest.raises(NotFound):
        rotate(new_id())
    agent_retire(agent_id=agent_id, actor=ADMIN)
    with pytest.raises(Conflict):
        rotate(agent_id)


# --- over HTTP ------------------------------------------------------------------------------------------------------


def test_the_configuration_returns_the_key_until_it_is_used_and_never_after(machine: Machine) -> None:
    for _ in range(2):
        assert machine.config().json()["workload_identity_secret"] is not None
    assert machine.heartbeat().status_code == 200
    assert machine.config().json()["workload_identity_secret"] is None


def test_a_replayed_request_for_the_configuration_does_not_return_the_key_once_it_is_used(machine: Machine) -> None:
    path = f"/agents/{machine.agent_id}/config"
    headers = machine.signed("GET", path)
    machine.heartbeat()
    assert machine.get(path, headers=headers).json()["workload_identity_secret"] is None


def test_marking_a_key_used_is_written_once(machine: Machine, make_machine: Callable[..., Machine]) -> None:
    # Another agent's poll has looked for expired leases just now, so that these need not.
    make_machine().heartbeat()
    with dynamodb_calls() as metering:
        machine.heartbeat()
        machine.heartbeat()
        machine.heartbeat()
    # One beside the three heartbeats.
    assert metering.operations.count("UpdateItem") == 4


def test_a_new_key_is_fetched_with_the_old_one_and_both_are_valid_for_a_day(
    machine: Machine, admin_actor: Actor
) -> None:
    machine.heartbeat()
    agent_key_rotate(agent_id=machine.agent_id, actor=admin_actor)
    answer = machine.config().json()
    assert answer["key_id"] != machine.key_id
    assert answer["config_version"] == 2
    renewed = Machine(
        machine.server, machine.agent_id, answer["key_id"], base64.b64decode(answer["workload_identity_secret"])
    )
    assert renewed.heartbeat(created=clock.epoch() + 10).status_code == 200
    assert renewed.config().json()["workload_identity_secret"] is None
    assert machine.config().status_code == 200
    with clock.shifted(timedelta(hours=23)):
        assert machine.config().status_code == 200
    with clock.shifted(timedelta(hours=25)):
        refused(machine.config(), "key_unknown")
        assert renewed.config().status_code == 200


def test_a_second_rotation_keeps_the_key_that_the_agent_has(machine: Machine, admin_actor: Actor) -> None:
    machine.heartbeat()
    for _ in range(3):
        agent_key_rotate(agent_id=machine.agent_id, actor=admin_actor)
    assert machine.config().status_code == 200
    assert len(stored_agent(machine.agent_id).keys) == 2


def test_a_leaked_key_ends_at_once(machine: Machine, admin_actor: Actor) -> None:
    machine.heartbeat()
    credentials = agent_key_rotate(agent_id=machine.agent_id, actor=admin_actor, immediate=True)
    refused(machine.config(), "key_unknown")
    renewed = Machine(machine.server, credentials.agent_id, credentials.key_id, credentials.secret)
    assert renewed.config().status_code == 200


def test_a_rotation_is_audited_without_the_key(machine: Machine, admin_actor: Actor) -> None:
    credentials = agent_key_rotate(agent_id=machine.agent_id, actor=admin_actor)
    day = clock.timestamp(clock.now())[:10]
    (record,) = [record for record in audit_list(day=day).records if record.action == Action.AGENT_KEY_ROTATED]
    assert record.target == f"agent:{machine.agent_id}"
    assert base64.b64encode(credentials.secret).decode() not in json.dumps(record.to_simple_dict())
