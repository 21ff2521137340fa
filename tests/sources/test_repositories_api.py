"""``/connections/{id}/repositories``, ``/installations`` and ``/pipelines``."""

from datetime import timedelta

from apps.sources.models import Connection
from controlplane.lib import clock
from tests.clients import Client, problem
from tests.sources.conftest import app_connection
from tests.sources.fake_provider import FakeProvider, private_key


def test_a_program_lists_repositories_and_makes_pipelines_of_them(operator: Client, provider: FakeProvider) -> None:
    provider.repository_add("acme/shop")
    app_connection(provider).save()
    (repository,) = operator.get("/connections/github/repositories").json()["repositories"]
    assert repository == {
        "full_name": "acme/shop",
        "clone_url": f"{provider.url}/acme/shop.git",
        "web_url": f"{provider.url}/acme/shop",
        "default_branch": "main",
        "is_private": True,
    }
    (installation,) = operator.get("/connections/github/installations").json()["installations"]
    assert (installation["account"], installation["selects_all"], installation["is_suspended"]) == (
        "acme",
        False,
        False,
    )
    answer = operator.post("/connections/github/pipelines", json={"repository": "acme/shop"})
    assert (answer.status_code, answer.json()["name"], answer.json()["source"]) == (201, "shop", "github")
    saved = operator.get("/pipelines/shop").json()
    assert (saved["source"], saved["source_repository"], saved["fetch_secret"]) == ("github", "acme/shop", None)
    answer = operator.post("/connections/github/pipelines", json={"repository": "acme/shop"})
    problem(answer, 409, "name_taken")
    answer = operator.post("/connections/github/pipelines", json={"repository": "acme/none"})
    assert problem(answer, 400, "invalid_input")["errors"][0]["field"] == "repository"


def test_a_provider_that_fails_limits_or_refuses_is_said(operator: Client, provider: FakeProvider) -> None:
    app_connection(provider).save()
    provider.disturb("fail")
    assert operator.get("/connections/github/repositories").status_code == 503
    provider.disturb("secondary", seconds=90)
    answer = operator.get("/connections/github/installations")
    assert (answer.status_code, answer.headers["Retry-After"]) == (503, "90")
    provider.disturb("fail", status=401)
    with clock.shifted(timedelta(seconds=91)):
        answer = operator.get("/connections/github/installations")
    problem(answer, 422, "source_refused")
    assert operator.get("/connections/none/repositories").status_code == 404


def test_the_secret_for_fetching_is_a_member_of_the_pipeline(operator: Client) -> None:
    body = {"repository": "https://git.example.com/acme/shop.git", "default_ref": "main", "fetch_secret": "DEPLOY"}
    assert operator.put("/pipelines/shop", json=body).json()["fetch_secret"] == "DEPLOY"
    del body["fetch_secret"]
    # Older programs do not know it, and leave it as it is.
    assert operator.put("/pipelines/shop", json=body).json()["fetch_secret"] == "DEPLOY"
    answer = operator.put("/pipelines/shop", json={**body, "fetch_secret": "not a name"})
    assert problem(answer, 400, "invalid_input")["errors"][0]["field"] == "fetch_secret"
    assert operator.put("/pipelines/shop", json={**body, "fetch_secret": ""}).json()["fetch_secret"] is None


def test_an_admin_replaces_the_private_key_which_no_answer_has(admin: Client, provider: FakeProvider) -> None:
    provider.repository_add("acme/shop")
    app_connection(provider, private_key="an old key that leaked").save()
    answer = admin.request("PATCH", "/connections/github", json={"private_key": private_key()})
    assert answer.status_code == 200
    assert "PRIVATE KEY" not in answer.text
    assert Connection.get("default", "github").secret("private_key") == private_key()
    assert len(admin.get("/connections/github/repositories").json()["repositories"]) == 1
