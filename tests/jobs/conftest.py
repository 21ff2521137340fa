"""A pipeline, people and agents for tests of jobs."""

from collections.abc import Callable

import pytest

from apps.agents.models import Heartbeat
from apps.jobs.services import job_create
from apps.pipelines.services import pipeline_save
from controlplane.lib import clock
from controlplane.lib.actor import Actor
from controlplane.lib.ids import new_id
from tests.clients import Client
from tests.conftest import ADMIN, OPERATOR, person
from tests.signing import AgentClient, enrolled

DEFINITION = """\
steps:
  - name: lint
    run: make lint
  - name: test
    run: make test
"""

MakeAgent = Callable[[], Actor]


@pytest.fixture
def operator_actor() -> Actor:
    return OPERATOR


@pytest.fixture
def pipeline(tables: None, operator_actor: Actor) -> str:
    """The default pipeline, with a definition of two steps on the server."""
    pipeline_save(
        actor=ADMIN,
        name="self",
        repository="https://git.example.com/app.git",
        default_ref="main",
        definition=DEFINITION,
    )
    return "self"


@pytest.fixture
def make_agent(tables: None) -> MakeAgent:
    """Makes healthy agents that have only a heartbeat item, which is all that the queue reads."""

    def make() -> Actor:
        heartbeat = Heartbeat(new_id(), at=clock.timestamp(clock.now()), status="healthy")
        heartbeat.save()
        return Actor("agent", str(heartbeat.agent_id), "build")

    return make


@pytest.fixture
def make_job(pipeline: str, operator_actor: Actor) -> Callable[..., str]:
    """Queues a job and gives its id."""

    def make(**members: object) -> str:
        return str(job_create(actor=operator_actor, **members).job_id)  # type: ignore[arg-type]

    return make


@pytest.fixture
def viewer(server: str) -> Client:
    """Looks on."""
    return person(server, "viewer")


@pytest.fixture
def agent(server: str) -> AgentClient:
    """An enrolled agent without labels, over HTTP."""
    return enrolled(server)
