"""Environments and deployments in the admin."""

import re

import pytest

from apps.jobs.selectors.environments import environment_find, environment_get
from tests.admin.conftest import Browser, SignIn, errors, rows
from tests.jobs.deployments import DEPLOYS, deployer, deployment_of, environment

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


def test_the_admin_shows_the_same_records(admin: Browser) -> None:
    environment(approvals=1, approver_roles=["operator"], allowed_refs=["main"])
    run = deployer().run(DEPLOYS)
    assert [row.split()[0] for row in rows(admin.page(ENVIRONMENTS))] == ["production"]
    page = admin.page(f"{ENVIRONMENTS}production/change/")
    assert "operator" in page
    deployment_id = deployment_of(run).deployment_id
    assert "waiting" in rows(admin.page("/admin/jobs/deployment/"))[0]
    assert f"/dashboard/deployments/{deployment_id}" in admin.page(f"/admin/jobs/deployment/{deployment_id}/change/")
