"""What a process remembers of an agent, for how long, and which of its keys are accepted."""

from collections.abc import Callable
from datetime import timedelta

import pytest

from apps.agents.models import Agent
from apps.agents.selectors import identity_forget, identity_get, key_context, keys_alive
from apps.agents.services import agent_key_mark_used, agent_key_rotate
from controlplane.lib import clock
from controlplane.lib.envelope import DecryptionFailed, decrypt
from controlplane.lib.ids import new_id
from tests.agents.conftest import stored_agent
from tests.conftest import ADMIN
from tests.metering import dynamodb_calls


@pytest.fixture
def agent_id(enrol: Callable[..., str]) -> str:
    return enrol()


@pytest.fixture
def key_id(agent_id: str) -> str:
    return str(stored_agent(agent_id).keys[0].key_id)


def reads(agent_id: str, key_id: str) -> int:
    """How many reads it costs to look at the agent."""
    with dynamodb_calls() as metering:
        identity_get(agent_id, key_id)
    return metering.calls


def test_an_identity_is_remembered_for_a_minute(agent_id: str, key_id: str) -> None:
    identity = identity_get(agent_id, key_id)
    assert identity is not None
    assert (identity.name, identity.region, identity.labels, identity.slots, identity.status) == (
        "build-1",
        "eu-central-1",
        ("linux", "gpu"),
        4,
        "healthy",
    )
    for seconds, cost in ((0, 0), (58, 0), (62, 1)):
        with clock.shifted(timedelta(seconds=seconds)):
            assert reads(agent_id, key_id) == cost, seconds


def test_a_clock_that_was_set_back_makes_no_identity_older_than_it_is(agent_id: str, key_id: str) -> None:
    with clock.shifted(timedelta(hours=1)):
        identity_get(agent_id, key_id)
    assert reads(agent_id, key_id) == 1


def test_an_identity_that_was_forgotten_is_read_again(agent_id: str, key_id: str) -> None:
    identity_get(agent_id, key_id)
    Agent(agent_id).update(actions=[Agent.slots.set(9)])
    identity_forget(agent_id)
    found = identity_get(agent_id, key_id)
    assert found is not None
    assert found.slots == 9
    identity_forget(new_id())


def test_a_key_that_is_not_remembered_is_looked_for(agent_id: str, key_id: str) -> None:
    identity_get(agent_id, key_id)
    assert reads(agent_id, f"{agent_id}.00000000") == 1
    assert reads(agent_id, key_id) == 0


def test_an_unknown_agent_is_none_and_not_remembered(tables: None) -> None:
    unknown = new_id()
    for _ in range(2):
        assert identity_get(unknown, f"{unknown}.00000000") is None
        assert reads(unknown, f"{unknown}.00000000") == 1


def test_the_previous_key_is_accepted_for_a_day_after_the_newest_one_was_made(agent_id: str, key_id: str) -> None:
    agent_key_mark_used(agent_id=agent_id, key_id=key_id)
    # The first key is older than a day when the second one is made.
    with clock.shifted(timedelta(days=3)):
        second = agent_key_rotate(agent_id=agent_id, actor=ADMIN).key_id
    for hours, accepted in ((23, [second, key_id]), (24.1, [second])):
        with clock.shifted(timedelta(days=3, hours=hours)):
            assert [key.key_id for key in keys_alive(stored_agent(agent_id))] == accepted


def test_an_encrypted_key_is_bound_to_its_agent_and_its_id(agent_id: str, key_id: str) -> None:
    encrypted = stored_agent(agent_id).keys[0].encrypted
    assert len(decrypt(encrypted, context=key_context(agent_id, key_id))) == 32
    for context in (key_context(new_id(), key_id), key_context(agent_id, f"{agent_id}.00000000")):
        with pytest.raises(DecryptionFailed):
            decrypt(encrypted, context=context)
    assert "secret" not in repr(keys_alive(stored_agent(agent_id)))
