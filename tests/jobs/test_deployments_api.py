"""Environments and deployments over HTTP, from the request to what is live."""

from datetime import timedelta
from typing import Any

import pytest

from apps.accounts.models import User
from apps.accounts.services import api_token_create
from apps.jobs.models import Job
from controlplane.lib import clock
from controlplane.lib.actor import SYSTEM
from tests.clients import Client, problem
from tests.conftest import person
from tests.jobs.deployments import DEPLOYS, deployer, user
from tests.jobs.runs import COMMIT, Worker
from tests.jobs.test_deployments import read

GATED: dict[str, Any] = {
    "name": "production",
    "url": "https://shop.example.com",
    "approvals": 1,
    "approver_roles": ["operator"],
    "requester_may_not_approve": True,
    "wait_seconds": 60,
    "allowed_refs": ["main"],
}


@pytest.fixture
def worker(server: str) -> Worker:
    return deployer()


def client_of(server: str, account: User, *, permissions: list[str] | None = None) -> Client:
    _, secret = api_token_create(user=account, name="t", permissions=permissions, actor=SYSTEM)
    return Client(server, secret)


def test_from_the_request_over_the_approval_to_what_is_live(server: str, admin: Client, worker: Worker) -> None:
    admin.post("/environments", json=GATED).raise_for_status()
    ada, bob = client_of(server, user("ada")), client_of(server, user("bob"))
    started = ada.post("/deployments", json={"environment": "production", "pipeline": "graph", "git_ref": "main"})
    assert started.status_code == 201
    run_id = started.json()["run_id"]
    assert started.headers["Location"].endswith(f"/runs/{run_id}")
    read(worker, Job.get(started.json()["job_id"]), DEPLOYS)
    (listed,) = ada.get(f"/deployments?run_id={run_id}").json()["deployments"]
    path = f"/deployments/{listed['deployment_id']}"
    gates = {gate["code"]: gate["is_open"] for gate in ada.get(path).json()["gates"]}
    assert gates == {"approval": False, "wait_timer": False, "environment_busy": True}
    run = ada.get(f"/runs/{run_id}").json()
    waiting = next(job["waiting"] for job in run["jobs"] if job["name"] == "ship")
    assert waiting["code"] == "approval"
    assert "0 of 1 approval given; an operator may approve, but not the one who asked for it" in waiting["message"]
    assert ada.get(f"/jobs/{listed['deployment_id']}").json()["waiting"]["code"] == "approval"
    # Who asked may not approve.
    assert "You asked for this deployment." in problem(ada.post(f"{path}/approve", json={}), 403, "forbidden")["detail"]
    approved = bob.post(f"{path}/approve", json={"comment": "Go."}).json()
    assert [(one["by"], one["comment"]) for one in approved["approvals"]] == [("Bob", "Go.")]
    assert bob.post(f"{path}/approve", json={}).json()["approvals"] == approved["approvals"]
    assert bob.get(f"/jobs/{listed['deployment_id']}").json()["waiting"]["code"] == "wait_timer"
    with clock.shifted(timedelta(seconds=61)):
        url = {"url": "https://new.example.com"}
        admin.request("PATCH", "/environments/production", json=url).raise_for_status()
        worker.finish(worker.take())
    ended = ada.get(path).json()
    assert (ended["status"], ended["gates"], ended["commit"]) == ("completed", [], COMMIT)
    changes = ada.get(f"{path}/changes").json()
    assert (changes["before"], changes["after"], changes["commits"]) == (None, COMMIT, None)
    (environment,) = ada.get("/environments").json()["environments"]
    (live,) = environment["live"]
    assert (live["pipeline"], live["commit"], live["requested_by"]) == (
        "graph",
        COMMIT,
        "t (ada@example.com)",
    )
    assert (environment["waiting"], environment["in_progress"]) == ([], None)
    for query, count in (("environment=production", 1), ("status=completed", 1), ("pipeline=other", 0), ("", 1)):
        assert len(ada.get(f"/deployments?{query}").json()["deployments"]) == count
    problem(ada.get(f"/deployments?run_id={run_id}&status=failed"), 400, "invalid_input")


def test_a_rejection_fails_the_job_with_the_comment(server: str, admin: Client, worker: Worker) -> None:
    admin.post("/environments", json=GATED).raise_for_status()
    bob = client_of(server, user("bob"))
    run_id = worker.run(DEPLOYS)
    (listed,) = bob.get(f"/deployments?run_id={run_id}").json()["deployments"]
    path = f"/deployments/{listed['deployment_id']}"
    rejected = bob.post(f"{path}/reject", json={"comment": "Not on a Friday"}).json()
    assert (rejected["status"], rejected["rejection"]["by"]) == ("rejected", "Bob")
    assert bob.post(f"{path}/reject", json={}).status_code == 200
    job = bob.get(f"/jobs/{listed['deployment_id']}").json()
    assert (job["status"], job["error_message"]) == (
        "failed",
        "Bob rejected the deployment to production: Not on a Friday.",
    )
    assert bob.get(f"/runs/{run_id}").json()["status"] == "failed"
    problem(bob.post(f"{path}/approve", json={}), 409, "deployment_state")


def test_a_token_without_the_permission_does_not_approve(server: str, admin: Client, worker: Worker) -> None:
    admin.post("/environments", json=GATED).raise_for_status()
    bob = user("bob")
    (listed,) = admin.get(f"/deployments?run_id={worker.run(DEPLOYS)}").json()["deployments"]
    path = f"/deployments/{listed['deployment_id']}"
    for act in ("approve", "reject"):
        without = client_of(server, bob, permissions=["jobs.create", "jobs.read"])
        problem(without.post(f"{path}/{act}", json={}), 403, "forbidden")
        # Nor does one whom the environment does not name.
        problem(admin.post(f"{path}/{act}", json={}), 403, "forbidden")
    with_it = client_of(server, bob, permissions=["deployments.approve"])
    assert with_it.post(f"{path}/approve", json={}).status_code == 200


def test_only_admins_make_environments(server: str, operator: Client) -> None:
    problem(operator.post("/environments", json=GATED), 403, "forbidden")
    assert person(server, "viewer").get("/environments").json() == {"environments": []}


@pytest.mark.parametrize(
    ("members", "field"),
    [
        ({"url": "ftp://x"}, "url"),
        ({"url": "https://user:secret@x"}, "url"),
        ({"allowed_refs": ["a b"]}, "allowed_refs"),
        ({"approvals": 1}, "approver_roles"),
        ({"approvals": 1, "approver_roles": ["emperor"]}, "approver_roles"),
        ({"approver_ids": ["nobody"]}, "approver_ids"),
        ({"freezes": [{"from": "FRI 16:00", "until": "2027-01-01T00:00"}]}, "freezes[0].until"),
        ({"freezes": [{"from": "FRI 16:00", "until": "MON 08:00", "zone": "Mars/Base"}]}, "freezes[0].zone"),
    ],
)
def test_what_is_wrong_with_an_environment_is_named(admin: Client, members: dict[str, Any], field: str) -> None:
    answer = admin.post("/environments", json={"name": "production", **members})
    assert (answer.status_code, [error["field"] for error in answer.json()["errors"]]) == (400, [field])
