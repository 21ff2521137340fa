"""Deployment targets: a job that deploys goes only to agents that have its targets."""

from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Any

import pytest

from apps.agents.models import Agent
from apps.agents.selectors import identity_forget
from apps.agents.services import agent_configure, agent_enrol, enrolment_token_create
from apps.pipelines.services import pipeline_save
from controlplane.lib import clock
from controlplane.lib.errors import InvalidInput
from controlplane.lib.labels import labels_offered, targets_required
from tests.clients import Client, problem
from tests.conftest import ADMIN
from tests.signing import AgentClient, enrolled

MakeJob = Callable[..., str]


def deployer(server: str, targets: Sequence[str], *, labels: Sequence[str] = ()) -> AgentClient:
    """A new agent whose token gives it these targets."""
    _, token = enrolment_token_create(
        uses=1, expires_at=clock.now() + timedelta(hours=1), actor=ADMIN, deployment_targets=targets
    )
    made = agent_enrol(token=token, name="deployer", region="eu", labels=labels, slots=4)
    return AgentClient(server, agent_id=made.agent_id, key_id=made.key_id, secret=made.secret)


def jobs_of(agent: AgentClient) -> list[str]:
    return [assignment["job_id"] for assignment in agent.heartbeat()["jobs"]]


def test_a_job_that_deploys_goes_only_to_agents_that_have_the_target(server: str, make_job: MakeJob) -> None:
    job = make_job(labels=["deploy:production", "linux"])
    plain, staging = enrolled(server, labels=["linux", "production"]), deployer(server, ["staging"], labels=["linux"])
    assert (jobs_of(plain), jobs_of(staging)) == ([], [])
    # The target alone is not enough: the job asks for a label, too.
    assert jobs_of(deployer(server, ["production"])) == []
    production = deployer(server, ["staging", "production"], labels=["linux"])
    assert jobs_of(production) == [job]
    started = production.start({"job_id": job, "attempt": 1}).json()
    assert started["deployment_targets"] == ["production"]


def test_the_next_job_of_a_finished_one_obeys_targets_too(server: str, make_job: MakeJob) -> None:
    first = make_job()
    agent = deployer(server, ["staging"])
    assignment = agent.take()
    assert assignment["job_id"] == first
    make_job(labels=["deploy:production"])
    deploying = make_job(labels=["deploy:staging"])
    assert agent.finish(assignment).json()["next"]["job_id"] == deploying


def test_a_repositorys_file_that_deploys_is_passed_on(
    server: str, operator: Client, pipeline: str, make_job: MakeJob
) -> None:
    source: dict[str, Any] = {
        "repository": "https://git.example.com/app.git",
        "default_ref": "main",
        "definition": None,
    }
    pipeline_save(actor=ADMIN, name="self", **source)
    job = make_job()
    agent = enrolled(server)
    text = "labels: ['deploy:production']\nsteps: [{run: make deploy}]\n"
    problem(agent.define(agent.take(), text), 409, "job_moved")
    assert jobs_of(agent) == []
    assert jobs_of(deployer(server, ["production"])) == [job]


def test_a_target_that_is_taken_away_counts_with_the_next_job(server: str, make_job: MakeJob) -> None:
    agent = deployer(server, ["production"])
    agent_configure(agent_id=agent.agent_id, labels=[], slots=4, deployment_targets=[], config_version=1, actor=ADMIN)
    make_job(labels=["deploy:production"])
    assert jobs_of(agent) == []


def test_an_agent_cannot_name_a_target_as_its_label(server: str) -> None:
    _, token = enrolment_token_create(uses=1, expires_at=clock.now() + timedelta(hours=1), actor=ADMIN)
    body = {"token": token, "name": "mine", "region": "eu", "labels": ["deploy:production"]}
    (error,) = problem(Client(server).post("/agents/enrol", json=body), 400, "invalid_input")["errors"]
    assert error["field"].startswith("labels")
    assert "must be a deployment target instead of a label" in error["message"]


def test_a_label_of_an_earlier_version_that_looks_like_a_target_is_none(server: str, make_job: MakeJob) -> None:
    agent = enrolled(server)
    Agent(agent.agent_id).update(actions=[Agent.labels.set(["deploy:production"])])
    identity_forget(agent.agent_id)
    make_job(labels=["deploy:production"])
    assert jobs_of(agent) == []
    # A user who configures the agent may leave the label there.
    kept = agent_configure(
        agent_id=agent.agent_id,
        labels=["deploy:production"],
        slots=2,
        deployment_targets=["staging"],
        config_version=1,
        actor=ADMIN,
    )
    assert kept.labels == ["deploy:production"]


@pytest.mark.parametrize(
    ("bounds", "field"),
    [({"labels": ["deploy:staging"]}, "labels"), ({"deployment_targets": ["x" * 57]}, "deployment_targets")],
)
def test_a_token_has_only_targets_that_a_job_can_name(bounds: dict[str, Any], field: str, tables: None) -> None:
    with pytest.raises(InvalidInput) as caught:
        enrolment_token_create(uses=1, expires_at=clock.now() + timedelta(hours=1), actor=ADMIN, **bounds)
    assert [error["field"] for error in caught.value.errors] == [field]


def test_what_an_agent_offers_are_its_labels_and_targets() -> None:
    assert labels_offered(["linux", "deploy:x"], ["staging"]) == ("linux", "deploy:staging")
    assert targets_required(["deploy:b", "linux", "deploy:a"]) == ["a", "b"]


def test_idle_agents_ask_for_work_as_often_as_their_configuration_says(server: str, settings: Any) -> None:
    settings.AGENT_CHECK_SECONDS = 20
    agent = enrolled(server)
    config = agent.send(agent.signed(f"/agents/{agent.agent_id}/config", b"", method="GET")).json()
    assert config["schedule_interval_seconds"] == 20
    assert {agent.heartbeat()["next_check_interval"] for _ in range(3)} <= set(range(16, 25))
