"""Limits on signing in and on calls of the API, and the address that they count by."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import pytest
from botocore.exceptions import EndpointConnectionError
from django.test import RequestFactory

from apps.accounts.models import RateLimitWindow, User
from apps.accounts.services import api_call_rate_limit, sign_in_rate_limit
from apps.accounts.services.rate_limits import CALLS_PER_WRITE, counter
from controlplane.http.requests import client_address
from controlplane.lib import clock
from controlplane.lib.errors import TooManyRequests
from controlplane.nosql.connection import shared_connection
from tests.accounts.browser import Browser
from tests.accounts.provider import Provider
from tests.clients import Client, problem
from tests.conftest import PASSWORD
from tests.metering import dynamodb_calls


@pytest.fixture(autouse=True)
def _limits(settings: Any) -> None:
    settings.SIGN_IN_ATTEMPTS_PER_ADDRESS = 6
    settings.SIGN_IN_ATTEMPTS_PER_ACCOUNT = 3
    settings.API_CALLS_PER_MINUTE = 2 * CALLS_PER_WRITE


@contextmanager
def no_database() -> Iterator[None]:
    """In the block no call reaches DynamoDB."""

    def fail(**_: Any) -> None:
        raise EndpointConnectionError(endpoint_url="http://127.0.0.1:1")

    events = shared_connection().client.meta.events
    events.register("before-call.dynamodb.*", fail, unique_id="no-database")
    try:
        yield
    finally:
        events.unregister("before-call.dynamodb.*", unique_id="no-database")


# --- signing in -----------------------------------------------------------------------------------------------------


def test_after_some_attempts_on_one_account_even_the_right_password_must_wait(ada: User, browser: Browser) -> None:
    for _ in range(3):
        assert browser.sign_in(password="wrong").status_code == 401
    answer = browser.sign_in()
    assert answer.status_code == 429
    assert 1 <= int(answer.headers["Retry-After"]) <= 15 * 60
    assert "too many attempts" in answer.text
    assert not browser.signed_in
    with clock.shifted(timedelta(seconds=int(answer.headers["Retry-After"]))):
        assert browser.sign_in().status_code == 302


def test_an_account_is_the_same_in_any_spelling(ada: User, browser: Browser) -> None:
    for email in ("ada@example.com", "ADA@example.com", " ada@EXAMPLE.com "):
        browser.sign_in(email=email, password="wrong")
    assert browser.sign_in().status_code == 429


def test_after_some_attempts_from_one_address_no_account_can_be_tried(ada: User, browser: Browser) -> None:
    for number in range(6):
        assert browser.sign_in(email=f"someone{number}@example.com").status_code == 401
    assert browser.sign_in().status_code == 429


def test_eight_attempts_at_once_are_as_many_as_one_after_the_other(tables: None) -> None:
    def attempt(_: int) -> bool:
        try:
            sign_in_rate_limit(address="198.51.100.7", account="ada@example.com")
        except TooManyRequests:
            return False
        return True

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(attempt, range(8))) == 3


@pytest.mark.parametrize(
    ("first", "second", "same"),
    [
        ("198.51.100.7", "198.51.100.8", False),
        ("2001:db8::1", "2001:db8::ffff:1", True),
        ("2001:db8::1", "2001:db8:0:1::1", False),
        ("::ffff:198.51.100.7", "198.51.100.7", True),
        ("", "not an address", True),
    ],
)
def test_an_address_is_what_one_machine_can_have(first: str, second: str, same: bool, tables: None) -> None:
    for _ in range(6):
        sign_in_rate_limit(address=first)
    if same:
        with pytest.raises(TooManyRequests):
            sign_in_rate_limit(address=second)
    else:
        sign_in_rate_limit(address=second)


def test_the_counters_expire_and_store_no_address(tables: None) -> None:
    sign_in_rate_limit(address="198.51.100.7", account="ada@example.com")
    rows = list(RateLimitWindow.scan())
    assert len(rows) == 2
    assert all(row.expires_at > clock.now() for row in rows)
    assert "ada" not in str([row.to_simple_dict() for row in rows])


def test_a_refused_attempt_writes_nothing(tables: None) -> None:
    for _ in range(3):
        sign_in_rate_limit(address="198.51.100.7", account="ada@example.com")
    for _ in range(3):
        with pytest.raises(TooManyRequests):
            sign_in_rate_limit(address="198.51.100.8", account="ada@example.com")
    assert sorted(int(row.tries) for row in RateLimitWindow.scan()) == [3, 3, 3]


def test_while_attempts_cannot_be_counted_no_user_can_sign_in(ada: User, browser: Browser) -> None:
    csrf = browser.csrf_token()
    form = {"csrfmiddlewaretoken": csrf, "email": "ada@example.com", "password": PASSWORD}
    with no_database():
        assert browser.post("/signin", data=form).status_code == 503
    assert not browser.signed_in


def test_the_ways_by_a_provider_are_limited_too(
    browsers: Callable[[], Browser], provider: Provider, settings: Any
) -> None:
    for _ in range(3):
        assert browsers().sign_in_with("google").status_code == 302
    answer = browsers().send("/oauth/google/start")
    assert answer.status_code == 429
    assert 'data-code="too_many_requests"' in answer.text
    assert answer.headers["Retry-After"]


def test_the_frontends_way_is_limited_too(outsider: Client, provider: Provider) -> None:
    body = {"user_id": "1001", "provider": "google", "oauth_tokens": {"access_token": "made-up"}}
    for _ in range(3):
        assert outsider.post("/auth/session", json=body).status_code == 401
    answer = outsider.post("/auth/session", json=body)
    problem(answer, 429, "too_many_requests")
    assert answer.headers["Retry-After"]


# --- calls ----------------------------------------------------------------------------------------------------------


def test_a_token_that_calls_too_often_must_wait(admin: Client, settings: Any) -> None:
    settings.API_CALLS_PER_MINUTE = 5
    with clock.shifted(timedelta(seconds=60 - clock.epoch() % 60)):
        for _ in range(5):
            assert admin.get("/agents").status_code == 200
        answer = admin.get("/agents")
        problem(answer, 429, "too_many_requests")
        assert 1 <= int(answer.headers["Retry-After"]) <= 60
    with clock.shifted(timedelta(minutes=3)):
        assert admin.get("/agents").status_code == 200


def test_a_call_costs_a_fiftieth_of_a_write(tables: None) -> None:
    with dynamodb_calls() as counted:
        for _ in range(CALLS_PER_WRITE - 1):
            api_call_rate_limit(caller="one")
    assert counted.calls == 0
    with dynamodb_calls() as counted:
        api_call_rate_limit(caller="one")
    assert counted.operations == ["UpdateItem"]


def test_what_other_processes_let_in_counts(tables: None) -> None:
    """Forgetting what this one knows makes another process of it."""
    for _ in range(2):
        for _ in range(CALLS_PER_WRITE):
            api_call_rate_limit(caller="one")
        counter.clear()
    for _ in range(CALLS_PER_WRITE):
        api_call_rate_limit(caller="one")
    with pytest.raises(TooManyRequests):
        api_call_rate_limit(caller="one")
    api_call_rate_limit(caller="another")


def test_while_calls_cannot_be_counted_they_are_let_in_as_far_as_the_process_itself_counts(
    tables: None,
) -> None:
    with no_database():
        for _ in range(2 * CALLS_PER_WRITE):
            api_call_rate_limit(caller="one")
        with pytest.raises(TooManyRequests):
            api_call_rate_limit(caller="one")


def test_calls_of_eight_threads_are_all_counted(tables: None) -> None:
    def call(_: int) -> bool:
        try:
            api_call_rate_limit(caller="one")
        except TooManyRequests:
            return False
        return True

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(call, range(3 * CALLS_PER_WRITE))) == 2 * CALLS_PER_WRITE


# --- the address ----------------------------------------------------------------------------------------------------

HTTP_API = {"requestContext": {"http": {"sourceIp": "198.51.100.7"}}}
REST_API = {"requestContext": {"identity": {"sourceIp": "198.51.100.7"}}}


@pytest.mark.parametrize(
    ("environment", "address"),
    [
        ({"REMOTE_ADDR": "127.0.0.1"}, "127.0.0.1"),
        ({"REMOTE_ADDR": "127.0.0.1", "HTTP_X_FORWARDED_FOR": "1.2.3.4", "HTTP_X_REAL_IP": "1.2.3.4"}, "127.0.0.1"),
        ({"apig_wsgi.full_event": HTTP_API, "REMOTE_ADDR": "1.2.3.4"}, "198.51.100.7"),
        ({"apig_wsgi.full_event": REST_API, "REMOTE_ADDR": "1.2.3.4"}, "198.51.100.7"),
        ({"lambda.event": HTTP_API, "REMOTE_ADDR": "1.2.3.4", "HTTP_X_FORWARDED_FOR": "1.2.3.4"}, "198.51.100.7"),
        ({"lambda.event": {}, "REMOTE_ADDR": "1.2.3.4"}, ""),
    ],
)
def test_the_address_is_the_gateways_and_never_a_headers(environment: dict[str, Any], address: str) -> None:
    assert client_address(RequestFactory().get("/", **environment)) == address
