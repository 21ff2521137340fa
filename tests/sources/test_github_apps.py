"""Creating a GitHub App by the manifest flow, and pipelines from the repositories that it reaches."""

import json
from datetime import timedelta
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit
from urllib.request import HTTPRedirectHandler, Request, build_opener

import pytest

from apps.audit.selectors import audit_list
from apps.pipelines.selectors import pipeline_get
from apps.sources.models import Connection
from apps.sources.services import connection_create
from apps.sources.services.github_apps import (
    AppBeginning,
    app_begin,
    app_complete,
    github_api_url,
    pipeline_name,
    repository_pipeline_create,
)
from controlplane.lib import clock
from controlplane.lib.errors import Conflict, Forbidden, InvalidInput, NotFound, Unavailable, Unprocessable
from tests.conftest import ADMIN, OPERATOR
from tests.sources.conftest import app_connection, connection_of
from tests.sources.fake_provider import FakeProvider, private_key

pytestmark = pytest.mark.usefixtures("tables")
BASE = "https://ci.example.com"


class _NoRedirects(HTTPRedirectHandler):
    def redirect_request(self, *_: Any) -> None:
        return None


def begin(provider: FakeProvider, **members: Any) -> AppBeginning:
    urls = {"redirect_url": f"{BASE}/made", "setup_url": f"{BASE}/installed"}
    return app_begin(actor=ADMIN, base_url=BASE, web_url=provider.url, **urls, **members)


def posted(beginning: AppBeginning) -> dict[str, str]:
    """What the browser brings back after it has posted the form to GitHub."""
    body = urlencode({"manifest": json.dumps(beginning.manifest)}).encode()
    try:
        build_opener(_NoRedirects()).open(Request(beginning.url, data=body))
    except OSError as answer:
        location = str(answer.headers["Location"])  # type: ignore[attr-defined]
        answer.close()  # type: ignore[attr-defined]
    assert location.startswith(f"{BASE}/made?")
    return {name: values[0] for name, values in parse_qs(urlsplit(location).query).items()}


def test_the_manifest_flow_makes_a_connection_whose_secrets_are_encrypted(provider: FakeProvider) -> None:
    beginning = begin(provider, organisation="acme", name="Acme CI")
    assert urlsplit(beginning.url).path == "/organizations/acme/settings/apps/new"
    manifest = beginning.manifest
    assert manifest["hook_attributes"] == {"url": f"{BASE}/webhooks/github", "active": True}
    assert (manifest["redirect_url"], manifest["public"]) == (f"{BASE}/made", False)
    assert manifest["default_permissions"] == {
        "checks": "write",
        "contents": "read",
        "metadata": "read",
        "pull_requests": "read",
        "statuses": "write",
    }
    connection = app_complete(actor=ADMIN, kept=beginning.kept, **posted(beginning))
    assert (connection.connection_id, connection.app_id, connection.app_slug) == ("github", "4711", "hybrid-ci")
    assert (connection.api_url, connection.web_url) == (f"{provider.url}/api/v3", provider.url)
    stored = Connection.get("default", "github")
    assert stored.secret("private_key") == private_key()
    assert provider.app is not None
    assert stored.secret("webhook_secret") == provider.app.webhook_secret
    everything = json.dumps(stored.to_simple_dict()) + json.dumps(
        [[one.action, dict(one.detail or {})] for one in audit_list(day=clock.timestamp(clock.now())[:10]).records]
    )
    for secret in ("PRIVATE KEY", provider.app.webhook_secret, provider.app.client_secret):
        assert secret not in everything


def test_a_state_is_for_one_session_serves_once_and_ends_after_an_hour(provider: FakeProvider) -> None:
    beginning, other = begin(provider), begin(provider)
    back = posted(beginning)
    for kept in (None, other.kept):
        with pytest.raises(InvalidInput, match="state: must be that of the page where you began"):
            app_complete(actor=ADMIN, kept=kept, **back)
    with clock.shifted(timedelta(minutes=61)), pytest.raises(InvalidInput, match="less than an hour old"):
        app_complete(actor=ADMIN, kept=beginning.kept, **back)
    assert provider.app is None
    app_complete(actor=ADMIN, kept=beginning.kept, **back)
    with pytest.raises(InvalidInput, match="code: must be a code"):
        app_complete(actor=ADMIN, kept=beginning.kept, **back)


def test_an_id_that_is_taken_meanwhile_does_not_lose_the_app(provider: FakeProvider) -> None:
    beginning = begin(provider)
    back = posted(beginning)
    connection_create(actor=ADMIN, connection_id="github", provider="github")
    assert app_complete(actor=ADMIN, kept=beginning.kept, **back).connection_id == "github-4711"
    with pytest.raises(Conflict, match="There is already a connection github"):
        begin(provider)


def test_a_github_that_does_not_answer_makes_no_connection(provider: FakeProvider) -> None:
    beginning = begin(provider)
    back = posted(beginning)
    provider.disturb("fail")
    with pytest.raises(Unavailable):
        app_complete(actor=ADMIN, kept=beginning.kept, **back)
    assert Connection.find("default", "github") is None


@pytest.mark.parametrize(
    ("members", "field"),
    [
        ({"connection_id": "Git Hub"}, "connection_id"),
        ({"organisation": "../../evil"}, "organisation"),
        ({"organisation": "-x"}, "organisation"),
        ({"name": "x" * 35}, "name"),
        ({"web_url": "http://github.example.com"}, "web_url"),
        ({"web_url": "https://github.com/"}, "web_url"),
    ],
)
def test_what_a_beginning_must_be(members: dict[str, str], field: str) -> None:
    urls = {"redirect_url": f"{BASE}/made", "setup_url": f"{BASE}/installed"}
    with pytest.raises(InvalidInput) as caught:
        app_begin(actor=ADMIN, base_url=BASE, **urls, **members)
    assert caught.value.errors[0]["field"] == field


def test_only_admins_create_apps(provider: FakeProvider) -> None:
    beginning = begin(provider)
    with pytest.raises(Forbidden):
        app_begin(actor=OPERATOR, base_url=BASE, redirect_url=BASE, setup_url=BASE)
    with pytest.raises(Forbidden):
        app_complete(actor=OPERATOR, kept=beginning.kept, state=beginning.kept["state"], code="x")


def test_where_the_api_of_a_host_is() -> None:
    assert github_api_url("https://github.com") == "https://api.github.com"
    assert github_api_url("https://acme.ghe.com") == "https://api.acme.ghe.com"
    assert github_api_url("https://github.acme.example") == "https://github.acme.example/api/v3"


def test_a_pipeline_is_made_from_a_repository_by_choosing_it(provider: FakeProvider) -> None:
    provider.repository_add("acme/Shop.web", default_branch="trunk")
    app_connection(provider).save()
    made = repository_pipeline_create(actor=OPERATOR, connection_id="github", repository="acme/Shop.web")
    pipeline = pipeline_get("shop-web")
    assert made.name == pipeline.name
    assert (pipeline.repository, pipeline.default_ref) == (f"{provider.url}/acme/Shop.web.git", "trunk")
    assert (pipeline.source, pipeline.source_repository, pipeline.definition) == ("github", "acme/Shop.web", None)
    assert pipeline.fetch_with == "source:github"
    with pytest.raises(Conflict, match="already a pipeline of this name"):
        repository_pipeline_create(actor=OPERATOR, connection_id="github", repository="acme/Shop.web")
    again = repository_pipeline_create(
        actor=OPERATOR, connection_id="github", repository="acme/Shop.web", name="nightly", default_ref="release"
    )
    assert (again.name, again.default_ref) == ("nightly", "release")


def test_names_of_pipelines_from_repositories() -> None:
    names = {
        "acme/Shop.Web": "shop-web",
        "g/sub/x_1": "x_1",
        "a/.github": "github",
        "a/" + "x" * 99: "x" * 63,
        "a/.": "pipeline",
    }
    assert {full_name: pipeline_name(full_name) for full_name in names} == names


@pytest.mark.parametrize("kind", ["gitlab", "gitea"])
def test_a_pipeline_is_made_from_a_repository_of_gitlab_and_gitea(kind: str, provider: FakeProvider) -> None:
    provider.repository_add("acme/shop")
    connection_of(provider, kind, token=provider.token_add(contents="read")).save()
    made = repository_pipeline_create(actor=OPERATOR, connection_id=kind, repository="acme/shop")
    assert (made.source, made.source_repository, made.default_ref) == (kind, "acme/shop", "main")


def test_a_repository_that_the_connection_does_not_reach_makes_no_pipeline(provider: FakeProvider) -> None:
    app_connection(provider).save()
    connection_create(actor=ADMIN, connection_id="own", provider="standard")
    for repository, message in (("acme/none", "that the connection reaches"), ("../etc", "must be the full name")):
        with pytest.raises(InvalidInput, match=message):
            repository_pipeline_create(actor=OPERATOR, connection_id="github", repository=repository)
    with pytest.raises(NotFound):
        repository_pipeline_create(actor=OPERATOR, connection_id="none", repository="acme/shop")
    with pytest.raises(Unprocessable, match="list no repositories"):
        repository_pipeline_create(actor=OPERATOR, connection_id="own", repository="acme/shop")
