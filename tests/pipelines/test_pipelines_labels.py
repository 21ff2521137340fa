"""A pipeline's own labels are what people say; an agent that reports the repository's file changes one job only."""

from typing import Any

import pytest
from pynamodb.expressions.operand import Path

from apps.audit.selectors import audit_list
from apps.jobs.models import Job
from apps.jobs.selectors import job_get
from apps.jobs.services import job_create, job_retry
from apps.pipelines.models import SCOPE, Pipeline
from apps.pipelines.services import pipeline_save
from controlplane.lib import clock
from tests.clients import Client, problem
from tests.conftest import ADMIN
from tests.pipelines.pipelines import REPOSITORY, YAML, recorded, save
from tests.signing import AgentClient, enrolled

STEPS = "steps:\n  - run: make\n"


def make_job(**members: Any) -> str:
    return str(job_create(actor=ADMIN, pipeline="web", **members).job_id)


def own_pipeline(labels: list[str] | None = None) -> dict[str, Any]:
    """A pipeline whose definition is in the repository, as it is stored."""
    pipeline_save(
        actor=ADMIN, name="web", repository=REPOSITORY, default_ref="main", definition=None, labels=labels or []
    )
    return stored()


def stored() -> dict[str, Any]:
    return Pipeline.get(SCOPE, "web", consistent_read=True).to_simple_dict()


def events(action: str) -> list[dict[str, Any]]:
    """The details of today's audit events of this action, oldest first."""
    records = audit_list(day=clock.timestamp(clock.now())[:10], limit=100).records
    return [dict(record.detail) for record in reversed(records) if record.action == action]


def finish(agent: AgentClient, assignment: dict[str, Any]) -> None:
    assert agent.finish(assignment).status_code == 200


# --- what people set ------------------------------------------------------------------------------------------------


def test_each_job_requires_the_pipelines_own_labels_from_the_start(operator: Client) -> None:
    answer = save(operator, definition=None, labels=["linux", "gpu", "linux"])
    assert (answer.status_code, answer.json()["labels"]) == (201, ["linux", "gpu"])
    assert job_get(make_job(labels=["arm"])).labels == ["arm", "gpu", "linux"]
    assert enrolled(operator.server, labels=["linux"]).heartbeat()["jobs"] == []


def test_labels_that_are_left_out_stay_as_they_are(operator: Client) -> None:
    save(operator, definition=None, labels=["gpu"])
    assert save(operator, definition=None, default_ref="next").json()["labels"] == ["gpu"]
    assert save(operator, definition=None, default_ref="next", labels=None).json()["revision"] == 2
    assert save(operator, definition=None, labels=[]).json()["labels"] == []


def test_labels_of_a_definition_on_the_server_are_the_definitions(operator: Client) -> None:
    refused = problem(save(operator, definition=YAML, labels=["gpu"]), 400, "invalid_input")
    assert refused["errors"] == [
        {"field": "labels", "message": "must be empty, since the definition on the server has its own `labels`"}
    ]
    assert save(operator, definition=YAML, labels=["linux"]).json()["labels"] == ["linux"]
    assert job_get(make_job()).labels == ["linux"]
    # The same agents get the jobs after the definition moves into the repository.
    assert save(operator, definition=None).json()["labels"] == ["linux"]
    assert save(operator, definition=f"labels: [arm]\n{STEPS}").json()["labels"] == ["arm"]


@pytest.mark.parametrize(
    ("labels", "field"),
    [
        (["-x"], "labels"),
        (["a b"], "labels"),
        ([f"l{number}" for number in range(21)], "labels"),
        (["x" * 64], "labels[0]"),
        ([5], "labels[0]"),
        ("gpu", "labels"),
    ],
)
def test_labels_follow_the_rule_of_definitions(operator: Client, labels: object, field: str) -> None:
    refused = problem(save(operator, definition=None, labels=labels), 400, "invalid_input")
    assert [error["field"] for error in refused["errors"]] == [field]
    assert operator.get("/pipelines/web").status_code == 404


def test_a_change_of_labels_is_recorded(operator: Client) -> None:
    save(operator, definition=None, labels=["gpu"])
    save(operator, definition=None, labels=["gpu"])
    save(operator, definition=None, labels=["arm", "linux"])
    assert [event["labels"] for event in events("pipeline.saved")] == ["gpu", "gpu → arm, linux"]


# --- what agents report ---------------------------------------------------------------------------------------------


def test_an_agent_cannot_bend_a_pipelines_labels_by_what_it_posts(server: str) -> None:
    before = own_pipeline(["linux"])
    hostile = enrolled(server, labels=["linux", "mine"])
    # It would have all later jobs to itself, or let them wait for ever, or run anywhere.
    for labels in ("[mine]", "[never]", "[]"):
        make_job()
        assignment = hostile.take()
        hostile.define(assignment, f"labels: {labels}\nretries: 9\ntimeout: 1s\n{STEPS}")
        hostile.finish(assignment)
        assert stored() == before
        later = job_get(make_job())
        assert (later.labels, int(later.retries), later.timeout) == (["linux"], 2, None)
        finish(hostile, hostile.take())
    assert [action for _, action, _ in recorded()] == ["pipeline.saved"]


def test_labels_of_the_repositorys_file_hold_for_that_run_only(server: str) -> None:
    own_pipeline(["linux"])
    job_id = make_job(labels=["arm"])
    first = enrolled(server, labels=["arm", "linux"])
    problem(first.define(first.take(), f"labels: [gpu]\n{STEPS}"), 409, "job_moved")
    assert job_get(job_id).labels == ["arm", "gpu", "linux"]
    # The rest of the run requires them, whatever its next attempt reads.
    second = enrolled(server, labels=["arm", "gpu", "linux", "big"])
    assignment = second.take()
    assert second.define(assignment, f"labels: [big]\n{STEPS}").status_code == 200
    moved = job_get(job_id)
    assert (moved.labels, moved.file_labels) == (["arm", "big", "gpu", "linux"], ["big", "gpu"])
    finish(second, assignment)
    assert job_get(make_job()).labels == ["linux"]


def test_a_retry_requires_the_labels_that_people_asked_for_and_not_those_of_the_file(server: str) -> None:
    own_pipeline(["linux"])
    job_id = make_job(labels=["arm"])
    agent = enrolled(server, labels=["arm", "linux", "gpu"])
    assignment = agent.take()
    agent.define(assignment, f"labels: [gpu, linux]\n{STEPS}")
    finish(agent, assignment)
    own_pipeline(["linux", "new"])
    assert job_retry(actor=ADMIN, job_id=job_id).labels == ["arm", "linux", "new"]
    own_pipeline(["gpu"])
    assert job_retry(actor=ADMIN, job_id=job_id).labels == ["arm", "gpu", "linux"]


def test_a_file_without_labels_does_not_remove_the_pipelines_own(server: str) -> None:
    own_pipeline(["linux"])
    job_id = make_job()
    agent = enrolled(server, labels=["linux"])
    assert agent.define(agent.take(), STEPS).status_code == 200
    job = job_get(job_id)
    assert (job.labels, job.file_labels) == (["linux"], [])


def test_definitions_that_agents_report_are_recorded_with_the_job(server: str) -> None:
    own_pipeline()
    make_job()
    agent = enrolled(server, labels=["gpu"])
    assignment = agent.take()
    for _ in range(2):
        agent.define(assignment, f"labels: [gpu]\nretries: 5\ntimeout: 60\n{STEPS}")
    assert events("job.defined") == [{"commit": "c" * 40, "retries": 5, "timeout": 60, "labels": "gpu"}]
    finish(agent, assignment)
    make_job()
    agent.define(agent.take(), f"labels: [arm]\n{STEPS}")
    assert events("job.requeued")[0]["reason"] == "its pipeline file requires other labels: arm"


# --- what earlier versions stored -----------------------------------------------------------------------------------


def test_labels_that_an_earlier_version_learnt_are_dropped(server: str) -> None:
    own_pipeline()
    earlier = Pipeline.get(SCOPE, "web", consistent_read=True)
    earlier.update(actions=[Pipeline.definition_labels.set(["never"]), Pipeline.own_labels.remove()])
    assert job_get(make_job()).labels == []


def test_a_definition_that_an_earlier_version_stored_keeps_its_labels(operator: Client) -> None:
    save(operator, definition=YAML)
    # Earlier versions also stored these two.
    earlier = [Path(["retries"]).set(2), Path(["timeout"]).set(60)]
    Pipeline(SCOPE, "web").update(actions=[Pipeline.own_labels.remove(), *earlier])
    assert operator.get("/pipelines/web").json()["labels"] == ["linux"]
    assert job_get(make_job()).labels == ["linux"]


def test_a_job_that_an_earlier_version_stored_is_retried_with_its_labels(server: str) -> None:
    own_pipeline()
    job_id = make_job(labels=["arm"])
    agent = enrolled(server, labels=["arm"])
    finish(agent, agent.take())
    Job(job_id=job_id).update(actions=[Job.file_labels.remove()])
    assert job_retry(actor=ADMIN, job_id=job_id).labels == ["arm"]
