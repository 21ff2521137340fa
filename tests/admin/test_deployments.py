"""Environments and deployments in the admin."""

import re

import pytest

from apps.jobs.selectors.environments import environment_find, environment_get
from controlplane.lib.freezes import freeze_line
from tests.admin.conftest import Browser, SignIn, errors, form_values, rows
from tests.jobs.deployments import DEPLOYS, deployer, deployment_of, environment, user

ENVIRONMENTS = "/admin/jobs/environment/"


@pytest.fixture
def admin(sign_in: SignIn) -> Browser:
    return sign_in("admin")


def test_an_environment_is_added_changed_and_deleted(admin: Browser) -> None:
    fields = {"name": "production", "url": "https://shop.example.com", "wait_seconds": "60"}
    admin.send(f"{ENVIRONMENTS}add/", **fields)
    assert (environment_get("production").wait_seconds, environment_get("production").approvals) == (60, 0)
    admin.send(f"{ENVIRONMENTS}production/change/", wait_seconds="90")
    assert environment_get("production").wait_seconds == 90
    answer = admin.send(f"{ENVIRONMENTS}production/change/", approvals="1")
    assert "must say who may approve" in errors(answer.text)
    assert "already an environment production" in errors(admin.send(f"{ENVIRONMENTS}add/", **fields).text)
    assert "environment changed" in admin.page(f"{ENVIRONMENTS}production/history/")
    found = re.search(r'name="csrfmiddlewaretoken" value="(\w+)"', admin.page(f"{ENVIRONMENTS}production/delete/"))
    assert found
    admin.post(f"{ENVIRONMENTS}production/delete/", data={"csrfmiddlewaretoken": found[1], "post": "yes"})
    deleted = environment_find("production")
    assert deleted
    assert deleted.deleted_at


def test_an_environment_is_added_and_changed_with_all_that_it_asks_for(admin: Browser) -> None:
    eve = user("eve")
    freezes = "FRI 16:00 to MON 08:00 Europe/Berlin: weekend\n2026-12-20T18:00 to 2027-01-04T08:00 UTC"
    fields = {
        "name": "production",
        "allowed_refs": "main\r\nrefs/tags/v*\r\n",
        "approvals": "1",
        "approvers": "admin\neve@example.com",
        "requester_may_not_approve": "on",
        "freezes": freezes,
    }
    assert admin.send(f"{ENVIRONMENTS}add/", **fields).status_code == 302
    made = environment_get("production")
    assert (made.allowed_refs, made.approvals, made.approver_roles, made.approver_ids) == (
        *(["main", "refs/tags/v*"], 1, ["admin"], [eve.user_id]),
    )
    assert (made.requester_may_not_approve, [freeze_line(one) for one in made.freezes]) == (True, freezes.splitlines())
    path = f"{ENVIRONMENTS}production/change/"
    shown = form_values(admin.page(path))
    assert (shown["approvers"], shown["freezes"]) == ("admin\neve@example.com", freezes)
    # What is sent unchanged changes nothing.
    admin.send(path)
    assert environment_get("production").revision == made.revision
    admin.send(path, approvers="operator", freezes="", allowed_refs="main")
    changed = environment_get("production")
    assert (changed.approver_roles, changed.approver_ids, changed.freezes) == (["operator"], [], None)
    assert changed.allowed_refs == ["main"]


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"freezes": "FRI to"}, "line 1 is not"),
        ({"freezes": "FRI 16:00 to FRI 16:00 UTC"}, "must be later than from"),
        ({"approvers": "emperor"}, "emperor is neither"),
        ({"approvals": "1"}, "must say who may approve"),
        ({"allowed_refs": "a..b"}, "must not contain"),
        ({"requester_may_not_approve": "on"}, "must be off unless approvals is at least 1"),
    ],
)
def test_a_mistake_in_an_environment_is_shown_at_its_field(admin: Browser, wrong: dict[str, str], message: str) -> None:
    answer = admin.send(f"{ENVIRONMENTS}add/", name="production", **wrong)
    assert answer.status_code == 200
    found = errors(answer.text)
    assert message in found
    assert "nonfield" not in answer.text, "It is beside its field."
    assert environment_find("production") is None


def test_the_admin_shows_the_same_records(admin: Browser) -> None:
    environment(approvals=1, approver_roles=["operator"], allowed_refs=["main"])
    run = deployer().run(DEPLOYS)
    assert [row.split()[0] for row in rows(admin.page(ENVIRONMENTS))] == ["production"]
    page = admin.page(f"{ENVIRONMENTS}production/change/")
    assert "operator" in page
    deployment_id = deployment_of(run).deployment_id
    assert "waiting" in rows(admin.page("/admin/jobs/deployment/"))[0]
    assert f"/dashboard/deployments/{deployment_id}" in admin.page(f"/admin/jobs/deployment/{deployment_id}/change/")
