"""What is announced of deployments: that one waits, was approved or rejected, and has ended; each once."""

from datetime import timedelta
from typing import Any

import pytest
from django.test import override_settings

from apps.jobs.services import announcements, deployment_messages, job_cancel
from apps.jobs.services.approvals import deployment_approve, deployment_reject
from controlplane.lib import clock
from tests.conftest import OPERATOR
from tests.jobs.deployments import DEPLOYS, acting, deployer, deployment_of, environment, user
from tests.jobs.runs import Worker


@pytest.fixture
def worker(tables: None) -> Worker:
    return deployer()


@pytest.fixture
def announced(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What was announced, in place of telling targets."""
    found: list[Any] = []

    def announce(*, message: Any, **members: Any) -> int:
        found.append((str(members["occasion"]), message()))
        return 1

    monkeypatch.setattr(deployment_messages, "announce", announce)
    return found


def swept() -> None:
    with clock.shifted(timedelta(seconds=5)):
        announcements.outbox_work(seconds=30)


@override_settings(PUBLIC_URL="https://ci.example.com")
def test_a_deployment_is_announced_from_waiting_to_its_end(worker: Worker, announced: list[Any]) -> None:
    environment(approvals=1, approver_roles=["operator"])
    run = worker.run(DEPLOYS)
    deployment_id = str(deployment_of(run).deployment_id)
    deployment_approve(actor=acting(user("bob")), deployment_id=deployment_id)
    worker.finish(worker.take())
    swept()
    swept()
    assert [occasion for occasion, _ in announced] == ["waiting_for_approval", "deployment_approved", "deployed"]
    waits, approved, ended = (message for _, message in announced)
    assert waits.url == f"https://ci.example.com/dashboard/deployments/{deployment_id}"
    assert waits.subject == "graph on main to production"
    assert ("By", "Bob") in approved.facts
    assert (ended.type, ended.is_good, ended.data["status"]) == ("deployment.completed", True, "completed")


def test_a_failure_and_a_rejection_are_announced_and_a_cancellation_is_not(
    worker: Worker, announced: list[Any]
) -> None:
    worker.run(DEPLOYS)
    worker.finish(worker.take(), exit_code=1)
    environment("other")
    run = worker.run(DEPLOYS)
    job_cancel(actor=OPERATOR, job_id=str(deployment_of(run).deployment_id))
    swept()
    assert [(occasion, message.headline) for occasion, message in announced] == [
        ("deployment_failed", "Deployment failed")
    ]
    announced.clear()
    environment("staging", approvals=1, approver_roles=["operator"])
    run = worker.run(DEPLOYS.replace("production", "staging"))
    deployment_reject(
        actor=acting(user("eve")), deployment_id=str(deployment_of(run).deployment_id), comment="Not today"
    )
    swept()
    assert [message.headline for _, message in announced] == ["Waiting for approval", "Rejected"]
