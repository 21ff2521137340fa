"""The pages that create a GitHub App and make pipelines of repositories: one click each."""

import html
import re
from urllib.parse import parse_qs, urlsplit

import pytest
import requests

from apps.pipelines.selectors import pipeline_get
from apps.sources.models import Connection
from tests.clients import Client
from tests.dashboard.conftest import SignedIn
from tests.dashboard.test_pipelines import send
from tests.dashboard.test_tests import words
from tests.sources.conftest import app_connection, connection_of
from tests.sources.conftest import provider as provider
from tests.sources.fake_provider import FakeProvider


@pytest.fixture
def admin(signed_in: SignedIn) -> Client:
    return signed_in("admin")


def begun(browser: Client, provider: FakeProvider) -> tuple[str, str]:
    """Where the button leads, and the manifest that it posts."""
    answer = browser.get("/dashboard/new-github-app", params={"web_url": provider.url, "organisation": "acme"})
    assert answer.status_code == 200
    assert f"form-action 'self' {provider.url};" in answer.headers["Content-Security-Policy"] + ";"
    action = re.search(r'action="([^"]+)" id="create"', answer.text)
    manifest = re.search(r'name="manifest" value="([^"]+)"', answer.text)
    assert action
    assert manifest
    return html.unescape(action[1]), html.unescape(manifest[1])


def clicked(browser: Client, provider: FakeProvider) -> str:
    """The path that GitHub sends the browser back to after a click on the button."""
    url, manifest = begun(browser, provider)
    answer = requests.post(url, data={"manifest": manifest}, allow_redirects=False, timeout=10)
    back = urlsplit(answer.headers["Location"])
    assert back.path == "/dashboard/github-app"
    return f"{back.path}?{back.query}"


def test_an_app_is_created_with_one_click_and_a_pipeline_is_made_by_choosing_a_repository(
    admin: Client, provider: FakeProvider
) -> None:
    provider.repository_add("acme/shop")
    answer = admin.get(clicked(admin, provider), allow_redirects=False)
    address = "/dashboard/connections/github/repositories"
    assert (answer.status_code, answer.headers["Location"]) == (302, address)
    page = admin.get(address).text
    assert "The GitHub App hybrid-ci is created." in page
    assert "acme/shop" in page
    assert "Installed for acme (selected repositories)." in words(page)
    assert f'href="{provider.url}/github-apps/hybrid-ci/installations/new"' in page
    assert "PRIVATE KEY" not in page
    sent = send(admin, "connections/github/pipelines", repository="acme/shop", name="")
    assert sent == (302, "/dashboard/pipelines/shop")
    assert pipeline_get("shop").source_repository == "acme/shop"
    assert 'href="/dashboard/pipelines/shop"' in admin.get(address).text
    # Of a second one, the page asks for a name.
    assert 'value="github-2"' in admin.get("/dashboard/new-github-app").text
    status, page = send(admin, "connections/github/pipelines", repository="acme/shop", name="")
    assert (status, "There is already a pipeline of this name" in page) == (422, True)
    assert send(admin, "connections/github/pipelines", repository="acme/shop", name="nightly")[0] == 302


def test_the_way_back_from_github_is_for_the_browser_that_began_and_serves_once(
    admin: Client, outsider: Client, provider: FakeProvider
) -> None:
    path = clicked(admin, provider)
    assert outsider.get(path, allow_redirects=False).status_code in (302, 401)
    forged = path.replace(parse_qs(urlsplit(path).query)["state"][0], "x" * 43)
    answer = admin.get(forged)
    assert (answer.status_code, "must be that of the page where you began" in answer.text) == (400, True)
    assert Connection.find("default", "github") is None
    assert admin.get(path, allow_redirects=False).status_code == 302
    assert admin.get(path).status_code == 400


def test_when_github_does_not_answer_the_page_can_be_loaded_again(admin: Client, provider: FakeProvider) -> None:
    path = clicked(admin, provider)
    provider.disturb("fail")
    assert admin.get(path).status_code == 503
    assert admin.get(path).status_code == 302
    assert admin.get(path).status_code == 400


def test_mistakes_are_shown_at_their_fields_and_nothing_is_begun(admin: Client) -> None:
    answer = admin.get("/dashboard/new-github-app", params={"web_url": "http://github.example.com", "name": "x"})
    assert answer.status_code == 422
    assert "must be an https URL" in answer.text
    assert 'name="manifest"' not in answer.text
    assert "GitHub cannot send webhooks to this address." in admin.get("/dashboard/new-github-app").text


def test_operators_choose_repositories_and_only_admins_connect(operator: Client, provider: FakeProvider) -> None:
    assert operator.get("/dashboard/new-github-app").status_code == 403
    page = operator.get("/dashboard/repositories").text
    assert "An admin can add a connection." in words(page)
    provider.repository_add("acme/shop", private=False)
    provider.repository_add("acme/blog")
    app_connection(provider).save()
    # With one connection, its repositories are shown at once.
    address = operator.get("/dashboard/repositories").headers["Location"]
    page = operator.get(address).text
    assert "acme/shop" in page
    assert "Install the app" not in page
    page = operator.get("/dashboard/connections/github/repositories", params={"q": "BLOG"}).text
    assert "acme/blog" in page
    assert "acme/shop" not in page
    connection_of(provider, "gitlab", token="glpat-1234567890").save()
    page = operator.get("/dashboard/repositories").text
    assert 'href="/dashboard/connections/gitlab/repositories"' in page


def test_a_provider_that_does_not_answer_is_said_on_the_page(operator: Client, provider: FakeProvider) -> None:
    app_connection(provider).save()
    provider.disturb("fail")
    answer = operator.get("/dashboard/connections/github/repositories")
    assert answer.status_code == 503
    assert "answers with the status 502. Try again." in answer.text
    provider.disturb("fail", status=404)
    answer = operator.get("/dashboard/connections/github/repositories")
    assert answer.status_code == 422
    assert operator.get("/dashboard/connections/none/repositories").status_code == 404


def test_the_page_leads_to_where_other_providers_are_added(admin: Client, viewer: Client) -> None:
    page = admin.get("/dashboard/repositories").text
    assert 'href="/dashboard/webhooks#add"' in page
    assert 'id="add"' in admin.get("/dashboard/webhooks").text
    assert 'href="/dashboard/webhooks#add"' not in viewer.get("/dashboard/repositories").text
