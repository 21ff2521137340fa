"""Deploying, approving and rolling back from a terminal, against the real server."""

import pytest

from apps.jobs.models import RUN, Deployment, Job, Run
from tests.cli.conftest import as_user, hci
from tests.clients import Client
from tests.jobs.deployments import DEPLOYS, deployer, deployment_of, environment
from tests.jobs.runs import Worker
from tests.jobs.test_deployments import read


@pytest.fixture
def fleet(server: str) -> Worker:
    return deployer()


def shipped(fleet: Worker, commit: str, text: str = DEPLOYS) -> str:
    """The id of a good deployment of this commit."""
    run = fleet.run(text)
    Run(run, RUN).update(actions=[Run.commit.set(commit)])
    deployment = deployment_of(run)
    Deployment(deployment.deployment_id).update(actions=[Deployment.commit.set(commit)])
    fleet.finish(fleet.take())
    return str(deployment.deployment_id)


def test_a_deployment_is_asked_for_approved_and_shown(user: Client, fleet: Worker) -> None:
    environment(approvals=1, approver_roles=["operator"])
    started = hci("deploy", "production", "--pipeline", "graph", "--ref", "main", "--json")
    assert started.code == 0, started.err
    run_id = started.json["run_id"]
    assert f"hci approve {run_id}" in started.err
    read(fleet, Job.get(started.json["job_id"]), DEPLOYS)
    waiting = hci("deployments", "--run", run_id, "-q").out.strip()
    shown = hci("deployments", waiting).out
    assert "Gate closed" in shown
    assert "0 of 1 approval given; an operator may approve" in shown
    assert "0 of 1 approval given" in hci("why", waiting).out
    approved = hci("approve", run_id, "-m", "Go.", "--json")
    assert (approved.code, approved.json["status"]) == (0, "in_progress")
    assert "by Operator: Go." in hci("deployments", waiting).out
    # It waits no more.
    assert hci("approve", run_id).code == 4
    assert hci("approve", waiting).code == 4
    fleet.finish(fleet.take())
    listed = hci("environments").out
    assert "production" in listed
    assert "c0ffee00" in listed
    assert "completed" in hci("deployments", "--environment", "production").out


def test_a_deployment_that_is_queued_or_has_failed_says_why(user: Client, fleet: Worker) -> None:
    deployment_id = str(deployment_of(fleet.run(DEPLOYS)).deployment_id)
    shown = hci("deployments", deployment_id).out
    assert "there is no agent yet" in shown
    for listing in (shown, hci("deployments").out, hci("environments").out):
        assert "queued" in listing
        assert "in_progress" not in listing
    fleet.finish(fleet.take(), exit_code=3, steps=[{"name": "ship", "state": "failed", "exit_code": 3}])
    assert "Step ship ended with exit code 3." in hci("deployments", deployment_id).out


def test_a_deployment_to_an_environment_without_approvals_names_no_command_to_approve_it(
    user: Client, fleet: Worker
) -> None:
    environment()
    shipped(fleet, "a" * 40)
    live = shipped(fleet, "b" * 40)
    for arguments in (
        ("deploy", "production", "--pipeline", "graph"),
        ("rollback", "production"),
        ("rollback", live),
        ("deploy", "nosuch", "--pipeline", "graph"),
    ):
        started = hci(*arguments)
        assert (started.code, "approve" in started.err) == (0, False), started.err
    assert "There is no environment nosuch yet." in started.err


def test_a_rejection_says_why(user: Client, fleet: Worker) -> None:
    environment(approvals=1, approver_roles=["operator"])
    run_id = fleet.run(DEPLOYS)
    rejected = hci("reject", run_id, "--comment", "Not on a Friday")
    assert rejected.code == 0
    assert "by Operator: Not on a Friday" in rejected.out
    assert hci("deployments", "--status", "rejected", "-q").out.strip() == deployment_of(run_id).deployment_id


def test_a_rollback_of_an_environment_goes_back_to_the_last_good_commit(user: Client, fleet: Worker) -> None:
    shipped(fleet, "a" * 40)
    bad = shipped(fleet, "b" * 40)
    for what in ("production", bad):
        started = hci("rollback", what, "--json")
        assert (started.code, started.json["commit"]) == (0, "a" * 40)
    assert hci("rollback", "production", "--pipeline", "other").code == 3
    assert hci("rollback", "nothing").code == 3


def test_what_is_refused_is_explained(
    server: str, user: Client, fleet: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    environment(approvals=1, approver_roles=["admin"], allowed_refs=["main"])
    run_id = fleet.run(DEPLOYS)
    refused = hci("approve", run_id)
    assert (refused.code, "not among those who may approve" in refused.err) == (4, True)
    wrong = hci("deploy", "production", "--pipeline", "graph", "--ref", "other")
    assert (wrong.code, "must be one that production allows: main" in wrong.err) == (2, True)
    assert hci("deploy", "production", "--pipeline", "nothing").code == 3
    as_user(server, "viewer", monkeypatch)
    assert hci("deploy", "production", "--pipeline", "graph").code == 4
    assert hci("environments", "-q").out == "production\n"
