"""Enrolment tokens, enrolled machines, and what the records say of them."""

import base64
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from apps.agents.models import Agent, Heartbeat
from apps.agents.selectors import fleet_counts
from apps.agents.services import agent_enrol, enrolment_token_create
from controlplane.lib import clock
from controlplane.lib.actor import Actor
from tests.agents.machines import Machine
from tests.conftest import ADMIN

ENROLMENT = {
    "name": "build-1",
    "region": "eu-central-1",
    "labels": ["linux", "gpu"],
    "slots": 4,
    "hostname": "build-1.example.com",
    "os": "Linux 6.1",
    "arch": "x86_64",
    "version": "0.1.0",
}


@pytest.fixture
def admin_actor() -> Actor:
    """The user who manages the agents."""
    return replace(ADMIN, name="Ada")


@pytest.fixture
def token(tables: None, admin_actor: Actor) -> str:
    """The secret of an enrolment token for many machines."""
    expires_at = clock.now() + timedelta(hours=1)
    return enrolment_token_create(uses=1000, expires_at=expires_at, actor=admin_actor)[1]


@pytest.fixture
def enrol(token: str) -> Callable[..., str]:
    """Enrols an agent below HTTP and gives its id."""

    def make(**members: Any) -> str:
        return agent_enrol(token=token, **(ENROLMENT | members)).agent_id  # type: ignore[arg-type]

    return make


@pytest.fixture
def make_machine(server: str, token: str) -> Callable[..., Machine]:
    """Enrols a machine over HTTP."""

    def make(**members: Any) -> Machine:
        machine = Machine(server, "", "", b"")
        response = machine.post("/agents/enrol", json=ENROLMENT | {"token": token} | members)
        assert response.status_code == 201, response.text
        answer = response.json()
        machine.agent_id, machine.key_id = answer["agent_id"], answer["key_id"]
        machine.key = base64.b64decode(answer["workload_identity_secret"])
        return machine

    return make


@pytest.fixture
def machine(make_machine: Callable[..., Machine]) -> Machine:
    return make_machine()


@pytest.fixture
def small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each read of the fleet gives two agents instead of a hundred."""
    monkeypatch.setattr("controlplane.nosql.listing._BATCH", 2)


@pytest.fixture
def fleet(tables: None) -> Callable[[int], list[str]]:
    """Enrols agents in two regions; gives their ids."""

    _, token = enrolment_token_create(uses=100, expires_at=clock.now() + timedelta(days=1), actor=ADMIN)

    def make(number: int) -> list[str]:
        regions = [("eu", "us")[index % 2] for index in range(number)]
        return [
            agent_enrol(token=token, name="build", region=region, labels=[], slots=2).agent_id for region in regions
        ]

    return make


def stored_heartbeat(agent_id: str) -> Heartbeat:
    heartbeat = Heartbeat.find(agent_id)
    assert heartbeat is not None
    return heartbeat


def stored_agent(agent_id: str) -> Agent:
    agent = Agent.find(agent_id)
    assert agent is not None
    return agent


def counters_are_right() -> bool:
    """Whether the fleet's counters say what a count of all agents says."""
    counted: dict[str, Counter[str]] = {}
    for agent in Agent.scan():
        counted.setdefault(agent.region, Counter())[agent.status] += 1
    return fleet_counts() == {region: dict(statuses) for region, statuses in counted.items()}
