"""A deployment says how far its job is: what that waits for after the gates, and why it has failed."""

import pytest

from apps.jobs.selectors.deployment_jobs import deployment_job, deployment_job_statuses
from apps.jobs.selectors.deployments import deployment_get
from apps.jobs.selectors.job_errors import job_error
from tests.clients import Client
from tests.jobs.deployments import DEPLOYS, deployer, deployment_of, environment
from tests.jobs.runs import Worker
from tests.metering import dynamodb_calls

STEPS = [{"name": "lint", "state": "completed", "exit_code": 0}, {"name": "ship", "state": "failed", "exit_code": 3}]


@pytest.fixture
def worker(server: str) -> Worker:
    return deployer()


def test_a_deployment_whose_job_is_queued_says_so_with_what_it_waits_for(worker: Worker, viewer: Client) -> None:
    path = f"/deployments/{deployment_of(worker.run(DEPLOYS)).deployment_id}"
    shown = viewer.get(path).json()
    assert (shown["status"], shown["job_status"], shown["error"]) == ("in_progress", "queued", None)
    assert shown["waiting"]["code"] == "no_agents"
    assert viewer.get("/environments/production").json()["in_progress_job_status"] == "queued"
    (listed,) = viewer.get("/deployments").json()["deployments"]
    assert (listed["job_status"], "waiting" in listed) == ("queued", False)
    job = worker.take()
    shown = viewer.get(path).json()
    assert (shown["job_status"], shown["waiting"]) == ("running", None)
    assert viewer.get("/environments").json()["environments"][0]["in_progress_job_status"] == "running"
    worker.finish(job)
    shown = viewer.get(path).json()
    assert (shown["status"], shown["job_status"], shown["waiting"], shown["error"]) == ("completed", None, None, None)
    assert viewer.get("/environments/production").json()["in_progress_job_status"] is None


def test_a_failed_deployment_says_which_step_failed_how(worker: Worker, viewer: Client) -> None:
    deployment_id = deployment_of(worker.run(DEPLOYS)).deployment_id
    job = worker.take()
    worker.finish(job, exit_code=3, steps=STEPS)
    shown = viewer.get(f"/deployments/{deployment_id}").json()
    assert (shown["status"], shown["reason"], shown["job_status"]) == ("failed", None, None)
    assert shown["error"] == "Step ship ended with exit code 3."


def test_a_rejected_deployment_has_its_reason_and_no_error(worker: Worker, admin: Client, viewer: Client) -> None:
    environment(approvals=1, approver_roles=["admin"])
    path = f"/deployments/{deployment_of(worker.run(DEPLOYS)).deployment_id}"
    shown = admin.post(f"{path}/reject", json={}).json()
    assert (shown["status"], shown["error"], shown["job_status"], shown["waiting"]) == ("rejected", None, None, None)
    assert shown["reason"]


def test_only_deployments_in_progress_and_failed_ones_cost_a_read_of_the_job(worker: Worker) -> None:
    deployment = deployment_of(worker.run(DEPLOYS))
    job = worker.take()
    with dynamodb_calls() as metering:
        assert deployment_job(deployment_get(str(deployment.deployment_id)))
    assert metering.operations == ["GetItem", "GetItem"]
    worker.finish(job)
    ended = deployment_get(str(deployment.deployment_id))
    with dynamodb_calls() as metering:
        assert (deployment_job(ended), deployment_job_statuses([ended])) == (None, {})
    assert metering.operations == []
    assert job_error(job) == ""
