"""Limits on signing in, on enrolment and on calls of the API, and the address that they count by."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import pytest
import requests
from botocore.exceptions import EndpointConnectionError
from django.core.cache import cache
from django.test import RequestFactory

from apps.accounts.models import OAuthState, RateLimitWindow, Session, User
from apps.accounts.services import (
    api_call_rate_limit,
    invitation_failure_count,
    password_attempt_reserve,
    provider_attempt_reserve,
    provider_start_count,
)
from apps.accounts.services.rate_limits import (
    ACCOUNT_FACTOR,
    CALLS_PER_WRITE,
    FAILURES_FACTOR,
    SITE_FACTOR,
    STARTS_FACTOR,
    counter,
    identity_failure_count,
)
from apps.agents.services import enrolment_token_create
from apps.audit.models import AuditRecord
from controlplane.http.requests import client_address
from controlplane.lib import clock
from controlplane.lib.errors import TooManyRequests
from controlplane.nosql.connection import shared_connection
from tests.accounts.browser import Browser
from tests.accounts.provider import Person, Provider
from tests.clients import Client, problem
from tests.conftest import ADMIN, PASSWORD
from tests.metering import dynamodb_calls


@pytest.fixture(autouse=True)
def _limits(settings: Any, new_window: None) -> None:
    settings.SIGN_IN_ATTEMPTS_PER_ADDRESS = 6
    settings.SIGN_IN_ATTEMPTS_PER_ACCOUNT = 3
    settings.API_CALLS_PER_MINUTE = 2 * CALLS_PER_WRITE


OWNER, STRANGER = "198.51.100.7", "203.0.113.9"


@pytest.fixture
def at(browsers: Callable[[], Browser], settings: Any) -> Callable[[str], Browser]:
    """A browser at this address, behind a proxy that is trusted."""
    settings.TRUSTED_PROXIES = ["127.0.0.1/32"]

    def somewhere(address: str) -> Browser:
        browser = browsers()
        browser.session.headers["X-Forwarded-For"] = address
        return browser

    return somewhere


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


# --- passwords ------------------------------------------------------------------------------------------------------


def attempt(address: str = STRANGER, email: str = "ada@example.com", known_browser: str | None = None) -> bool:
    """A failed attempt with a password; False if it is refused before the password is checked."""
    try:
        password_attempt_reserve(address=address, email=email, known_browser=known_browser)
    except TooManyRequests:
        return False
    return True


def test_after_some_failures_even_the_right_password_must_wait(ada: User, browser: Browser) -> None:
    for _ in range(3):
        assert browser.sign_in(password="wrong").status_code == 401
    answer = browser.sign_in()
    assert answer.status_code == 429
    assert 1 <= int(answer.headers["Retry-After"]) <= 15 * 60
    assert "too many failed attempts" in answer.text
    assert not browser.signed_in
    with clock.shifted(timedelta(seconds=int(answer.headers["Retry-After"]))):
        assert browser.sign_in().status_code == 302


def test_successful_sign_ins_do_not_count(ada: User, browsers: Callable[[], Browser]) -> None:
    for _ in range(7):
        assert browsers().sign_in().status_code == 302
    assert {int(row.tries) for row in RateLimitWindow.scan()} == {0}


def test_a_success_gives_only_itself_back(ada: User, browsers: Callable[[], Browser]) -> None:
    """An attacker's own sign-ins, or the owner's, do not buy more guesses."""
    for number in range(3):
        browsers().sign_in(password="wrong")
        assert browsers().sign_in().status_code == (302 if number < 2 else 429)


def test_an_account_is_the_same_in_any_spelling(ada: User, browser: Browser) -> None:
    for email in ("ada@example.com", "ADA@example.com", " ada@EXAMPLE.com "):
        browser.sign_in(email=email, password="wrong")
    assert browser.sign_in().status_code == 429


def test_after_some_failures_from_one_address_no_account_can_be_tried(ada: User, browser: Browser) -> None:
    for number in range(6):
        assert browser.sign_in(email=f"someone{number}@example.com").status_code == 401
    assert browser.sign_in().status_code == 429


def test_a_stranger_elsewhere_locks_the_owner_out_of_nothing(ada: User, at: Callable[[str], Browser]) -> None:
    stranger = at(STRANGER)
    for _ in range(5):
        stranger.sign_in(password="a guess")
    assert stranger.sign_in().status_code == 429
    assert at(OWNER).sign_in().status_code == 302


def test_a_distributed_attack_locks_out_unknown_browsers_but_not_the_owners(
    ada: User, at: Callable[[str], Browser]
) -> None:
    owner = at(OWNER)
    assert owner.sign_in().status_code == 302
    owner.session.cookies.set("sessionid", None)
    for number in range(3 * ACCOUNT_FACTOR):
        assert attempt(address=f"203.0.113.{number}")
    # The account's limit is reached, wherever the next guess comes from.
    assert at("192.0.2.1").sign_in().status_code == 429
    assert at(OWNER).sign_in().status_code == 429
    assert owner.sign_in().status_code == 302


def test_the_administration_pages_sign_in_under_the_same_limits_and_show_the_message(
    ada: User, browser: Browser
) -> None:
    for path in ("/admin/", "/admin/login/"):
        login = browser.get(path)
        assert login.status_code == 302
        page = browser.get(login.headers["Location"]) if "/signin" not in login.headers["Location"] else login
        assert page.headers["Location"].startswith("/signin?next=/admin/")
    # Django's own form is not there: no password can be tried without a limit.
    csrf = browser.csrf_token()
    form = {"csrfmiddlewaretoken": csrf, "username": "ada@example.com", "password": PASSWORD}
    assert browser.post("/admin/login/", data=form).headers["Location"].startswith("/signin")
    assert not browser.signed_in
    for _ in range(3):
        browser.send("/signin", email="ada@example.com", password="wrong", next="/admin/")
    answer = browser.send("/signin", email="ada@example.com", password=PASSWORD, next="/admin/")
    assert answer.status_code == 429
    assert "too many failed attempts to sign in with this account" in answer.text
    assert 'name="password"' in answer.text


def test_a_known_browser_has_a_limit_of_its_own(tables: None) -> None:
    assert [attempt(known_browser="one") for _ in range(4)] == [True, True, True, False]
    assert attempt(known_browser="another")
    assert [attempt() for _ in range(4)] == [True, True, True, False]


def test_eight_attempts_at_once_are_as_many_as_one_after_the_other(tables: None) -> None:
    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(lambda _: attempt(), range(8))) == 3


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
    for number in range(6):
        assert attempt(first, f"{number}@example.com")
    assert attempt(second, "6@example.com") != same


def test_a_customers_whole_network_has_limits_too(tables: None) -> None:
    """Many customers have a /56 or a /48, so 256 or 65,536 networks of the size of one machine's."""
    addresses = [f"2001:db8:0:{number:x}::1" for number in range(60)]
    assert [attempt(address, f"{number}@example.com") for number, address in enumerate(addresses)] == (
        [True] * 6 * SITE_FACTOR + [False] * (60 - 6 * SITE_FACTOR)
    )
    assert attempt("2001:db8:1::1")
    cache.clear()
    before = len(list(RateLimitWindow.scan()))
    assert not attempt("2001:db8:0:ffff::1")
    assert len(list(RateLimitWindow.scan())) == before


def test_the_owner_of_one_network_cannot_lock_an_account(
    ada: User, at: Callable[[str], Browser], settings: Any
) -> None:
    settings.SIGN_IN_ATTEMPTS_PER_ADDRESS = 1000
    passed = [attempt(f"2001:db8:0:{number:x}::1") for number in range(3 * ACCOUNT_FACTOR)]
    assert sum(passed) == 3 * SITE_FACTOR
    assert at(OWNER).sign_in().status_code == 302
    assert at("2001:db8:1::1").sign_in().status_code == 302


def test_no_text_of_a_clients_choice_counts_for_another_account(tables: None) -> None:
    """The keys of the counters are made of what clients type."""
    for number in range(3):
        attempt(address=f"203.0.113.{number}", email=f"x {OWNER} ada@example.com")
        attempt(address=f"203.0.113.{number}", email=f"-client-account {OWNER} ada@example.com")
    assert attempt(address=OWNER)


def test_the_counters_expire_and_store_no_address(tables: None) -> None:
    attempt("198.51.100.7")
    rows = list(RateLimitWindow.scan())
    assert len(rows) == 3
    assert all(row.expires_at > clock.now() for row in rows)
    stored = str([row.to_simple_dict() for row in rows])
    assert "ada@" not in stored
    assert "198.51" not in stored


def test_a_refused_attempt_writes_nothing(tables: None) -> None:
    while attempt():
        pass
    before = sorted(int(row.tries) for row in RateLimitWindow.scan())
    with dynamodb_calls() as counted:
        for _ in range(20):
            assert not attempt()
    assert counted.operations == []
    assert sorted(int(row.tries) for row in RateLimitWindow.scan()) == before == [3, 3, 4]


def test_a_client_that_goes_on_is_refused_by_its_own_limit(tables: None) -> None:
    """However many accounts it tries, and in other processes too: so it cannot write without bound."""
    for number in range(50):
        attempt(email=f"{number}@example.com")
        cache.clear()
    assert sum(int(row.tries) for row in RateLimitWindow.scan()) == 3 * 6


def test_while_attempts_cannot_be_counted_no_user_can_sign_in(ada: User, browser: Browser) -> None:
    csrf = browser.csrf_token()
    form = {"csrfmiddlewaretoken": csrf, "email": "ada@example.com", "password": PASSWORD}
    with no_database():
        assert browser.post("/signin", data=form).status_code == 503
    assert not browser.signed_in


def test_a_success_that_cannot_be_given_back_stays_a_success(tables: None) -> None:
    reservation = password_attempt_reserve(address=STRANGER, email="ada@example.com")
    with no_database():
        reservation.give_back()
    assert {int(row.tries) for row in RateLimitWindow.scan()} == {1}


def test_a_success_is_given_back_to_the_window_that_counted_it(tables: None) -> None:
    reservation = password_attempt_reserve(address=STRANGER, email="ada@example.com")
    with clock.shifted(timedelta(minutes=15)):
        attempt()
        reservation.give_back()
        # A window that DynamoDB has deleted is not made anew, with a negative count.
        reservation.give_back()
    assert sorted(int(row.tries) for row in RateLimitWindow.scan()) == [0, 0, 0, 1, 1, 1]


# --- providers ------------------------------------------------------------------------------------------------------


def session_create(client: Client, token: str, subject: str = "1001", provider: str = "google") -> int:
    body = {"user_id": subject, "provider": provider, "oauth_tokens": {"access_token": token}}
    return client.post("/auth/session", json=body).status_code


@pytest.mark.slow
def test_honest_sign_ins_with_a_provider_do_not_close_an_offices_sign_in(
    browsers: Callable[[], Browser], outsider: Client, provider: Provider
) -> None:
    for number in range(24):
        provider.person = Person(subject=str(2000 + number), email=f"person{number}@example.com")
        assert browsers().sign_in_with("google").status_code == 302
    for _ in range(8):
        assert session_create(outsider, provider.token(), provider.person.subject) == 200
    # Only the starts are counted.
    assert sorted(int(row.tries) for row in RateLimitWindow.scan()) == [0, 24]


def test_bogus_sessions_for_somebodys_public_id_lock_that_person_out_of_nothing(
    at: Callable[[str], Browser], provider: Provider
) -> None:
    stranger = at(STRANGER)
    for _ in range(10):
        assert session_create(stranger, "made-up", provider="github") == 401
    assert session_create(at(OWNER), provider.token(), provider="github") == 200
    assert session_create(stranger, provider.token(), provider="github") == 200
    assert at(OWNER).sign_in_with("github").status_code == 302


def test_what_the_provider_has_vouched_for_counts_for_an_account(
    at: Callable[[str], Browser], provider: Provider
) -> None:
    eve = provider.token(Person(subject="666", email="eve@evil.example"))
    for number in range(2):
        assert session_create(at(f"203.0.113.{number}"), eve, "666") == 403
        # Of another user than the body says: it counts for Eve, whose token it is.
        assert session_create(at(f"203.0.113.{number}"), eve, "1001") == (403 if number < 1 else 429)
    assert session_create(at("192.0.2.1"), eve, "666") == 429
    assert session_create(at(OWNER), provider.token()) == 200


def test_the_frontends_way_is_limited_by_the_clients_failures(
    at: Callable[[str], Browser], provider: Provider, settings: Any
) -> None:
    settings.SIGN_IN_ATTEMPTS_PER_ADDRESS = 1
    stranger = at(STRANGER)
    for number in range(FAILURES_FACTOR):
        assert session_create(stranger, "made-up", str(number)) == 401
    body = {"user_id": "1", "provider": "google", "oauth_tokens": {"access_token": provider.token()}}
    provider.asked.clear()
    answer = stranger.post("/auth/session", json=body)
    problem(answer, 429, "too_many_requests")
    assert answer.headers["Retry-After"]
    assert provider.asked == []
    assert session_create(at(OWNER), provider.token()) == 200


def test_coming_back_from_a_provider_is_limited_by_the_clients_failures(
    at: Callable[[str], Browser], provider: Provider, settings: Any
) -> None:
    settings.SIGN_IN_ATTEMPTS_PER_ADDRESS = 1
    stranger, neighbour = at(STRANGER), at(STRANGER)
    for _ in range(FAILURES_FACTOR):
        assert stranger.get("/oauth/google/complete?code=x&state=y").status_code == 400
    answer = stranger.get("/oauth/google/complete?code=x&state=y")
    assert answer.status_code == 429
    assert 'data-code="too_many_requests"' in answer.text
    assert answer.headers["Retry-After"]
    # A state that this browser was given is worth more than what others do at the same address.
    assert neighbour.sign_in_with("google").status_code == 302


def test_setting_out_for_a_provider_is_limited_by_the_client(
    at: Callable[[str], Browser], provider: Provider, settings: Any
) -> None:
    settings.SIGN_IN_ATTEMPTS_PER_ADDRESS = 1
    for _ in range(STARTS_FACTOR):
        provider_start_count(address=STRANGER)
    answer = at(STRANGER).send("/oauth/google/start")
    assert answer.status_code == 429
    assert 'data-code="too_many_requests"' in answer.text
    assert answer.headers["Retry-After"]
    assert at(OWNER).sign_in_with("google").status_code == 302


@pytest.mark.parametrize("name", ["google", "github"])
def test_an_outage_of_the_provider_is_no_failure_of_the_client(name: str, browser: Browser, provider: Provider) -> None:
    back = browser.agree(browser.go_to(name))
    provider.status = 503
    assert session_create(browser, "made-up", provider=name) == 503
    assert browser.get(back).status_code == 503
    assert list(AuditRecord.scan(AuditRecord.action == "user.sign_in_failed")) == []
    counted = {int(row.tries) for row in RateLimitWindow.scan()}
    # The start stays counted.
    assert counted == {0, 1}


def test_failures_over_the_limit_are_not_recorded(at: Callable[[str], Browser], provider: Provider) -> None:
    provider.person = Person(subject="666", email="eve@evil.example")
    answers = [at(f"203.0.113.{number}").sign_in_with("google").status_code for number in range(5)]
    assert answers == [403, 403, 403, 429, 429]
    assert len(list(AuditRecord.scan(AuditRecord.action == "user.sign_in_failed"))) == 3


@pytest.mark.slow
def test_reservations_of_a_whole_office_at_once_are_not_refused(tables: None, settings: Any) -> None:
    """With the limits as they are shipped: 200 people in flight have not failed."""
    settings.SIGN_IN_ATTEMPTS_PER_ADDRESS = 50
    with ThreadPoolExecutor(8) as pool:
        reservations = list(pool.map(lambda _: provider_attempt_reserve(address=OWNER), range(200)))
    for reservation in reservations:
        reservation.give_back()
    assert {int(row.tries) for row in RateLimitWindow.scan()} == {0}


@pytest.mark.slow
def test_a_stranger_makes_no_writes_without_bound(
    at: Callable[[str], Browser], provider: Provider, settings: Any
) -> None:
    settings.SIGN_IN_ATTEMPTS_PER_ADDRESS = 1
    stranger = at(STRANGER)
    csrf = {"csrfmiddlewaretoken": stranger.csrf_token()}

    def everything(number: int) -> set[int]:
        form = {**csrf, "email": f"{number}@example.com", "password": "a guess"}
        return {
            session_create(stranger, "made-up", str(number), provider="github"),
            stranger.post("/signin", data=form).status_code,
            stranger.get(f"/oauth/google/complete?error={number}").status_code,
            stranger.post("/oauth/google/start", data=csrf).status_code,
        }

    for number in range(STARTS_FACTOR):
        everything(number)

    def written() -> list[str]:
        kinds = (RateLimitWindow, AuditRecord, OAuthState, Session)
        return sorted(str(row.to_simple_dict()) for kind in kinds for row in kind.scan())

    before = written()
    for number in range(10):
        assert everything(100 + number) == {429}
    assert written() == before


def test_an_identity_that_fails_is_refused_whatever_its_address(tables: None) -> None:
    for _ in range(3):
        identity_failure_count(identity_key="google#1001")
    with pytest.raises(TooManyRequests):
        identity_failure_count(identity_key="google#1001")
    identity_failure_count(identity_key="github#1001")


# --- enrolment ------------------------------------------------------------------------------------------------------


def enrol(client: Client, token: str) -> requests.Response:
    return client.post("/agents/enrol", json={"token": token, "name": "build-1", "region": "eu-central-1"})


def make_token(uses: int = 1000) -> str:
    return enrolment_token_create(uses=uses, expires_at=clock.now() + timedelta(hours=1), actor=ADMIN)[1]


BOGUS = "hce_" + "x" * 43


def test_enrolment_is_rate_limited(at: Callable[[str], Browser], settings: Any) -> None:
    settings.SIGN_IN_ATTEMPTS_PER_ADDRESS = 1
    stranger = at(STRANGER)
    for _ in range(FAILURES_FACTOR):
        problem(enrol(stranger, BOGUS), 401, "enrolment_token_invalid")
    for token in (BOGUS, "hce_", "x" * 50):
        answer = enrol(stranger, token)
        problem(answer, 429, "too_many_requests")
        assert answer.headers["Retry-After"]
    (row,) = RateLimitWindow.scan()
    assert int(row.tries) == FAILURES_FACTOR
    problem(enrol(at(OWNER), BOGUS), 401, "enrolment_token_invalid")


def test_a_fleet_of_honest_machines_behind_one_address_is_never_limited(
    at: Callable[[str], Browser], settings: Any
) -> None:
    settings.SIGN_IN_ATTEMPTS_PER_ADDRESS = 1
    token = make_token()
    fleet = [at(OWNER) for _ in range(2 * FAILURES_FACTOR)]
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(lambda machine: enrol(machine, token).status_code, fleet)) == [201] * len(fleet)
    assert list(RateLimitWindow.scan()) == []
    # Not even if others at this address have used up its failures.
    while enrol(at(OWNER), BOGUS).status_code == 401:
        pass
    assert enrol(at(OWNER), token).status_code == 201


def test_a_token_that_is_used_up_counts_as_a_failure_too(outsider: Client, settings: Any) -> None:
    settings.SIGN_IN_ATTEMPTS_PER_ADDRESS = 1
    token = make_token(uses=1)
    answers = [enrol(outsider, token).status_code for _ in range(FAILURES_FACTOR + 2)]
    assert answers == [201] + [401] * FAILURES_FACTOR + [429]


def test_a_malformed_enrolment_is_no_guess_of_a_token(outsider: Client) -> None:
    assert outsider.post("/agents/enrol", json={"token": make_token(), "name": ""}).status_code == 400
    assert list(RateLimitWindow.scan()) == []


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
PROXY = "10.0.0.1"


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
def test_without_trusted_proxies_no_header_names_the_client(environment: dict[str, Any], address: str) -> None:
    assert client_address(RequestFactory().get("/", **environment)) == address


@pytest.mark.parametrize(
    ("peer", "forwarded", "address"),
    [
        (PROXY, "198.51.100.7", "198.51.100.7"),
        # The client wrote the first one, and perhaps whole headers of its own.
        (PROXY, "1.2.3.4, 198.51.100.7", "198.51.100.7"),
        (PROXY, "1.2.3.4, 10.0.0.9, 198.51.100.7", "198.51.100.7"),
        # Two proxies in a row.
        (PROXY, "1.2.3.4, 198.51.100.7, 10.0.0.2", "198.51.100.7"),
        (PROXY, " 198.51.100.7 ,10.0.0.2 ", "198.51.100.7"),
        # Some write a port.
        (PROXY, "198.51.100.7:4711", "198.51.100.7"),
        (PROXY, "[2001:db8::7]:4711", "2001:db8::7"),
        (PROXY, "2001:db8::7", "2001:db8::7"),
        ("2001:db8:1::1", "198.51.100.7", "198.51.100.7"),
        ("::ffff:10.0.0.1", "198.51.100.7", "198.51.100.7"),
        # A client in the proxies' own network.
        (PROXY, "10.0.0.7", "10.0.0.7"),
        # Without an address there is only the proxy's.
        (PROXY, "", PROXY),
        (PROXY, "unknown", PROXY),
        (PROXY, "198.51.100.7, _hidden", PROXY),
        (PROXY, "198.51.100.7, unknown, 10.0.0.2", "10.0.0.2"),
        # A client that is no proxy says what it likes.
        ("203.0.113.9", "198.51.100.7", "203.0.113.9"),
        ("203.0.113.9", "10.0.0.2", "203.0.113.9"),
        ("", "198.51.100.7", ""),
    ],
)
def test_trusted_proxies_say_whose_forwarded_address_counts(
    peer: str, forwarded: str, address: str, settings: Any
) -> None:
    settings.TRUSTED_PROXIES = ["10.0.0.0/24", "2001:db8:1::/48"]
    request = RequestFactory().get("/", REMOTE_ADDR=peer, HTTP_X_FORWARDED_FOR=forwarded)
    assert client_address(request) == address


@pytest.mark.parametrize("event", [HTTP_API, REST_API])
def test_on_lambda_the_gateways_event_counts_whatever_proxies_are_trusted(event: dict[str, Any], settings: Any) -> None:
    settings.TRUSTED_PROXIES = ["127.0.0.1/32", "198.51.100.0/24"]
    environment: dict[str, Any] = {
        "apig_wsgi.full_event": event,
        "HTTP_X_FORWARDED_FOR": "1.2.3.4",
        "REMOTE_ADDR": "127.0.0.1",
    }
    assert client_address(RequestFactory().get("/", **environment)) == "198.51.100.7"


def test_invalid_invitations_are_limited_as_other_failures_that_guess_nothing(tables: None, settings: Any) -> None:
    most = settings.SIGN_IN_ATTEMPTS_PER_ADDRESS * FAILURES_FACTOR
    for _ in range(most):
        invitation_failure_count(address=STRANGER)
    with pytest.raises(TooManyRequests):
        invitation_failure_count(address=STRANGER)
    invitation_failure_count(address="198.51.100.9")
