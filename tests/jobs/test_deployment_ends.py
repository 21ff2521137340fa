"""The end of a deployment frees its environment, and says what is live."""

import pytest

from apps.jobs.selectors.environments import environment_list, environment_view
from apps.jobs.selectors.jobs_of_run import run_waits
from apps.jobs.selectors.runs import run_view
from apps.jobs.services import attempt_expire, job_cancel, run_cancel
from apps.jobs.services.losses import attempt_keep
from tests.conftest import OPERATOR
from tests.jobs.deployments import DEPLOYS, STEPS, deployer, deployment_of, environment
from tests.jobs.runs import Worker, states, status


@pytest.fixture
def worker(tables: None) -> Worker:
    return deployer()


def test_a_deployment_is_never_retried_by_itself_also_not_when_its_agent_is_lost(worker: Worker) -> None:
    run = worker.run(f"jobs: {{ship: {{environment: production, retries: 3, {STEPS}}}}}")
    other = worker.run(DEPLOYS)
    job = worker.take()
    attempt_expire(agent_id=worker.agent.id, job_id=job.job_id, attempt=1, heartbeat_at=None, reason="it is silent")
    assert (states(run), deployment_of(run).status) == ({"ship": "failed"}, "failed")
    # The next one begins.
    assert states(other) == {"ship": "queued"}
    # The report of the lost agent counts for its own job, but it is not what is live once another has begun.
    worker.finish(job)
    assert deployment_of(run).status == "completed"
    view = environment_view("production")
    assert view
    assert not view.live
    assert view.environment.holders == {deployment_of(other).deployment_id}


def test_a_cancelled_deployment_leaves_the_line(worker: Worker) -> None:
    environment(approvals=1, approver_roles=["operator"])
    run = worker.run(DEPLOYS)
    job_cancel(actor=OPERATOR, job_id=str(deployment_of(run).deployment_id))
    assert deployment_of(run).status == "cancelled"
    view = environment_view("production")
    assert view
    assert view.waiting == []


def test_a_cancelled_run_takes_all_of_its_deployments_out_of_the_line(worker: Worker) -> None:
    names = [f"stage-{number}" for number in range(3)]
    for name in names:
        environment(name, approvals=1, approver_roles=["operator"])
    jobs = ", ".join(f"{name}: {{environment: {name}, {STEPS}}}" for name in names)
    run = worker.run(f"jobs: {{{jobs}}}")
    assert [waiting.code for waiting in run_waits(run_view(run)).values()] == ["approval"] * 3
    run_cancel(actor=OPERATOR, run_id=run)
    assert (status(run), {*states(run).values()}) == ("cancelled", {"cancelled"})
    assert [view.waiting for view in environment_list()] == [[], [], []]
    assert [deployment_of(run, name).status for name in names] == ["cancelled"] * 3


def test_a_lost_deployment_stops_when_its_agent_is_back_and_another_has_begun(worker: Worker) -> None:
    worker.run(DEPLOYS)
    job = worker.take()
    attempt_expire(agent_id=worker.agent.id, job_id=job.job_id, attempt=1, heartbeat_at=None, reason="it is silent")
    # As long as none has, it may go on, and is live when it has succeeded.
    assert attempt_keep(agent=worker.agent, job_id=str(job.job_id), attempt=1)
    other = worker.run(DEPLOYS)
    assert states(other) == {"ship": "queued"}
    assert not attempt_keep(agent=worker.agent, job_id=str(job.job_id), attempt=1)


def test_the_late_report_of_a_lost_deployment_is_live_if_no_other_has_begun(worker: Worker) -> None:
    run = worker.run(DEPLOYS)
    job = worker.take()
    attempt_expire(agent_id=worker.agent.id, job_id=job.job_id, attempt=1, heartbeat_at=None, reason="it is silent")
    worker.finish(job)
    view = environment_view("production")
    assert view
    assert [live.run_id for live in view.live] == [run]
    assert deployment_of(run).status == "completed"
