"""A pipeline, people and agents for tests of jobs, and what is stored of a job."""

import json
from collections.abc import Callable, Mapping
from typing import Any

import pytest

from apps.agents.models import Heartbeat
from apps.audit.models import AuditRecord
from apps.jobs.models import Job
from apps.jobs.services import job_create
from apps.pipelines.services import pipeline_save
from controlplane.lib import clock
from controlplane.lib.actor import Actor
from controlplane.lib.ids import new_id
from tests.clients import Client
from tests.conftest import ADMIN, OPERATOR, person
from tests.jobs.runs import Worker, graph_pipeline
from tests.notifications.conftest import hook as hook
from tests.properties.consistency import Items
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
def worker(make_agent: MakeAgent) -> Worker:
    """An agent that runs the jobs of runs, and the pipeline `graph`, whose definition is in its repository."""
    graph_pipeline()
    return Worker(make_agent())


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


@pytest.fixture
def now(monkeypatch: pytest.MonkeyPatch) -> str:
    """The time at which the clock stands in this test, unless the test shifts it."""
    moment = clock.now()
    monkeypatch.setattr(clock, "now", lambda: moment + clock._offset)
    return clock.timestamp(moment)


def stored_job(job_id: str) -> dict[str, Any]:
    """All attributes of the job as they are in the database."""
    (item,) = (item for item in Items().of(Job) if item["job_id"]["S"] == job_id)
    return _plain(item)


def stored_lease(agent_id: str, job_id: str) -> dict[str, Any] | None:
    """The agent's lease on the job as it is in the database."""
    (item,) = (item for item in Items().of(Heartbeat) if item["agent_id"]["S"] == agent_id)
    leases: dict[str, Any] = _plain(item).get(Heartbeat.lease_map.attr_name, {})
    return leases.get(job_id)


def changes(before: Mapping[str, Any], after: Mapping[str, Any]) -> dict[str, Any]:
    """The attributes that differ, with the later value; None for one that is gone."""
    return {name: after.get(name) for name in {*before, *after} if before.get(name) != after.get(name)}


def event_of(job_id: str, action: str) -> dict[str, Any]:
    """The one audit event of the job with this action: its actor, result and detail."""
    (item,) = (
        item
        for item in Items().of(AuditRecord)
        if (item["target"]["S"], item["action"]["S"]) == (f"job:{job_id}", action)
    )
    detail = json.loads(item["detail"]["S"]) if "detail" in item else None
    return {"actor": item["actor_id"]["S"], "result": item["result"]["S"], "detail": detail}


def _plain(item: dict[str, Any]) -> dict[str, Any]:
    return {name: _plain_value(value) for name, value in item.items()}


def _plain_value(value: dict[str, Any]) -> Any:
    ((kind, content),) = value.items()
    match kind:
        case "N":
            return int(content)
        case "M":
            return _plain(content)
        case "L":
            return [_plain_value(inner) for inner in content]
        case _:
            return content
