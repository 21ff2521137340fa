"""The pages of webhooks, and what the pages of runs and pipelines say of events."""

import re
from typing import Any

import pytest

from apps.jobs.models import RUN, Run
from apps.pipelines.selectors import pipeline_get
from apps.sources.selectors import connection_get
from apps.sources.services import connection_change
from tests.clients import Client
from tests.conftest import ADMIN
from tests.dashboard.conftest import SignedIn
from tests.dashboard.test_pipelines import errors_of, send
from tests.dashboard.test_tests import words
from tests.jobs.test_event_starts import runs, worked
from tests.sources.hooks import bound, connected, github_pull, github_push
from tests.sources.hooks import send as deliver

NEW = {
    "provider": "gitea",
    "connection_id": "forge",
    "name": "",
    "api_url": "",
    "web_url": "",
    "token": "a-token-of-it",
}


@pytest.fixture
def admin(signed_in: SignedIn) -> Client:
    return signed_in("admin")


def test_a_connection_is_added_and_its_secret_shown_once(admin: Client) -> None:
    assert "No connections yet" in admin.get("/dashboard/webhooks").text
    status, page = send(admin, "new-connection", **NEW)
    secret = connection_get("forge").secret("webhook_secret")
    assert (status, re.search(r'id="secret">([^<]+)<', page)[1]) == (200, secret)
    again = admin.get("/dashboard/webhooks/forge").text
    assert "If empty, it stays as it is." in again
    assert "it stays as it is" not in admin.get("/dashboard/webhooks").text
    assert secret not in again
    assert "a-token-of-it" not in again + page
    assert "/webhooks/gitea/forge" in words(admin.get("/dashboard/webhooks").text)
    status, page = send(admin, "new-connection", **NEW)
    assert (status, "another id" in errors_of(page, "connection_id")) == (422, True)
    status, page = send(admin, "new-connection", **NEW | {"connection_id": "b", "api_url": "nonsense"})
    assert (status, "must be an https URL" in errors_of(page, "api_url")) == (422, True)


def test_a_connection_is_changed_its_secret_replaced_and_it_is_deleted(admin: Client) -> None:
    connected("forge", "gitea")
    connection_change(actor=ADMIN, connection_id="forge", token="the-old-token")
    changed = {"name": "Our forge", "api_url": "https://git.example.com/api/v1", "web_url": "", "token": ""}
    assert send(admin, "webhooks/forge/change", **changed) == (302, "/dashboard/webhooks/forge")
    assert (connection_get("forge").name, connection_get("forge").secret("token")) == ("Our forge", "the-old-token")
    _, page = send(admin, "webhooks/forge/secret")
    assert connection_get("forge").secret("webhook_secret") in page
    assert "the one before it counts until" in words(page)
    _, page = send(admin, "webhooks/forge/secret", leaked="true")
    assert "the one before it" not in words(page)
    bound(source="forge")
    send(admin, "webhooks/forge/delete")
    assert "Pipelines are bound" in words(admin.get("/dashboard/webhooks/forge").text)


def test_events_are_listed_with_their_runs_and_those_that_failed_are_redelivered(
    operator: Client, settings: Any
) -> None:
    connected()
    bound()
    worked(github_push(message="[skip ci]"))
    settings.ALLOWED_REPOSITORIES = ["git.example.com/*"]
    failed = worked(github_push(), delivery="x")
    settings.ALLOWED_REPOSITORIES = []
    page = words(operator.get("/dashboard/webhooks/hub").text)
    assert "asks to skip it" in page
    assert "ALLOWED_REPOSITORIES" in page
    page = words(operator.get("/dashboard/webhooks/hub?troubled=true").text)
    assert ("asks to skip it" in page, "ALLOWED_REPOSITORIES" in page) == (False, True)
    where = f"webhooks/hub/events/{failed.event_id}/redeliver"
    assert send(operator, where) == (302, "/dashboard/webhooks/hub")
    page = operator.get("/dashboard/webhooks/hub").text
    assert f'href="/dashboard/runs/{runs()[0].run_id}"' in page
    assert "None has failed" in operator.get("/dashboard/webhooks/hub?troubled=true").text


def test_a_refused_webhook_warns(server: str, operator: Client) -> None:
    connected()
    deliver(server, github_push(), connection="hub", secret="a wrong one")
    for path in ("/dashboard/webhooks", "/dashboard/webhooks/hub"):
        assert "The signature does not match" in words(operator.get(path).text)


def test_what_strangers_write_is_only_text(operator: Client) -> None:
    connected()
    bound(definition="steps: [{run: make}]\non: {push: {}, pull_request: {}}")
    payload = github_pull(title="<script>alert(1)</script>", fork=True)
    payload["pull_request"]["html_url"] = "javascript:alert(1)"
    worked(payload, "pull_request")
    for path in ("/dashboard/webhooks/hub", f"/dashboard/runs/{runs()[0].run_id}"):
        text = operator.get(path).text
        assert "<script>alert" not in text
        assert "javascript:" not in text


def test_an_operator_lets_the_run_of_a_fork_on_its_page(operator: Client) -> None:
    connected()
    bound()
    worked(github_pull(fork=True), "pull_request")
    run_id = str(runs()[0].run_id)
    page = operator.get(f"/dashboard/runs/{run_id}").text
    assert "get no secrets, write no caches and deploy nowhere" in words(page)
    assert "stranger/shop" in page
    assert send(operator, f"runs/{run_id}/allow") == (302, f"/dashboard/runs/{run_id}")
    page = operator.get(f"/dashboard/runs/{run_id}").text
    assert "let this run have secrets" in words(page)
    assert 'id="allow"' not in page
    assert Run.get(run_id, RUN).allowed_by == "Operator"


def test_a_run_that_had_nothing_to_do_says_so(operator: Client) -> None:
    connected()
    bound(definition=None)
    worked(github_push())
    run = runs()[0]
    run.update(actions=[Run.nothing_to_do.set("main matches no pattern of `on.push.branches`.")])
    page = words(operator.get(f"/dashboard/runs/{run.run_id}").text)
    assert "There was nothing to do: main matches no pattern" in page
    assert "Fix the cart" in page


def test_a_pipeline_is_bound_to_a_repository_on_its_form(operator: Client) -> None:
    connected()
    bound(definition=None)
    assert "acme/shop" in operator.get("/dashboard/pipelines/web").text
    form = {
        "repository": "https://github.com/acme/shop.git",
        "default_ref": "main",
        "labels": "",
        "definition": "",
        "revision": "1",
    }
    assert send(operator, "pipelines/web/edit", **form)[0] == 302
    assert pipeline_get("web").source == "hub"
    status, page = send(operator, "pipelines/web/edit", **form, source="hub", source_repository="a b")
    assert (status, "must be the full name" in errors_of(page, "source_repository")) == (422, True)
    assert send(operator, "pipelines/web/edit", **form, source="", source_repository="acme/shop")[0] == 302
    assert pipeline_get("web").source is None


def test_the_list_has_pages(operator: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("apps.dashboard.views.webhooks._DELIVERIES", 2)
    connected()
    for number in range(3):
        worked(github_push(), delivery=str(number))
    page = operator.get("/dashboard/webhooks/hub").text
    following = re.search(r'rel="next" href="([^"]+)"', page)[1].replace("&amp;", "&")
    assert operator.get(following).text.count("push to main") >= 1
