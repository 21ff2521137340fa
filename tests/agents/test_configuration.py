"""Changing the configuration of an agent: what it may be, and what an agent from before a rule keeps."""

from collections.abc import Callable

import pytest

from apps.agents.models import Agent
from apps.agents.services import agent_configure
from controlplane.lib.actor import Actor
from controlplane.lib.errors import InvalidInput
from tests.agents.conftest import stored_agent


def configure(agent_id: str, admin_actor: Actor, labels: list[str], slots: int = 4) -> Agent:
    version = int(stored_agent(agent_id).config_version)
    return agent_configure(
        agent_id=agent_id, labels=labels, slots=slots, deployment_targets=[], config_version=version, actor=admin_actor
    )


@pytest.mark.parametrize("label", ["-linux", ".linux", "a b", "", "l" * 64])
def test_a_label_that_no_job_can_ask_for_is_refused(enrol: Callable[..., str], admin_actor: Actor, label: str) -> None:
    agent_id = enrol()
    with pytest.raises(InvalidInput) as caught:
        configure(agent_id, admin_actor, ["linux", label])
    (error,) = caught.value.errors
    assert error["field"] == "labels"
    assert "must be 1 to 63 letters, digits and . _ : / = -, beginning with a letter or digit" in error["message"]
    assert stored_agent(agent_id).labels == ["linux", "gpu"]


def test_an_agent_keeps_the_labels_that_it_has(enrol: Callable[..., str], admin_actor: Actor) -> None:
    agent_id = enrol()
    Agent(agent_id).update(actions=[Agent.labels.set(["-old", "linux"])])
    assert configure(agent_id, admin_actor, ["-old", "linux", "gpu"], slots=2).slots == 2
    assert stored_agent(agent_id).labels == ["-old", "linux", "gpu"]
