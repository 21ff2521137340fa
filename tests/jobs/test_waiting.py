"""What a queued job waits for, and what happens next, as the API says it."""

from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Any

import pytest
from django.core.cache import cache

from apps.agents.services import agent_drain, agent_retire
from apps.jobs.selectors import job_get
from apps.jobs.selectors.waiting import job_waiting
from apps.jobs.services import job_cancel, leases_expire
from controlplane.lib import clock
from controlplane.lib.actor import Actor
from tests.clients import Client
from tests.conftest import ADMIN
from tests.jobs.test_deployment_targets import deployer
from tests.metering import dynamodb_calls
from tests.polling import polled
from tests.signing import AgentClient, enrolled

# The clock stands, so that the messages have the same seconds each time.
pytestmark = pytest.mark.usefixtures("now")

MakeJob = Callable[..., str]


def waiting(client: Client, job_id: str) -> Any:
    """What the API says now, whatever the process has read before."""
    cache.clear()
    answer = client.get(f"/jobs/{job_id}")
    assert answer.status_code == 200
    return answer.json()["waiting"]


def waits(client: Client, job_id: str) -> tuple[str, str]:
    found = waiting(client, job_id)
    return found["code"], found["message"]


def idle(server: str, name: str = "build-1", *, labels: Sequence[str] = (), slots: int = 1) -> AgentClient:
    """An agent that has sent a heartbeat and takes no job by itself."""
    agent = enrolled(server, name=name, labels=labels, slots=slots)
    agent.heartbeat(free_slots=0)
    return agent


def test_a_job_says_that_there_is_no_agent_yet(viewer: Client, make_job: MakeJob) -> None:
    job_id = make_job()
    assert waiting(viewer, job_id) == {
        "code": "no_agents",
        "message": "Queued 0 s ago; there is no agent yet: add one on the page Agents.",
        "since": job_get(job_id).created_at,
        "jobs_ahead": 0,
        "agents": 0,
        "missing_labels": [],
        "estimated_start": None,
        "offline_since": None,
    }


def test_a_job_says_that_an_agent_will_take_it_within_seconds(viewer: Client, make_job: MakeJob) -> None:
    idle(viewer.server, labels=["linux"])
    make_job(labels=["linux"])
    found = waiting(viewer, make_job(labels=["linux"]))
    assert (found["code"], found["agents"], found["jobs_ahead"]) == ("agents_available", 1, 1)
    assert found["message"] == "Queued 0 s ago; an agent will take it within seconds, after 1 job before it."


def test_a_job_says_how_many_agents_could_take_it_all_busy(viewer: Client, make_job: MakeJob) -> None:
    for number in range(3):
        make_job()
        enrolled(viewer.server, name=f"build-{number}", slots=1).take()
    job_id = make_job()
    busy = "Queued 0 s ago; 3 of 3 agents that could take it are busy; position {} in the queue."
    assert waits(viewer, job_id) == ("agents_busy", busy.format(1))
    more_urgent = make_job(priority=90)
    assert waits(viewer, job_id)[1] == busy.format(2)
    assert waiting(viewer, more_urgent)["jobs_ahead"] == 0


@pytest.mark.parametrize(
    ("ended", "every", "ahead", "minutes", "words"),
    [
        pytest.param(8, 2, 1, 5, "5 min", id="from the last ends"),
        pytest.param(2, 20, 1, 40, "40 min", id="an agent that has not run for an hour"),
        pytest.param(2, 20, 6, 180, "3 h", id="coarser when it is further away"),
    ],
)
def test_a_job_whose_agents_are_busy_says_when_it_likely_starts_by_the_last_hours_rate(
    viewer: Client, make_job: MakeJob, ended: int, every: int, ahead: int, minutes: int, words: str
) -> None:
    agent = enrolled(viewer.server, slots=1)
    for number in range(ended):
        make_job()
        with clock.shifted(timedelta(minutes=every * number)):
            agent.finish(agent.take())
    with clock.shifted(timedelta(minutes=every * ended)):
        make_job()
        agent.take()
        jobs = [make_job() for _ in range(ahead + 1)]
        found = waiting(viewer, jobs[-1])
        start = clock.now() + timedelta(minutes=minutes)
    assert f"position {ahead + 1} in the queue, likely to start in about {words}." in found["message"]
    assert found["estimated_start"] == clock.timestamp(start.replace(second=0, microsecond=0))


def test_no_start_is_estimated_when_nothing_ended_in_the_last_hour(viewer: Client, make_job: MakeJob) -> None:
    agent = enrolled(viewer.server, slots=1)
    make_job()
    agent.finish(agent.take())
    with clock.shifted(timedelta(minutes=61)):
        make_job()
        agent.take()
        found = waiting(viewer, make_job())
    assert (found["code"], found["estimated_start"]) == ("agents_busy", None)
    assert found["message"].endswith("position 1 in the queue.")


def test_a_job_that_was_lost_says_that_it_is_queued_again_and_since_when(viewer: Client, make_job: MakeJob) -> None:
    job_id = make_job()
    enrolled(viewer.server, name="lost").take()
    with polled(50):
        leases_expire()
        again_at = clock.now()
        make_job(priority=90)
        enrolled(viewer.server, name="busy", slots=1).take()
        with clock.shifted(timedelta(seconds=12)):
            found = waiting(viewer, job_id)
    assert found["code"] == "agents_busy"
    assert found["message"] == (
        "Queued again 12 s ago; 1 of 2 agents that could take it is busy, 1 offline; position 1 in the queue."
    )
    assert found["since"] == clock.timestamp(again_at)


def test_a_job_names_the_label_that_no_agent_has(viewer: Client, make_job: MakeJob) -> None:
    idle(viewer.server, labels=["linux"])
    found = waiting(viewer, make_job(labels=["gpu", "linux"]))
    assert (found["code"], found["missing_labels"]) == ("no_agent_with_labels", ["gpu"])
    assert found["message"] == "Queued 0 s ago; no agent has label gpu: start an agent that has."


def test_a_job_that_deploys_waits_for_an_agent_with_its_target(viewer: Client, make_job: MakeJob) -> None:
    job_id = make_job(labels=["deploy:production"])
    idle(viewer.server)
    found = waiting(viewer, job_id)
    assert found["missing_labels"] == ["deploy:production"]
    assert "an admin can give an agent the deployment target production" in found["message"]
    deployer(viewer.server, ["production"]).heartbeat(free_slots=0)
    assert waiting(viewer, job_id)["code"] == "agents_available"


def test_a_job_names_the_labels_that_no_agent_has_together(viewer: Client, make_job: MakeJob) -> None:
    idle(viewer.server, labels=["linux"])
    idle(viewer.server, "build-2", labels=["gpu"])
    found = waiting(viewer, make_job(labels=["gpu", "linux"]))
    assert (found["code"], found["missing_labels"]) == ("no_agent_with_labels", [])
    assert "no agent has all of the labels gpu, linux (agents with gpu: 1, linux: 1)" in found["message"]


def test_a_job_says_since_when_its_agents_are_offline(viewer: Client, make_job: MakeJob, now: str) -> None:
    idle(viewer.server, labels=["gpu"])
    idle(viewer.server, "build-2", labels=["gpu"])
    jobs = make_job(), make_job(labels=["gpu"])
    with clock.shifted(timedelta(minutes=12)):
        any_agent, labelled = (waiting(viewer, job_id) for job_id in jobs)
    assert any_agent["code"] == labelled["code"] == "agents_offline"
    assert labelled["offline_since"] == now
    since = f"since {now[:10]} {now[11:16]} UTC, 12 min ago."
    assert any_agent["message"] == f"Queued 12 min ago; 2 agents could take it, all offline {since}"
    assert labelled["message"] == f"Queued 12 min ago; agents with the label gpu: 2, offline {since}"


def test_a_job_says_that_its_agents_are_draining_and_forgets_retired_ones(viewer: Client, make_job: MakeJob) -> None:
    agent, retired = idle(viewer.server), idle(viewer.server, "build-2")
    agent_drain(agent_id=agent.agent_id, actor=ADMIN)
    agent_retire(agent_id=retired.agent_id, actor=ADMIN)
    job_id = make_job()
    code, message = waits(viewer, job_id)
    assert code == "agents_draining"
    assert "1 agent could take it, but it is draining; resume one, or start another" in message


def test_a_job_says_why_the_machine_of_its_agent_is_unfit(viewer: Client, make_job: MakeJob) -> None:
    agent = enrolled(viewer.server)
    agent.heartbeat(free_slots=0, disk_percent=99)
    code, message = waits(viewer, make_job())
    assert code == "agents_unfit"
    assert "but it is unfit: The disk is full" in message


def test_a_job_that_has_just_failed_on_the_only_agent_says_when_it_may_run_there_again(
    viewer: Client, make_job: MakeJob, agent: AgentClient
) -> None:
    job_id = make_job()
    agent.finish(agent.take(), exit_code=None, agent_fault="The disk is full.")
    code, message = waits(viewer, job_id)
    assert code == "agents_avoided"
    assert "it has just failed to run on 1 agent that could take it, which may again in 120 s" in message


def test_only_a_queued_job_waits(viewer: Client, make_job: MakeJob, agent: AgentClient, operator_actor: Actor) -> None:
    job_id = make_job()
    agent.take()
    assert waiting(viewer, job_id) is None
    other = make_job()
    job_cancel(actor=operator_actor, job_id=other)
    assert waiting(viewer, other) is None


def test_a_job_whose_entry_has_just_left_the_queue_is_being_claimed(viewer: Client, make_job: MakeJob) -> None:
    job = job_get(make_job())
    enrolled(viewer.server).take()
    found = job_waiting(job)
    assert found is not None
    assert (found.code, found.jobs_ahead) == ("being_claimed", None)


@pytest.mark.parametrize("agents", [1, 4])
def test_what_a_job_waits_for_costs_one_read_and_three_of_the_fleet_every_five_seconds(
    viewer: Client, make_job: MakeJob, agents: int
) -> None:
    """Three for a fleet of one region, however many jobs with these labels wait and however many requests come."""
    for number in range(agents):
        idle(viewer.server, f"build-{number}")
    job = job_get(make_job())
    with dynamodb_calls() as first:
        job_waiting(job)
    assert first.operations == ["Query", "Query", "Query", "BatchGetItem"]
    other = job_get(make_job())
    with dynamodb_calls() as metering:
        job_waiting(other)
    assert metering.operations == ["Query"]
    assert metering.write_units == 0
