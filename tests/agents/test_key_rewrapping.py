"""Encrypting agents' keys anew, after the key that encrypts them was replaced."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from apps.agents.models import Agent
from apps.agents.selectors import key_context
from apps.agents.services import agent_key_rotate
from apps.agents.services.key_rewrapping import agent_keys_rewrap
from controlplane.lib.envelope import decrypt, is_current, key_replace, keys_kept
from tests.agents.conftest import stored_agent
from tests.agents.interleaving import before_first
from tests.conftest import ADMIN

Enrol = Callable[..., str]


@pytest.fixture(autouse=True)
def key_file(settings: Any, tmp_path: Path) -> None:
    settings.KEY_FILE = tmp_path / "sealing.key"


def secrets_of(agent_id: str) -> dict[str, bytes]:
    """The agent's keys by their ids, decrypted."""
    keys = stored_agent(agent_id).keys
    return {key.key_id: decrypt(key.encrypted, context=key_context(agent_id, key.key_id)) for key in keys}


def test_each_key_of_each_agent_is_encrypted_anew_once_and_stays_the_same(enrol: Enrol) -> None:
    agents = [enrol(), enrol(name="build-2", region="us-east-1")]
    agent_key_rotate(agent_id=agents[0], actor=ADMIN)
    before = [secrets_of(agent_id) for agent_id in agents]
    key_replace()
    named: list[str] = []
    assert agent_keys_rewrap(progress=named.append) == 3
    assert sorted(named) == ["build-1", "build-2"]
    for path in keys_kept().values():
        path.unlink()
    assert [secrets_of(agent_id) for agent_id in agents] == before
    assert agent_keys_rewrap(progress=named.append) == 0


def test_a_key_that_is_replaced_meanwhile_is_left_alone(enrol: Enrol) -> None:
    agent_id = enrol()
    key_replace()
    rotated: list[str] = []
    with before_first(Agent, "update", lambda: rotated.append(agent_key_rotate(agent_id=agent_id, actor=ADMIN).key_id)):
        assert agent_keys_rewrap(progress=lambda _: None) == 0
    newest, oldest = stored_agent(agent_id).keys
    assert newest.key_id == rotated[0]
    assert (is_current(newest.encrypted), is_current(oldest.encrypted)) == (True, False)
    # Another run does the rest.
    assert agent_keys_rewrap(progress=lambda _: None) == 1


def test_an_agent_that_is_deleted_meanwhile_does_not_come_back(enrol: Enrol) -> None:
    agent_id = enrol()
    key_replace()
    with before_first(Agent, "update", lambda: Agent(agent_id).delete()):
        assert agent_keys_rewrap(progress=lambda _: None) == 0
    assert Agent.find(agent_id) is None
