"""How the agent program enrols at the real control plane, and what it says about an enrolment token's bounds."""

from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from agent.client import Client
from agent.enrolment import enrol
from agent.errors import RefusedByControlPlane
from agent.identity import Identity, identity_load
from agent.protocol import ControlPlane
from agent.state import StateDirectory
from apps.agents.models import Agent
from apps.agents.services import enrolment_token_create
from controlplane.lib import clock
from tests.conftest import ADMIN

BOUNDS: dict[str, Any] = {"labels": ["linux", "gpu"], "regions": ["eu"], "slots": 2}

Enrol = Callable[..., Identity]


@pytest.fixture
def state(tmp_path: Path) -> Iterator[StateDirectory]:
    state = StateDirectory(tmp_path / "state")
    yield state
    state.close()


@pytest.fixture
def start(server: str, state: StateDirectory) -> Iterator[Enrol]:
    """Enrols with a new token of these bounds, as the agent's first start does."""

    client = Client(server)

    def enrol_with(bounds: dict[str, Any], **options: Any) -> Identity:
        expires_at = clock.now() + timedelta(hours=1)
        _, token = enrolment_token_create(uses=1, expires_at=expires_at, actor=ADMIN, **bounds)
        members = {"name": "build-1", "region": "eu", "labels": [], "slots": 1, **options}
        return enrol(ControlPlane(client), state, token=token, **members)

    yield enrol_with
    client.addresses.used.close_idle()


def test_a_machine_that_is_started_without_labels_gets_those_of_its_token(start: Enrol, state: StateDirectory) -> None:
    identity = start(BOUNDS)
    assert identity_load(state.identity) == identity
    assert Agent.get(identity.agent_id).labels == ["linux", "gpu"]


def test_a_refusal_beyond_the_token_says_what_is_allowed_and_what_to_do(start: Enrol, state: StateDirectory) -> None:
    with pytest.raises(RefusedByControlPlane) as caught:
        start(BOUNDS, labels=["mine"], region="us", slots=3)
    assert str(caught.value) == (
        "The control plane refused to enrol this machine (403 enrolment_beyond_token: This enrolment token does not "
        "allow what the machine asks for.; labels: must be among linux, gpu, without mine; region: must be eu; "
        "slots: must be at most 2). Start the agent with options that the token allows (--labels, --region, --slots), "
        "or ask for a token that allows these."
    )
    assert caught.value.exit_code == 3
    assert identity_load(state.identity) is None
    # The next start, with other options, is another request.
    assert not state.enrolment.exists()
    assert start(BOUNDS, labels=["linux"], slots=2)
