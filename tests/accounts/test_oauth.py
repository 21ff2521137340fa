"""Signing in with Google and GitHub, as a browser does it, against a provider over HTTP."""

import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
import requests

from apps.accounts.models import AccountClaim, Identity, OAuthState, Session, User, secret_hash
from apps.accounts.services import user_disable
from apps.accounts.session_store import SessionStore
from apps.audit.models import AuditRecord
from controlplane.lib import clock
from controlplane.lib.actor import SYSTEM
from tests.accounts.browser import Browser
from tests.accounts.provider import Person, Provider
from tests.conftest import PASSWORD, ada_create
from tests.metering import dynamodb_calls

pytestmark = pytest.mark.usefixtures("tables")

BOTH = pytest.mark.parametrize("name", ["google", "github"])


def failed(answer: requests.Response, status: int, code: str) -> str:
    """The page must report this failure."""
    assert answer.status_code == status, answer.text
    assert f'data-code="{code}"' in answer.text
    assert answer.headers["Content-Type"].startswith("text/html")
    return answer.text


def trail(action: str) -> list[AuditRecord]:
    return list(AuditRecord.scan(AuditRecord.action == action))


@BOTH
def test_who_comes_for_the_first_time_gets_an_account(name: str, browser: Browser, provider: Provider) -> None:
    answer = browser.sign_in_with(name)
    assert answer.status_code == 302
    assert answer.headers["Location"] == "/dashboard/"
    assert "Ada Lovelace" in browser.get("/dashboard/").text
    (user,) = User.scan()
    assert (user.email, user.name, user.role) == ("ada@example.com", "Ada Lovelace", "viewer")
    (identity,) = Identity.scan()
    assert (identity.identity, identity.user_id) == (f"{name}#1001", user.user_id)
    (session,) = Session.by_user.query(user.user_id)
    assert session.provider == name
    (made,) = trail("user.created")
    assert made.detail == {"email": "ada@example.com", "role": "viewer", "provider": name, "subject": "1001"}
    assert [record.actor_id for record in trail("user.signed_in")] == [user.user_id]


@BOTH
def test_who_comes_again_has_the_same_account_whatever_else_has_changed(
    name: str, browsers: Callable[[], Browser], provider: Provider
) -> None:
    browsers().sign_in_with(name)
    provider.person = Person(email="lovelace@example.com", name="Countess")
    again = browsers()
    assert again.sign_in_with(name).status_code == 302
    assert again.signed_in
    (user,) = User.scan()
    assert (user.email, user.name) == ("ada@example.com", "Ada Lovelace")


@BOTH
def test_nothing_of_the_providers_tokens_is_kept(name: str, browser: Browser, provider: Provider) -> None:
    browser.sign_in_with(name)
    (session,) = Session.scan()
    kept = str([SessionStore().decode(session.data), *(row.to_simple_dict() for row in Identity.scan())])
    assert provider.tokens
    for token in provider.tokens:
        assert token not in kept


@BOTH
def test_the_way_there_carries_a_state_and_a_challenge(name: str, browser: Browser, provider: Provider) -> None:
    address = urlsplit(browser.go_to(name))
    query = {key: values[0] for key, values in parse_qs(address.query).items()}
    assert query["redirect_uri"] == f"{browser.server}/oauth/{name}/complete"
    assert len(query["state"]) >= 32
    assert query["code_challenge_method"] == "S256"
    assert len(query["code_challenge"]) == 43


def test_organisations_are_asked_for_only_where_some_may_come_in(
    browsers: Callable[[], Browser], provider: Provider, settings: Any
) -> None:
    assert "read:org" not in browsers().go_to("github")
    settings.ALLOWED_GITHUB_ORGS = {"acme": "operator"}
    assert "read:org" in browsers().go_to("github")


def test_the_page_to_go_on_to_is_kept_on_the_way(browser: Browser, provider: Provider) -> None:
    assert browser.sign_in_with("google", next="/dashboard/jobs").headers["Location"] == "/dashboard/jobs"


def test_no_other_site_is_gone_on_to(browser: Browser, provider: Provider) -> None:
    assert browser.sign_in_with("google", next="//evil.example/").headers["Location"] == "/dashboard/"


def test_one_can_ask_the_provider_to_be_asked_who_one_is(browser: Browser, provider: Provider) -> None:
    assert "prompt=" not in browser.go_to("google")
    assert "prompt=select_account" in browser.go_to("google", choose="account")


def test_signing_in_is_not_begun_by_a_link_or_another_site(browser: Browser, provider: Provider) -> None:
    assert browser.get("/oauth/google/start").status_code == 405
    assert browser.post("/oauth/google/start").status_code == 403


def test_the_session_is_a_new_one_without_data_of_the_old(browser: Browser, provider: Provider) -> None:
    back = browser.agree(browser.go_to("google"))
    before = browser.cookie
    browser.get(back)
    assert browser.cookie != before
    (session,) = Session.scan()
    assert session.token_hash == secret_hash(browser.cookie)
    assert set(SessionStore().decode(session.data)) == {
        "_auth_user_id",
        "_auth_user_backend",
        "_auth_user_hash",
        "_sign_in",
    }


def test_a_planted_session_is_not_the_one_that_is_signed_in(browser: Browser, provider: Provider) -> None:
    thief = Browser(browser.server)
    thief.go_to("google")
    browser.session.cookies.set("sessionid", thief.cookie)
    browser.sign_in_with("google")
    assert browser.signed_in
    assert not thief.signed_in


# --- what can go wrong on the way -----------------------------------------------------------------------------------


@BOTH
def test_a_user_who_declines_at_the_provider_gets_a_message(name: str, browser: Browser, provider: Provider) -> None:
    provider.denies = True
    page = failed(browser.sign_in_with(name), 403, "oauth_denied")
    assert "again" in page
    assert not browser.signed_in


def test_a_state_is_good_once(browser: Browser, provider: Provider) -> None:
    back = browser.agree(browser.go_to("google"))
    planted = browser.cookie
    assert browser.get(back).status_code == 302
    # Even with the session of before.
    again = Browser(browser.server)
    again.session.cookies.set("sessionid", planted)
    failed(again.get(back), 400, "oauth_state")
    failed(browser.get(back), 400, "oauth_state")
    assert list(OAuthState.scan()) == []


def test_of_eight_returns_at_once_with_one_state_one_is_let_in(browser: Browser, provider: Provider) -> None:
    back = browser.agree(browser.go_to("google"))
    cookie = browser.cookie

    def come_back(_: int) -> int:
        other = Browser(browser.server)
        other.session.cookies.set("sessionid", cookie)
        return other.get(back).status_code

    with ThreadPoolExecutor(8) as pool:
        assert sorted(pool.map(come_back, range(8))) == [302] + [400] * 7
    assert len(list(Session.scan())) == 1


def test_a_return_without_a_state_is_refused(browser: Browser, provider: Provider) -> None:
    failed(browser.get("/oauth/google/complete?code=x"), 400, "oauth_state")
    failed(browser.get("/oauth/google/complete"), 400, "oauth_state")
    browser.go_to("google")
    failed(browser.get("/oauth/google/complete?code=x&state=" + "y" * 32), 400, "oauth_state")


def test_a_return_that_was_begun_in_another_browser_is_refused(
    browser: Browser, browsers: Callable[[], Browser], provider: Provider
) -> None:
    """Otherwise a victim could be signed in to the attacker's account."""
    back = browser.agree(browser.go_to("google"))
    victim = browsers()
    victim.go_to("google")
    failed(victim.get(back), 400, "oauth_state")
    assert not victim.signed_in
    assert browser.get(back).status_code == 302


def test_another_sessions_code_is_not_taken(
    browser: Browser, browsers: Callable[[], Browser], provider: Provider
) -> None:
    """The attacker puts a code of their own under the victim's state, or the victim's under theirs: PKCE refuses it."""
    provider.person = Person(subject="2002", email="eve@example.com")
    eve = parse_qs(urlsplit(browsers().agree(browsers().go_to("google"))).query)["code"][0]
    own = parse_qs(urlsplit(browser.agree(browser.go_to("google"))).query)["state"][0]
    failed(browser.get(f"/oauth/google/complete?code={eve}&state={own}"), 400, "oauth_code")
    assert not browser.signed_in
    assert list(User.scan()) == []


def test_a_state_of_one_provider_is_none_of_the_other(browser: Browser, provider: Provider) -> None:
    back = browser.agree(browser.go_to("google"))
    failed(browser.get(back.replace("google", "github")), 400, "oauth_state")


def test_a_state_of_an_hour_ago_is_refused(browser: Browser, provider: Provider) -> None:
    back = browser.agree(browser.go_to("google"))
    with clock.shifted(timedelta(hours=1, seconds=1)):
        failed(browser.get(back), 400, "oauth_state")


@BOTH
@pytest.mark.parametrize("status", [500, 503, 429])
def test_an_outage_of_the_provider_is_reported_as_one(
    name: str, status: int, browser: Browser, provider: Provider
) -> None:
    back = browser.agree(browser.go_to(name))
    provider.status = status
    answer = browser.get(back)
    failed(answer, 503, "provider_unavailable")
    assert answer.headers["Retry-After"]


def test_an_unreachable_provider_is_reported(browser: Browser, provider: Provider, settings: Any) -> None:
    back = browser.agree(browser.go_to("google"))
    settings.GOOGLE_TOKEN_URL = "http://127.0.0.1:1"
    failed(browser.get(back), 503, "provider_unavailable")


def test_credentials_that_the_provider_refuses_are_not_the_visitors_fault(
    browser: Browser, provider: Provider, settings: Any
) -> None:
    back = browser.agree(browser.go_to("google"))
    settings.GOOGLE_CLIENT_SECRET = "an old one"
    failed(browser.get(back), 502, "provider_refused")


def test_an_answer_without_an_id_is_no_identity(browser: Browser, provider: Provider) -> None:
    provider.person = Person(subject="")
    failed(browser.sign_in_with("github"), 502, "provider_answer")
    assert list(User.scan()) == []


@pytest.mark.parametrize("path", ["/oauth/gitlab/complete", "/oauth/google/complete"])
def test_a_provider_that_is_not_configured_is_not_there(path: str, browser: Browser) -> None:
    assert browser.get(path).status_code == 404


# RFC 6749's errors of a callback and of an exchange, GitHub's, and what a stranger makes up.
ERRORS = [
    "access_denied",
    "invalid_client",
    "invalid_grant",
    "invalid_request",
    "invalid_scope",
    "redirect_uri_mismatch",
    "server_error",
    "temporarily_unavailable",
    "unauthorized_client",
    "x" * 3000,
    "\r\nERROR planted by a stranger",
    "\x00",
    "😀",
]


def no_errors(caplog: pytest.LogCaptureFixture) -> None:
    """The log has no line that calls an operator, and none with a line break of a stranger's."""
    assert [record.getMessage() for record in caplog.records if record.levelno >= logging.ERROR] == []
    assert not any("\n" in record.getMessage() for record in caplog.records)


@BOTH
@pytest.mark.parametrize("error", ERRORS)
def test_a_strangers_return_with_an_error_is_a_4xx_and_no_error_line(
    name: str, error: str, browser: Browser, provider: Provider, caplog: pytest.LogCaptureFixture
) -> None:
    with dynamodb_calls() as counted:
        for query in (
            {"error": error},
            {"error": error, "error_description": error, "code": "x"},
            {"error": error, "state": "y" * 32},
            {"error": error, "state": error},
            {"denied": "1"},
        ):
            failed(browser.get(f"/oauth/{name}/complete", params=query), 400, "oauth_state")
    # Counted, and nothing else is written.
    assert counted.operations == ["UpdateItem"] * 5
    # With a state of their own, too.
    state = parse_qs(urlsplit(browser.go_to(name)).query)["state"][0]
    answer = browser.get(f"/oauth/{name}/complete", params={"error": error, "state": state})
    if error == "access_denied":
        failed(answer, 403, "oauth_denied")
    else:
        assert error not in failed(answer, 400, "provider_refused")
    failed(browser.get(f"/oauth/{name}/complete", params={"error": error, "state": state}), 400, "oauth_state")
    no_errors(caplog)


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE", "OPTIONS"])
def test_a_return_by_another_method_is_a_4xx_and_no_error_line(
    method: str, browser: Browser, provider: Provider, caplog: pytest.LogCaptureFixture
) -> None:
    assert browser.request(method, "/oauth/google/complete?error=invalid_client").status_code in {403, 405}
    no_errors(caplog)


@BOTH
def test_a_return_without_a_code_is_not_taken_to_the_provider(
    name: str, browser: Browser, provider: Provider, caplog: pytest.LogCaptureFixture
) -> None:
    state = parse_qs(urlsplit(browser.go_to(name)).query)["state"][0]
    failed(browser.get(f"/oauth/{name}/complete?state={state}"), 400, "oauth_code")
    assert provider.asked == []
    no_errors(caplog)


@BOTH
@pytest.mark.parametrize(("error", "status"), [("invalid_request", 400), ("redirect_uri_mismatch", 200), ("odd", 404)])
def test_a_code_that_makes_our_own_request_malformed_is_the_browsers_fault(
    name: str, error: str, status: int, browser: Browser, provider: Provider, caplog: pytest.LogCaptureFixture
) -> None:
    back = browser.agree(browser.go_to(name))
    provider.exchange_error = (error, status)
    failed(browser.get(back), 400, "oauth_code")
    no_errors(caplog)


@BOTH
@pytest.mark.parametrize(
    ("error", "status"), [("invalid_client", 401), ("unauthorized_client", 400), ("incorrect_client_credentials", 200)]
)
def test_credentials_that_the_provider_refuses_call_an_operator(
    name: str, error: str, status: int, browser: Browser, provider: Provider, caplog: pytest.LogCaptureFixture
) -> None:
    back = browser.agree(browser.go_to(name))
    provider.exchange_error = (error, status)
    failed(browser.get(back), 502, "provider_refused")
    assert [record.levelname for record in caplog.records if record.name == "apps.accounts.oauth.flow"] == ["ERROR"]


# --- who may sign in ------------------------------------------------------------------------------------------------


def test_a_user_who_is_not_allowed_cannot_sign_in(browser: Browser, provider: Provider) -> None:
    provider.person = Person(email="eve@evil.example")
    failed(browser.sign_in_with("google"), 403, "not_allowed")
    assert not browser.signed_in
    assert list(User.scan()) == []
    (record,) = trail("user.sign_in_failed")
    assert (record.target, record.result) == ("email:eve@evil.example", "refused")
    assert record.detail["reason"] == "not_allowed"


@pytest.mark.parametrize("email", ["ada@sub.example.com", "ada@example.com.evil.example", "example.com@evil.example"])
def test_a_domain_is_that_very_domain(email: str, browser: Browser, provider: Provider) -> None:
    provider.person = Person(email=email)
    failed(browser.sign_in_with("google"), 403, "not_allowed")


@pytest.mark.parametrize("hosted_domain", ["", "evil.example", "sub.example.com"])
def test_google_sign_in_by_domain_demands_hd(hosted_domain: str, browser: Browser, provider: Provider) -> None:
    """A private account at Google may have a verified address of any domain."""
    provider.person = Person(hosted_domain=hosted_domain)
    failed(browser.sign_in_with("google"), 403, "not_allowed")
    assert list(User.scan()) == []


def test_the_hosted_domain_must_be_the_addresses_domain(browser: Browser, provider: Provider) -> None:
    """The Workspace of one allowed domain does not vouch for addresses of another one."""
    provider.person = Person(email="eve@elsewhere.example", hosted_domain="example.com")
    failed(browser.sign_in_with("google"), 403, "not_allowed")


@pytest.mark.parametrize("hosted_domain", ["example.com", "Example.COM"])
def test_the_domain_of_the_workspace_opens(hosted_domain: str, browser: Browser, provider: Provider) -> None:
    provider.person = Person(hosted_domain=hosted_domain)
    assert browser.sign_in_with("google").status_code == 302


def test_an_allowed_address_needs_no_hosted_domain(browser: Browser, provider: Provider, settings: Any) -> None:
    settings.ALLOWED_ADDRESSES = {"ada@example.com": "admin"}
    provider.person = Person(hosted_domain="")
    assert browser.sign_in_with("google").status_code == 302


def test_github_sign_in_by_domain_needs_no_hd(browser: Browser, provider: Provider) -> None:
    provider.person = Person(hosted_domain="")
    assert browser.sign_in_with("github").status_code == 302


@pytest.mark.parametrize("status", [403, 404])
def test_a_sign_in_without_a_scope_that_the_user_has_taken_away_says_so(
    status: int, browser: Browser, provider: Provider
) -> None:
    provider.person = Person(scopes=frozenset(), without_scope=status)
    assert "user:email" in failed(browser.sign_in_with("github"), 403, "provider_scope_missing")


@BOTH
def test_an_address_that_is_not_verified_opens_nothing(name: str, browser: Browser, provider: Provider) -> None:
    provider.person = Person(verified=False)
    failed(browser.sign_in_with(name), 403, "not_allowed")


def test_who_comes_by_an_organisation_without_a_verified_address_gets_no_account(
    browser: Browser, provider: Provider, settings: Any
) -> None:
    settings.ALLOWED_GITHUB_ORGS = {"acme": "operator"}
    provider.person = Person(verified=False, organisations=[{"login": "acme", "id": 7}])
    failed(browser.sign_in_with("github"), 403, "email_unverified")


@pytest.mark.parametrize("named", ["acme", "7"])
def test_members_of_an_organisation_come_in_with_its_role(
    named: str, browser: Browser, provider: Provider, settings: Any
) -> None:
    settings.ALLOWED_GITHUB_ORGS = {named: "operator"}
    provider.person = Person(email="ada@home.example", organisations=[{"login": "Acme", "id": 7}])
    assert browser.sign_in_with("github").status_code == 302
    (user,) = User.scan()
    assert user.role == "operator"


def test_an_address_counts_before_an_organisation_and_a_domain(
    browser: Browser, provider: Provider, settings: Any
) -> None:
    settings.ALLOWED_ADDRESSES = {"ada@example.com": "admin"}
    settings.ALLOWED_GITHUB_ORGS = {"acme": "operator"}
    provider.person = Person(email="Ada@Example.com", organisations=[{"login": "acme", "id": 7}])
    browser.sign_in_with("github")
    (user,) = User.scan()
    assert user.role == "admin"


def test_who_has_left_the_organisation_stays_out_and_who_was_given_a_role_keeps_it(
    browsers: Callable[[], Browser], provider: Provider, settings: Any
) -> None:
    settings.ALLOWED_GITHUB_ORGS, settings.ALLOWED_DOMAINS = {"acme": "operator"}, {}
    provider.person = Person(organisations=[{"login": "acme", "id": 7}])
    browsers().sign_in_with("github")
    (user,) = User.scan()
    user.update(actions=[User.role.set("auditor")])
    browsers().sign_in_with("github")
    user.refresh(consistent_read=True)
    assert user.role == "auditor"
    provider.person = Person()
    failed(browsers().sign_in_with("github"), 403, "not_allowed")


@BOTH
def test_an_account_is_never_found_by_an_address(name: str, browser: Browser, provider: Provider) -> None:
    existing = ada_create("admin")
    failed(browser.sign_in_with(name), 409, "email_taken")
    assert not browser.signed_in
    assert [user.user_id for user in User.scan()] == [existing.user_id]
    assert list(Identity.scan()) == []


def test_the_same_number_at_another_provider_is_another_user(
    browsers: Callable[[], Browser], provider: Provider
) -> None:
    browsers().sign_in_with("google")
    provider.person = Person(email="grace@example.com")
    browsers().sign_in_with("github")
    assert len(list(User.scan())) == 2


def test_a_disabled_user_gets_a_message(browsers: Callable[[], Browser], provider: Provider) -> None:
    first, again = browsers(), browsers()
    first.sign_in_with("google")
    (user,) = User.scan()
    user_disable(user_id=user.user_id, actor=SYSTEM)
    failed(again.sign_in_with("google"), 403, "account_disabled")
    # Signing in enables no account again.
    user.refresh(consistent_read=True)
    assert not user.is_active
    assert not first.signed_in
    assert not again.signed_in


def test_eight_first_visits_at_once_make_one_account(browsers: Callable[[], Browser], provider: Provider) -> None:
    ways = [(browser := browsers(), browser.agree(browser.go_to("google"))) for _ in range(8)]
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda way: way[0].get(way[1]).status_code, ways))
    assert answers == [302] * 8
    (user,) = User.scan()
    assert [claim.user_id for claim in AccountClaim.scan()] == [user.user_id]
    assert len(trail("user.created")) == 1


def test_eight_strangers_at_once_who_claim_one_address_make_one_account(
    browsers: Callable[[], Browser], provider: Provider
) -> None:
    ways = []
    for number in range(8):
        provider.person = Person(subject=str(3000 + number))
        browser = browsers()
        ways.append((browser, browser.agree(browser.go_to("google"))))
    with ThreadPoolExecutor(8) as pool:
        answers = sorted(pool.map(lambda way: way[0].get(way[1]).status_code, ways))
    assert answers == [302] + [409] * 7
    assert len(list(User.scan())) == len(list(Identity.scan())) == 1


@pytest.mark.parametrize("name", ["", "  ", "\x00\n", "x" * 500])
def test_any_name_from_a_provider_is_made_a_valid_one(name: str, browser: Browser, provider: Provider) -> None:
    provider.person = Person(name=name)
    assert browser.sign_in_with("google").status_code == 302
    (user,) = User.scan()
    assert 1 <= len(user.name) <= 100


# --- the sign-in page -----------------------------------------------------------------------------------------------


def test_the_page_offers_what_there_is(browser: Browser, provider: Provider, settings: Any) -> None:
    page = browser.get("/signin").text
    assert "Sign in with Google" in page
    assert "Sign in with GitHub" in page
    assert 'name="password"' in page
    settings.PASSWORD_SIGN_IN, settings.GITHUB_CLIENT_ID = False, ""
    page = browser.get("/signin").text
    assert "Sign in with Google" in page
    assert "Sign in with GitHub" not in page
    assert 'name="password"' not in page


def test_the_browser_lets_the_page_send_forms_on_to_the_providers(browser: Browser, provider: Provider) -> None:
    assert f"form-action 'self' {provider.url}" in browser.get("/signin").headers["Content-Security-Policy"]


def test_where_passwords_are_off_none_is_looked_at(
    ada: User, browser: Browser, provider: Provider, settings: Any
) -> None:
    settings.PASSWORD_SIGN_IN = False
    assert browser.send("/signin", email="ada@example.com", password=PASSWORD).status_code == 403
    assert not browser.signed_in
