"""A GitHub App: its signature, its tokens, and what it reaches; and the same of GitLab and Gitea by their tokens."""

from datetime import timedelta

import jwt
import pytest

from apps.sources.providers.calls import ProviderRefused
from apps.sources.providers.github.app import app_convert, app_token, installations
from apps.sources.providers.github.tokens import installation_token, repository_call, tokens_forget
from apps.sources.providers.interface import provider_has, provider_of
from controlplane.lib import clock
from controlplane.lib.errors import InvalidInput, Unavailable, Unprocessable
from tests.sources.conftest import app_connection, connection_of
from tests.sources.fake_provider import FakeProvider

A, B, C = "a" * 40, "b" * 40, "c" * 40


def tokens_made(provider: FakeProvider) -> int:
    return sum(asked.path.endswith("/access_tokens") for asked in provider.asked)


def test_an_app_signs_with_rs256_for_less_than_ten_minutes(provider: FakeProvider) -> None:
    connection = app_connection(provider)
    token = app_token(connection)
    assert jwt.get_unverified_header(token)["alg"] == "RS256"
    claims = jwt.decode(token, options={"verify_signature": False})
    assert claims["iss"] == "4711"
    now = clock.now().timestamp()
    assert claims["iat"] == pytest.approx(now - 60, abs=2)
    assert claims["exp"] - claims["iat"] <= 600
    # It serves for some minutes, and no key but its own.
    with clock.shifted(timedelta(minutes=3)):
        assert app_token(connection) == token
    for minutes in (5, -1):
        with clock.shifted(timedelta(minutes=minutes)):
            assert app_token(connection) != token
    with pytest.raises(Unprocessable, match="malformed"):
        app_token(connection_of(provider, private_key="another key", app_id="4711"))


def test_an_installation_token_is_for_one_repository_and_what_was_asked_for(provider: FakeProvider) -> None:
    provider.repository_add("acme/shop")
    provider.repository_add("acme/other")
    connection = app_connection(provider)
    token = installation_token(connection, "acme/shop", permissions={"contents": "read"})
    made = provider.tokens[token.text]
    assert (made.repositories, made.permissions) == (["acme/shop"], {"contents": "read"})
    assert token.text not in repr(token)


def test_an_installation_token_is_cached_until_five_minutes_before_its_end(provider: FakeProvider) -> None:
    provider.repository_add("acme/shop")
    connection = app_connection(provider)
    first = installation_token(connection, "acme/shop")
    with clock.shifted(timedelta(minutes=54)):
        assert installation_token(connection, "acme/shop") == first
    assert tokens_made(provider) == 1
    # One that may do less is another one.
    assert installation_token(connection, "acme/shop", permissions={"contents": "read"}) != first
    with clock.shifted(timedelta(minutes=56)):
        assert installation_token(connection, "acme/shop") != first
    assert tokens_made(provider) == 3


def test_without_an_installation_the_repository_is_refused(provider: FakeProvider) -> None:
    connection = app_connection(provider)
    with pytest.raises(ProviderRefused, match="is not installed for acme/shop"):
        installation_token(connection, "acme/shop")


def test_an_app_that_is_installed_anew_is_found_at_once(provider: FakeProvider) -> None:
    repository = provider.repository_add("acme/shop")
    connection = app_connection(provider)
    installation_token(connection, "acme/shop", permissions={"contents": "read"})
    repository.installation = 7
    token = installation_token(connection, "acme/shop")
    assert provider.tokens[token.text].installation == 7


def test_a_token_that_github_takes_back_is_replaced_once(provider: FakeProvider) -> None:
    provider.repository_add("acme/shop")
    connection = app_connection(provider)
    assert repository_call(connection, "GET", "acme/shop", "").status == 200
    provider.tokens.clear()
    assert repository_call(connection, "GET", "acme/shop", "").status == 200
    assert tokens_made(provider) == 2
    tokens_forget()
    provider.disturb("fail", status=401, times=2, path="GET /api/v3/repos/acme/shop$")
    with pytest.raises(ProviderRefused, match="401"):
        repository_call(connection, "GET", "acme/shop", "")


def test_an_app_with_another_key_or_none_is_refused(provider: FakeProvider) -> None:
    provider.repository_add("acme/shop")
    with pytest.raises(Unprocessable, match="malformed"):
        installation_token(connection_of(provider, private_key="no key", app_id="4711"), "acme/shop")
    with pytest.raises(Unprocessable, match="has no GitHub App"):
        installation_token(connection_of(provider, app_id="4711"), "acme/shop")
    moved = app_connection(provider)
    moved.connection_id = "another"
    with pytest.raises(Unprocessable, match="cannot be decrypted"):
        installation_token(moved, "acme/shop")


def test_agents_get_a_token_that_may_read_one_repository_and_none_that_users_gave(provider: FakeProvider) -> None:
    provider.repository_add("acme/shop")
    functions = provider_of("github")
    credentials = functions.clone_credentials(app_connection(provider), "acme/shop")
    assert credentials is not None
    assert (credentials.url, credentials.username) == (f"{provider.url}/", "x-access-token")
    made = provider.tokens[str(credentials.password)]
    assert (made.repositories, made.permissions) == (["acme/shop"], {"contents": "read"})
    assert str(credentials.password) not in repr(credentials)
    assert functions.clone_credentials(connection_of(provider, token="a-users-token"), "acme/shop") is None
    assert not any(provider_has(kind, "clone_credentials") for kind in ("gitlab", "gitea", "standard"))


def test_an_app_lists_its_installations_and_repositories(provider: FakeProvider) -> None:
    provider.repository_add("acme/shop")
    provider.repository_add("acme/blog", private=False)
    provider.repository_add("beta/tool", installation=2)
    provider.page_size = 1
    connection = app_connection(provider)
    assert [(one.installation_id, one.account) for one in installations(connection)] == [("1", "acme"), ("2", "beta")]
    found = provider_of("github").repositories(connection)
    assert [one.full_name for one in found] == ["acme/blog", "acme/shop", "beta/tool"]
    assert found[1].clone_url == f"{provider.url}/acme/shop.git"
    assert [one.is_private for one in found] == [False, True, True]
    assert found[2].installation_id == "2"
    one = provider_of("github").repository_get(connection, "beta/tool")
    assert one is not None
    assert one.full_name == "beta/tool"
    assert provider_of("github").repository_get(connection, "beta/none") is None


def test_a_code_of_the_manifest_flow_serves_once(provider: FakeProvider) -> None:
    provider.codes["f00d"] = {"name": "CI", "default_permissions": {"contents": "read"}, "owner": "acme"}
    api_url = f"{provider.url}/api/v3"
    app = app_convert(api_url=api_url, code="f00d")
    assert (app.app_id, app.slug, app.owner) == ("4711", "hybrid-ci", "acme")
    assert app.private_key.startswith("-----BEGIN RSA PRIVATE KEY-----")
    assert app.webhook_secret not in repr(app)
    assert "PRIVATE KEY" not in repr(app)
    for code in ("f00d", "../../app", "?x=1"):
        with pytest.raises(InvalidInput, match="must be a code"):
            app_convert(api_url=api_url, code=code)


@pytest.mark.parametrize("kind", ["github", "gitlab", "gitea"])
def test_a_connection_with_a_token_lists_and_compares(kind: str, provider: FakeProvider) -> None:
    provider.repository_add("acme/shop", commits=[A, B, C], changed={B: ["a.py"], C: ["docs/é.md"]})
    token = provider.token_add(contents="read")
    connection = connection_of(provider, kind, token=token)
    module = provider_of(kind)
    (repository,) = module.repositories(connection)
    assert (repository.full_name, repository.default_branch) == ("acme/shop", "main")
    assert module.repository_get(connection, "acme/shop") == repository
    assert module.repository_get(connection, "acme/none") is None
    found = module.compare(connection, "acme/shop", A, "main")
    assert (found.ahead_by, found.behind_by) == (2, 0)
    assert [one["commit"] for one in found.commits or ()] == [B, C]
    assert found.paths == ["a.py", "docs/é.md"]
    back = module.compare(connection, "acme/shop", C, A)
    assert (back.ahead_by, back.behind_by, back.commits, back.paths) == (0, 2, [], [])
    with pytest.raises(ProviderRefused, match="404"):
        module.compare(connection, "acme/shop", A, "no-such-branch")
    for base, name in (("../../user", "acme/shop"), (A, "acme/../../user"), (A, "acme")):
        with pytest.raises(InvalidInput):
            module.compare(connection, name, base, C)


@pytest.mark.parametrize("kind", ["github", "gitlab", "gitea"])
def test_something_else_than_the_provider_is_unavailable(kind: str, provider: FakeProvider) -> None:
    from tests.sources.fake_provider import Answer

    connection = connection_of(provider, kind, token="x" * 20)
    for body in ("<html>", {"x": 1}, [{"x": 1}], None, 7):
        provider.before = lambda _asked, body=body: Answer(200, body)  # type: ignore[misc]
        with pytest.raises(Unavailable):
            provider_of(kind).repositories(connection)
        with pytest.raises(Unavailable):
            provider_of(kind).compare(connection, "acme/shop", A, B)
