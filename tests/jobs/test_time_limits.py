"""The server enforces time limits and cancel requests, whatever an agent does."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from datetime import timedelta
from typing import Any

import pytest

from apps.jobs.selectors import job_get
from apps.pipelines.definitions import MAX_TIMEOUT_SECONDS
from apps.pipelines.services import pipeline_save
from controlplane.lib import clock
from tests.clients import Client, problem
from tests.conftest import ADMIN
from tests.properties.consistency import Everything
from tests.signing import AgentClient, enrolled

MakeJob = Callable[..., str]
GRACE = 120


@pytest.fixture
def limited(pipeline: str) -> Callable[[str], str]:
    """Saves a pipeline with this definition and gives its name."""

    def save(definition: str | None) -> str:
        repository = "https://git.example.com/app.git"
        pipeline_save(actor=ADMIN, name="limited", repository=repository, default_ref="main", definition=definition)
        return "limited"

    return save


def heartbeats(agent: AgentClient, assignment: dict[str, Any], *, until: float, **members: Any) -> list[dict[str, Any]]:
    """Heartbeats each 15 s until so many seconds have passed; returns the commands of the last one."""
    for seconds in (*range(max(0, int(until) - 150), int(until), 15), until):
        with later(seconds):
            commands: list[dict[str, Any]] = agent.heartbeat(running=[assignment], free_slots=0, **members)["wishes"]
    return commands


def later(seconds: float) -> AbstractContextManager[None]:
    return clock.shifted(timedelta(seconds=seconds))


@pytest.mark.parametrize(
    ("definition", "limit"),
    [
        ("steps: [{run: make}]", 3600),
        ("timeout: 1m\nsteps: [{run: make}]", 60),
        ("timeout: 24h\nsteps: [{run: make}]", 86400),
    ],
)
def test_an_attempt_over_its_limit_ends_as_timed_out_although_its_agent_goes_on_with_heartbeats(
    agent: AgentClient, make_job: MakeJob, limited: Callable[[str], str], definition: str, limit: int
) -> None:
    job_id = make_job(pipeline=limited(definition))
    (assignment,) = agent.heartbeat()["jobs"]
    assert agent.start(assignment).json()["timeout"] == limit
    assert heartbeats(agent, assignment, until=limit + GRACE - 5) == []
    assert job_get(job_id).status == "running"
    abandon = [{**assignment, "wish": "abandon"}]
    assert heartbeats(agent, assignment, until=limit + GRACE + 5) == abandon
    job = job_get(job_id)
    assert (job.status, job.error_message) == (
        "timed_out",
        f"The job exceeded its time limit of {limit} s. Its agent did not stop it.",
    )
    assert heartbeats(agent, assignment, until=limit + GRACE + 20) == abandon
    assert agent.finish(assignment).status_code == 200
    assert job_get(job_id).status == "timed_out"
    assert Everything.read().inconsistencies() == []


def test_the_steps_of_a_job_that_the_server_ends_show_where_it_stood(
    operator: Client, agent: AgentClient, make_job: MakeJob
) -> None:
    job_id = make_job()
    assignment = agent.take()
    steps = [{"name": "lint", "state": "completed"}, {"name": "test", "state": "running"}]
    steps.append({"name": "more", "state": "pending"})
    heartbeats(agent, {**assignment, "steps": steps}, until=3600 + GRACE + 5)
    shown = operator.get(f"/jobs/{job_id}").json()["steps"]
    assert [step["state"] for step in shown] == ["completed", "timed_out", "skipped"]


def test_the_limit_in_the_repositorys_file_counts_from_the_start_on(
    agent: AgentClient, make_job: MakeJob, limited: Callable[[str | None], str]
) -> None:
    job_id = make_job(pipeline=limited(None))
    (assignment,) = agent.heartbeat()["jobs"]
    assert agent.start(assignment).json()["timeout"] is None
    with later(100):
        answer = agent.define(assignment, "timeout: 2h\nsteps: [{run: make}]")
        assert answer.json()["timeout"] == 7200
    assert heartbeats(agent, assignment, until=7200 + GRACE - 5) == []
    assert heartbeats(agent, assignment, until=7200 + GRACE + 5) != []
    assert job_get(job_id).status == "timed_out"


def test_a_repositorys_file_without_a_limit_gets_an_hour(
    agent: AgentClient, make_job: MakeJob, limited: Callable[[str | None], str]
) -> None:
    make_job(pipeline=limited(None))
    assignment = agent.take()
    assert agent.define(assignment, "steps: [{run: make}]").json()["timeout"] == 3600
    assert heartbeats(agent, assignment, until=3600 + GRACE + 5) != []


def test_a_definition_may_ask_for_24_hours_and_no_more(
    agent: AgentClient, make_job: MakeJob, limited: Callable[[str | None], str]
) -> None:
    make_job(pipeline=limited(None))
    assignment = agent.take()
    for text in ("86401", "25h", "0"):
        answer = agent.define(assignment, f"timeout: {text}\nsteps: [{{run: make}}]")
        (error,) = problem(answer, 422, "definition_invalid")["errors"]
        assert (error["field"], error["line"]) == ("timeout", 1)
    assert MAX_TIMEOUT_SECONDS == 86400


def test_an_agent_that_could_not_report_during_an_outage_may_still_report_that_it_ended_in_time(
    agent: AgentClient, make_job: MakeJob
) -> None:
    job_id = make_job()
    assignment = agent.take()
    with later(3600 + 600):
        assert agent.heartbeat(running=[assignment], free_slots=0)["wishes"] == []
        assert agent.finish(assignment).status_code == 200
    assert job_get(job_id).status == "completed"


def test_after_an_outage_an_attempt_over_its_limit_ends_two_minutes_after_the_return(
    agent: AgentClient, make_job: MakeJob
) -> None:
    make_job()
    assignment = agent.take()
    for seconds in range(0, 120, 15):
        with later(3600 + 600 + seconds):
            assert agent.heartbeat(running=[assignment], free_slots=0)["wishes"] == [], seconds
    with later(3600 + 600 + 125):
        assert agent.heartbeat(running=[assignment], free_slots=0)["wishes"] != []


def test_a_cancel_that_the_agent_does_not_obey_within_two_minutes_ends_the_attempt(
    operator: Client, server: str, agent: AgentClient, make_job: MakeJob
) -> None:
    job_id = make_job()
    assignment = agent.take()
    heartbeats(agent, assignment, until=300)
    with later(300):
        operator.post(f"/jobs/{job_id}/cancel")
    assert heartbeats(agent, assignment, until=300 + 115) == [{**assignment, "wish": "cancel"}]
    assert job_get(job_id).status == "running"
    assert heartbeats(agent, assignment, until=300 + 125) == [{**assignment, "wish": "abandon"}]
    job = job_get(job_id)
    assert (job.status, job.error_message) == (
        "cancelled",
        "The agent did not cancel the job within 2 minutes, so the control plane did.",
    )
    with later(430):
        assert agent.heartbeat(free_slots=0)["wishes"] == []
    make_job()
    assert enrolled(server, name="build-2").heartbeat()["jobs"] != []
    assert Everything.read().inconsistencies() == []
