"""The pages of environments and deployments."""

import pytest

from apps.accounts.selectors import user_by_email
from apps.jobs.models import RUN, Deployment, Run
from apps.jobs.selectors.deployments import deployment_get
from apps.jobs.selectors.environments import environment_find, environment_get
from apps.jobs.services.approvals import deployment_approve
from apps.jobs.services.environments import environment_change
from tests.clients import Client
from tests.conftest import ADMIN
from tests.dashboard.conftest import SignedIn
from tests.dashboard.test_pipelines import errors_of, send
from tests.dashboard.test_tests import words
from tests.jobs.deployments import DEPLOYS, acting, deployer, deployment_of, environment, user
from tests.jobs.runs import Worker

LIST = "/dashboard/environments"


@pytest.fixture
def admin(signed_in: SignedIn) -> Client:
    return signed_in("admin")


@pytest.fixture
def worker(server: str) -> Worker:
    return deployer()


def shown(browser: Client, path: str) -> str:
    answer = browser.get(f"/dashboard/{path}")
    assert answer.status_code == 200
    return words(answer.text)


def test_an_environment_is_made_changed_and_deleted_on_its_pages(admin: Client, operator: Client) -> None:
    assert "No environments yet" in shown(admin, "environments")
    new = {
        "name": "production",
        "url": "https://shop.example.com",
        "allowed_refs": "main\nrefs/tags/v*",
        "approvals": "1",
        "approvers": "admin\noperator@example.com",
        "requester_may_not_approve": "on",
        "wait_minutes": "5",
        "freezes": "FRI 16:00 to MON 08:00 Europe/Berlin: weekend\n2026-12-20T18:00 to 2027-01-04T08:00 UTC",
    }
    assert send(admin, "new-environment", **new) == (302, f"{LIST}/production")
    made, operator_account = environment_get("production"), user_by_email("operator@example.com")
    assert operator_account
    assert (made.approver_roles, made.approver_ids) == (["admin"], [operator_account.user_id])
    assert (made.wait_seconds, len(made.freezes)) == (300, 2)
    page = shown(operator, "environments/production")
    for part in ("admin", "Operator", "not the one who asked", "5 min", "FRI 16:00 to MON 08:00", "weekend"):
        assert part in page
    # The form shows what it was given, and a version of another user is not lost.
    edit = admin.get(f"{LIST}/production/edit").text
    assert "FRI 16:00 to MON 08:00 Europe/Berlin: weekend" in edit
    environment_change(actor=ADMIN, name="production", wait_seconds=0)
    status, page = send(admin, "environments/production/edit", **new, revision="1")
    assert (status, "Another user changed this environment" in page) == (422, True)
    assert send(admin, "environments/production/edit", **new, revision="2") == (302, f"{LIST}/production")
    assert send(admin, "environments/production/delete") == (302, LIST)
    deleted = environment_find("production")
    assert deleted
    assert deleted.deleted_at


def test_a_freeze_says_until_when_on_the_clocks_of_which_zone(viewer: Client) -> None:
    environment(freezes=[{"from": "2000-01-01T00:00", "until": "2100-01-01T08:00", "zone": "Europe/Berlin"}])
    assert "Frozen until Fri 1 Jan 2100, 08:00 Europe/Berlin" in shown(viewer, "environments")


def test_a_mistake_is_shown_at_its_field(admin: Client) -> None:
    good = {"name": "production", "approvals": "0", "wait_minutes": "0"}
    for wrong, field in (
        ({"freezes": "FRI to"}, "freezes"),
        ({"freezes": "FRI 16:00 to FRI 16:00 UTC"}, "freezes"),
        ({"approvers": "emperor"}, "approvers"),
        ({"approvals": "1"}, "approvers"),
        ({"allowed_refs": "a..b"}, "allowed_refs"),
        ({"requester_may_not_approve": "on"}, "requester_may_not_approve"),
        ({"name": "a b"}, "name"),
    ):
        status, page = send(admin, "new-environment", **good | wrong)
        assert (status, bool(errors_of(page, field))) == (422, True), (wrong, page[-2000:])


def test_a_deployment_shows_its_gates_and_is_approved_with_a_comment(
    worker: Worker, operator: Client, viewer: Client
) -> None:
    environment(approvals=1, approver_roles=["operator"], wait_seconds=60)
    run = worker.run(DEPLOYS)
    path = f"deployments/{deployment_of(run).deployment_id}"
    page = shown(viewer, path)
    assert "0 of 1 approval given; an operator may approve" in page
    assert "You are not among those who may approve" in page
    assert "Decide" not in page
    assert "1 waits" in shown(viewer, "environments")
    job = viewer.get(f"/dashboard/jobs/{deployment_of(run).deployment_id}").text
    assert 'data-code="approval"' in job
    assert f'href="/dashboard/{path}"' in job
    assert 'data-code="approval"' in viewer.get(f"/dashboard/runs/{run}?job=ship").text
    assert "Decide" in shown(operator, path)
    assert send(operator, f"{path}/approve", comment="Go.") == (302, f"/dashboard/{path}")
    page = shown(operator, path)
    assert "Operator: Go. Approved" in page
    assert "the wait timer ends at" in page
    # A viewer who sends the form all the same is refused.
    send(viewer, f"{path}/reject")
    assert deployment_of(run).status == "waiting"
    assert "You are not among those" in shown(viewer, path)
    assert send(operator, f"{path}/reject", comment="Stop") == (302, f"/dashboard/{path}")
    assert "Operator rejected the deployment to production: Stop" in shown(viewer, path)


def test_what_is_live_is_shown_with_what_was_before_and_goes_back(worker: Worker, operator: Client) -> None:
    for commit in ("a" * 40, "b" * 40):
        run = worker.run(DEPLOYS)
        Run(run, RUN).update(actions=[Run.commit.set(commit)])
        Deployment(deployment_of(run).deployment_id).update(actions=[Deployment.commit.set(commit)])
        worker.finish(worker.take())
    page = shown(operator, "environments")
    assert "graph bbbbbbbbbb main now operator aaaaaaaaaa" in page
    path = f"deployments/{deployment_of(run).deployment_id}"
    assert f"{'a' * 40} was live before {'b' * 40}" in shown(operator, f"{path}/changes")
    status, address = send(operator, f"{path}/rollback", key="one")
    assert (status, send(operator, f"{path}/rollback", key="one")[1]) == (302, address)
    assert "graph" in shown(operator, address.removeprefix("/dashboard/"))
    status, address = send(operator, f"{path}/redeploy", key="two")
    assert (status, address.startswith("/dashboard/runs/")) == (302, True)
    history = shown(operator, "environments/production")
    assert history.count("Completed") == 2


def test_a_deployment_that_no_agent_can_take_is_queued_and_says_what_it_waits_for(
    worker: Worker, viewer: Client
) -> None:
    path = f"deployments/{deployment_of(worker.run(DEPLOYS)).deployment_id}"
    for page in (shown(viewer, path), shown(viewer, "environments/production")):
        assert "Queued" in page
        assert "there is no agent yet" in page
        assert "In progress" not in page
    assert "Queued" in shown(viewer, "environments")
    worker.take()
    for page in (shown(viewer, path), shown(viewer, "environments/production")):
        assert "In progress" in page
        assert "Queued" not in page


def test_a_failed_deployment_says_why_and_offers_no_rollback_where_nothing_was_live(
    worker: Worker, operator: Client
) -> None:
    path = f"deployments/{deployment_of(worker.run(DEPLOYS)).deployment_id}"
    steps = [{"name": "ship", "state": "failed", "exit_code": 3}]
    worker.finish(worker.take(), exit_code=3, steps=steps)
    page = shown(operator, path)
    assert "Step ship ended with exit code 3." in page
    assert "Deploy again" in page
    assert "Roll back" not in page
    for exit_code in (0, 3):
        path = f"deployments/{deployment_of(worker.run(DEPLOYS)).deployment_id}"
        worker.finish(worker.take(), exit_code=exit_code, steps=steps)
    assert "Roll back" in shown(operator, path)


def test_a_deployment_is_asked_for_on_the_page_of_its_environment(worker: Worker, operator: Client) -> None:
    environment(allowed_refs=["main"])
    wrong = {"pipeline": "graph", "git_ref": "other", "key": "k"}
    status, page = send(operator, "environments/production/deploy", **wrong)
    assert (status, "must be one that production allows" in errors_of(page, "git_ref")) == (422, True)
    status, address = send(operator, "environments/production/deploy", pipeline="graph", git_ref="", key="k")
    assert (status, address.startswith("/dashboard/runs/")) == (302, True)


def test_the_link_of_a_notification_needs_a_sign_in(worker: Worker, outsider: Client) -> None:
    environment(approvals=1, approver_roles=["operator"])
    deployment_id = deployment_of(worker.run(DEPLOYS)).deployment_id
    path = f"/dashboard/deployments/{deployment_id}"
    answer = outsider.get(path)
    assert (answer.status_code, answer.headers["Location"]) == (302, f"/signin?next={path}")
    assert outsider.post(f"{path}/approve", data={}).status_code in (302, 403)
    assert deployment_get(str(deployment_id)).approvals is None


def test_a_refresh_brings_other_buttons_only_when_others_are_offered(worker: Worker, operator: Client) -> None:
    environment(approvals=1, approver_roles=["operator"])
    run = worker.run(DEPLOYS)
    deployment_id = deployment_of(run).deployment_id
    assert "Approve Reject" in shown(operator, f"deployments/{deployment_id}")
    # The page asks with what it offers, so that a comment that is being written stays as it is.
    same = refreshed(operator, f"deployments/{deployment_id}?seen=approve%20reject")
    assert "hx-swap-oob" not in same
    assert f'hx-get="/dashboard/deployments/{deployment_id}?seen=approve%20reject"' in same
    deployment_approve(actor=acting(user("ann")), deployment_id=str(deployment_id), comment=None)
    worker.finish(worker.take())
    ended = refreshed(operator, f"deployments/{deployment_id}?seen=approve%20reject")
    assert ended.count("hx-swap-oob") == 2
    assert "Deploy again" in words(ended)
    assert "Decide" not in ended
    assert "hx-get" not in ended


def refreshed(browser: Client, path: str) -> str:
    """What a refresh of the live part answers."""
    return browser.get(f"/dashboard/{path}", headers={"HX-Request": "true"}).text
