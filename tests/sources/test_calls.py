"""Calls to providers: which answers count, what is waited for, and where credentials never go."""

from datetime import timedelta

import pytest

from apps.sources.providers.calls import (
    ProviderRefused,
    pauses_forget,
    provider_call,
    provider_pages,
    provider_url_require,
)
from controlplane.lib import clock
from controlplane.lib.errors import InvalidInput, RetryLater, Unavailable
from tests.sources.fake_provider import Answer, FakeProvider, running_fake_provider


def call(provider: FakeProvider, method: str = "GET", path: str = "/api/v3/user/repos", token: str = "") -> int:
    headers = {"Authorization": f"Bearer {token or next(iter(provider.tokens))}"}
    return provider_call(method, provider.url + path, headers=headers).status


@pytest.fixture(autouse=True)
def _token(provider: FakeProvider) -> None:
    provider.token_add()


def test_a_provider_that_fails_or_does_not_answer_is_unavailable(provider: FakeProvider) -> None:
    provider.disturb("fail", status=503)
    with pytest.raises(Unavailable, match="503"):
        call(provider)
    provider.disturb("lose")
    with pytest.raises(Unavailable, match="does not answer"):
        call(provider)
    assert call(provider) == 200
    with pytest.raises(Unavailable, match="does not answer"):
        provider_call("GET", "http://127.0.0.1:9/", headers={})


@pytest.mark.parametrize(
    ("kind", "seconds", "waits"), [("limit", 900, 900), ("secondary", 30, 30), ("secondary", 0, 60)]
)
def test_a_limited_rate_is_retried_later_and_nothing_is_asked_before(
    kind: str, seconds: int, waits: int, provider: FakeProvider
) -> None:
    provider.disturb(kind, seconds=seconds)
    with pytest.raises(RetryLater) as limited:
        call(provider)
    assert limited.value.seconds == pytest.approx(waits, abs=1.5)
    with pytest.raises(RetryLater):
        call(provider)
    assert len(provider.asked) == 1
    # Other credentials have their own limit.
    assert call(provider, token=provider.token_add()) == 200
    with clock.shifted(timedelta(seconds=waits + 1)):
        assert call(provider) == 200


def test_a_limit_of_gitlab_is_a_limit(provider: FakeProvider) -> None:
    headers = {"RateLimit-Remaining": "0", "RateLimit-Reset": str(int(clock.now().timestamp()) + 20)}
    provider.before = lambda _asked: Answer(429, {"message": "Retry later"}, headers)
    with pytest.raises(RetryLater) as limited:
        call(provider)
    assert limited.value.seconds == pytest.approx(20, abs=1.5)


def test_a_refusal_has_the_providers_words_and_no_credentials(provider: FakeProvider) -> None:
    with pytest.raises(ProviderRefused, match=r"401: Bad credentials$") as refused:
        call(provider, token="a-token-that-is-unknown")
    assert refused.value.http_status == 401
    assert "a-token-that-is-unknown" not in str(refused.value)


def test_no_credentials_follow_a_redirect_to_another_server(provider: FakeProvider) -> None:
    with running_fake_provider() as other:
        provider.before = lambda _asked: Answer(302, None, {"Location": f"{other.url}/api/v3/user/repos"})
        with pytest.raises(ProviderRefused, match="sends the request on"):
            call(provider)
        assert other.asked == []


def test_a_redirect_within_the_server_is_followed_but_never_turns_a_write_into_a_read(provider: FakeProvider) -> None:
    moved = "/api/v3/repos/acme/old"
    provider.repository_add("acme/new")

    def before(asked: object) -> Answer | None:
        if getattr(asked, "path", "") == moved:
            return Answer(301, None, {"Location": "/api/v3/repos/acme/new"})
        return None

    provider.before = before
    assert call(provider, path=moved) == 200
    with pytest.raises(ProviderRefused):
        call(provider, "POST", moved)


def test_redirects_in_a_circle_end(provider: FakeProvider) -> None:
    provider.before = lambda asked: Answer(302, None, {"Location": asked.path})
    with pytest.raises(ProviderRefused, match="302"):
        call(provider)
    assert len(provider.asked) == 4


def test_all_pages_of_a_list_are_read_and_none_of_another_server(provider: FakeProvider) -> None:
    for number in range(5):
        provider.repository_add(f"acme/r{number}")
    provider.page_size = 2
    headers = {"Authorization": f"Bearer {next(iter(provider.tokens))}"}
    url = f"{provider.url}/api/v3/user/repos"
    assert len(list(provider_pages(url, headers=headers))) == 5
    link = {"Link": '<https://elsewhere.example/>; rel="next"'}
    provider.before = lambda _asked: Answer(200, [], link)
    with pytest.raises(ProviderRefused, match="another server"):
        list(provider_pages(url, headers=headers))


@pytest.mark.parametrize(
    "url",
    [
        "http://git.example.com",
        "https://user@git.example.com",
        "https://git.example.com/",
        "https://git.example.com?x",
        "https://",
        "ftp://git.example.com",
        "https://git.example.com:x",
        "https://git.example.com\\@evil.example",
        "file:///etc/passwd",
    ],
)
def test_an_address_of_a_provider_must_be_a_plain_https_url(url: str) -> None:
    with pytest.raises(InvalidInput, match="must be an https URL"):
        provider_url_require(url, field="api_url")


def test_addresses_of_providers() -> None:
    for url in ("https://api.github.com", "https://git.example.com:8443/api/v3", "http://127.0.0.1:8000"):
        provider_url_require(url, field="api_url")
    pauses_forget()
