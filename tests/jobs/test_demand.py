"""The demand for agents: what waits, and what room the agents have; also over HTTP, as autoscalers ask for it."""

from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Any

import pytest

from apps.agents.services import agent_drain, agents_mark_silent
from apps.jobs.selectors.demand import demand_get
from apps.jobs.services import job_create
from apps.pipelines.services import pipeline_pause
from controlplane.lib import clock
from tests.clients import Client, problem
from tests.conftest import ADMIN, OPERATOR
from tests.jobs.deployments import DEPLOYS, deployer, environment
from tests.jobs.runs import DIAMOND, Worker, states
from tests.jobs.test_deployment_targets import deployer as enrolled_deployer
from tests.metering import dynamodb_calls
from tests.signing import AgentClient, enrolled

MakeJob = Callable[..., str]

NO_CAPACITY = {"agents": 0, "slots": 0, "used_slots": 0, "free_slots": 0}


def idle(server: str, *, labels: Sequence[str] = (), slots: int = 4) -> AgentClient:
    """A healthy agent whose slots are all free."""
    agent = enrolled(server, labels=labels, slots=slots)
    agent.heartbeat(free_slots=slots)
    return agent


def asked(client: Client, labels: str | None = None) -> Any:
    answer = client.get("/agents/demand", params={} if labels is None else {"labels": labels})
    assert answer.status_code == 200, answer.text
    assert answer.headers["Cache-Control"] == "no-store"
    return answer.json()


def missing(client: Client) -> dict[str, int]:
    """The missing slots of each label set."""
    return {found["name"]: found["slots_missing"] for found in asked(client)["label_sets"]}


def test_a_control_plane_without_work_and_agents_wants_nothing(viewer: Client) -> None:
    assert asked(viewer) == {
        "waiting": 0,
        "is_lower_bound": False,
        "oldest_wait_seconds": 0,
        "slots_missing": 0,
        "slots_wanted": 0,
        "capacity": NO_CAPACITY,
        "is_partial": False,
        "label_sets": [],
        "regions": [],
    }


@pytest.mark.usefixtures("now")
def test_each_label_set_says_what_waits_for_how_long_and_who_could_take_it(viewer: Client, make_job: MakeJob) -> None:
    idle(viewer.server, labels=["linux"], slots=2)
    make_job(labels=["linux", "deploy:production"])
    with clock.shifted(timedelta(seconds=20)):
        for _ in range(3):
            make_job(labels=["linux"])
        with clock.shifted(timedelta(seconds=10)):
            found = asked(viewer)
    assert found["label_sets"] == [
        {
            "name": "deploy:production,linux",
            "labels": ["linux"],
            "deployment_targets": ["production"],
            "missing_labels": ["deploy:production"],
            "waiting": 1,
            "is_lower_bound": False,
            "oldest_wait_seconds": 30,
            "capacity": NO_CAPACITY,
            "slots_missing": 1,
        },
        {
            "name": "linux",
            "labels": ["linux"],
            "deployment_targets": [],
            "missing_labels": [],
            "waiting": 3,
            "is_lower_bound": False,
            "oldest_wait_seconds": 10,
            "capacity": {"agents": 1, "slots": 2, "used_slots": 0, "free_slots": 2},
            "slots_missing": 1,
        },
    ]
    assert (found["waiting"], found["oldest_wait_seconds"], found["slots_missing"]) == (4, 30, 2)


def test_each_region_has_its_agents_by_status_and_the_slots_of_the_healthy_ones(
    viewer: Client, make_job: MakeJob
) -> None:
    make_job()
    busy = enrolled(viewer.server, slots=3)
    busy.take()
    busy.heartbeat(free_slots=2, running=[])
    drained = idle(viewer.server)
    agent_drain(agent_id=drained.agent_id, actor=ADMIN)
    (region,) = asked(viewer)["regions"]
    assert region == {
        "region": "eu",
        "statuses": {"healthy": 1, "unhealthy": 0, "dead": 0, "draining": 1, "retired": 0},
        "capacity": {"agents": 1, "slots": 3, "used_slots": 1, "free_slots": 2},
    }


def test_a_free_slot_counts_for_one_of_the_label_sets_that_could_use_it(viewer: Client, make_job: MakeJob) -> None:
    idle(viewer.server, labels=["gpu"], slots=2)
    for labels in ([], ["gpu"]):
        for _ in range(2):
            make_job(labels=labels)
    assert missing(viewer) == {"": 2, "gpu": 0}


@pytest.mark.parametrize("how", ["draining", "silent", "unfit"])
def test_slots_of_agents_that_are_not_healthy_do_not_count(viewer: Client, make_job: MakeJob, how: str) -> None:
    agent = idle(viewer.server)
    if how == "draining":
        agent_drain(agent_id=agent.agent_id, actor=ADMIN)
    if how == "unfit":
        agent.heartbeat(free_slots=4, disk_percent=99)
    with clock.shifted(timedelta(minutes=6 if how == "silent" else 0)):
        make_job()
        assert missing(viewer) == {"": 1}
        agents_mark_silent()
        assert missing(viewer) == {"": 1}


def test_an_agent_with_the_target_takes_jobs_that_deploy(viewer: Client, make_job: MakeJob) -> None:
    enrolled_deployer(viewer.server, ["production"]).heartbeat(free_slots=1)
    make_job(labels=["deploy:production"])
    assert missing(viewer) == {"deploy:production": 0}
    assert asked(viewer, "deploy:production")["capacity"]["agents"] == 1
    assert asked(viewer, "production")["waiting"] == 0


def test_for_an_agents_labels_it_wants_the_slots_in_use_and_one_for_each_job_that_such_agents_could_take(
    viewer: Client, make_job: MakeJob
) -> None:
    agent = idle(viewer.server, labels=["gpu", "linux"], slots=2)
    idle(viewer.server, labels=["linux"], slots=1)
    make_job(labels=["gpu"])
    agent.take()
    for labels in ([], ["linux"], ["gpu"], ["gpu"], ["arm"]):
        make_job(labels=labels)
    found = asked(viewer, "linux,gpu")
    assert {one["name"] for one in found["label_sets"]} == {"", "linux", "gpu"}
    assert found["capacity"] == {"agents": 1, "slots": 2, "used_slots": 1, "free_slots": 1}
    assert (found["waiting"], found["slots_wanted"]) == (4, 5)
    assert asked(viewer, "linux")["slots_wanted"] == 3
    # Agents without labels take only jobs without labels; all agents are such agents.
    assert asked(viewer, "")["slots_wanted"] == 2
    assert asked(viewer)["slots_wanted"] == 6
    assert asked(viewer, "windows")["slots_wanted"] == 1


@pytest.mark.parametrize("how", ["draining", "silent"])
def test_a_job_whose_agent_drains_or_is_silent_still_wants_a_slot(
    viewer: Client, make_job: MakeJob, agent: AgentClient, how: str
) -> None:
    make_job()
    agent.take()
    if how == "draining":
        agent_drain(agent_id=agent.agent_id, actor=ADMIN)
    with clock.shifted(timedelta(seconds=60 if how == "silent" else 0)):
        found = asked(viewer)
    assert (found["slots_wanted"], found["waiting"]) == (1, 0)
    assert found["capacity"] == {**NO_CAPACITY, "used_slots": 1}


@pytest.mark.parametrize("labels", ["linux,,gpu", "a b", "-x", ",".join(map(str, range(21)))])
def test_labels_that_no_agent_can_have_are_refused(viewer: Client, labels: str) -> None:
    answer = problem(viewer.get("/agents/demand", params={"labels": labels}), 400, "invalid_input")
    assert [error["field"] for error in answer["errors"]] == ["labels"]


@pytest.mark.usefixtures("tables")
def test_jobs_that_wait_for_gates_or_for_others_are_no_demand() -> None:
    worker = deployer()
    environment(approvals=1, approver_roles=["operator"])
    assert states(worker.run(DEPLOYS)) == {"ship": "waiting"}
    assert demand_get().sets == ()
    run_id = worker.run(DIAMOND)
    assert sorted(states(run_id).values()) == ["queued", "waiting", "waiting", "waiting"]
    assert demand_get().waiting == 1


def test_jobs_of_a_paused_pipeline_are_no_demand(make_job: MakeJob) -> None:
    pipeline_pause(actor=ADMIN, name="self")
    make_job()
    assert demand_get().waiting == 0


def test_jobs_that_wait_for_their_concurrency_group_are_no_demand(worker: Worker) -> None:
    for _ in range(3):
        worker.run("jobs: {ship: {concurrency: {group: prod}, steps: [{run: make}]}}")
    assert demand_get().waiting == 1


def test_a_long_queue_is_counted_in_part_and_says_so(
    viewer: Client, make_job: MakeJob, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("apps.jobs.selectors.queue.FIGURED_ENTRIES", 2)
    make_job(labels=["gpu"])
    for _ in range(3):
        make_job()
    found = asked(viewer)
    assert {one["name"]: (one["waiting"], one["is_lower_bound"]) for one in found["label_sets"]} == {
        "": (2, True),
        "gpu": (1, False),
    }
    assert (found["waiting"], found["is_lower_bound"]) == (3, True)


def test_of_too_many_label_sets_the_most_urgent_ones_are_counted(
    make_job: MakeJob, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("apps.jobs.selectors.queue.FIGURED_SETS", 2)
    for label, priority in (("a", 10), ("b", 90), ("c", 50)):
        make_job(labels=[label], priority=priority)
    found = demand_get()
    assert {one.name for one in found.sets} == {"b", "c"}
    assert found.is_lower_bound


def test_a_label_set_in_which_nothing_waits_any_more_is_left_out(
    viewer: Client, make_job: MakeJob, agent: AgentClient
) -> None:
    make_job()
    agent.take()
    assert asked(viewer)["label_sets"] == []


def test_it_costs_the_same_whatever_the_number_of_jobs(viewer: Client, make_job: MakeJob) -> None:
    idle(viewer.server)
    make_job()
    with dynamodb_calls() as few:
        demand_get()
    for _ in range(20):
        job_create(actor=OPERATOR)
    with dynamodb_calls() as many:
        assert demand_get().waiting == 21
    # The registry and its one set; the counters, the agents of one region, and their heartbeats.
    assert many.operations == few.operations == [*["Query"] * 4, "BatchGetItem"]
    assert many.write_units == 0


def test_it_is_no_agent_and_needs_the_permission_to_read_agents(viewer: Client, outsider: Client) -> None:
    problem(outsider.get("/agents/demand"), 401, "not_authenticated")
    problem(viewer.get("/agents/demands"), 404, "not_found")
    assert viewer.post("/agents/demand").status_code == 405
