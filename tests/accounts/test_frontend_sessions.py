"""What a separate frontend does: make a session of a provider's token, use it as a bearer, ask about it, end it."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from typing import Any

import pytest
import requests
from django.conf import settings as django_settings

from apps.accounts.models import Session, User, secret_hash
from apps.accounts.services import session_start, sessions_end, user_disable
from apps.audit.models import AuditRecord
from controlplane.lib import clock
from controlplane.lib.actor import SYSTEM, Actor
from tests.accounts.browser import Browser
from tests.accounts.provider import Person, Provider
from tests.clients import Client, problem
from tests.metering import dynamodb_calls

BOTH = pytest.mark.parametrize("name", ["google", "github"])
ORIGIN = "https://app.example.com"


def make(client: Client, provider: str, token: Any, user_id: str = "1001", **more: Any) -> requests.Response:
    body = {"user_id": user_id, "provider": provider, "oauth_tokens": {"access_token": token}, "user_info": {}, **more}
    return client.post("/auth/session", json=body)


def validate(client: Client, session_id: str) -> Any:
    answer = client.post("/auth/validate", json={"session_id": session_id})
    assert answer.status_code == 200
    return answer.json()


NOTHING = {"valid": False, "user_id": None, "provider": None, "expires_at": None}


@pytest.fixture
def token(ada: User) -> str:
    """The token of a session of Ada's."""
    return session_start(user=ada, provider="google", device=None, address="", subject="1001").token


@BOTH
def test_a_session_is_made_of_the_providers_token(name: str, outsider: Client, provider: Provider) -> None:
    answer = make(outsider, name, provider.token())
    assert answer.status_code == 200
    body = answer.json()
    assert set(body) == {"session_id", "user_id", "provider", "created_at", "expires_at"}
    assert (body["user_id"], body["provider"]) == ("1001", name)
    lasts = datetime.fromisoformat(body["expires_at"]) - datetime.fromisoformat(body["created_at"])
    assert timedelta(minutes=59) < lasts <= timedelta(hours=1)
    assert "Set-Cookie" not in answer.headers
    assert validate(outsider, body["session_id"]) == {
        "valid": True,
        "user_id": "1001",
        "provider": name,
        "expires_at": body["expires_at"],
    }


@BOTH
def test_the_browser_and_the_frontend_come_to_the_same_account(
    name: str, outsider: Client, browser: Browser, provider: Provider
) -> None:
    browser.sign_in_with(name)
    make(outsider, name, provider.token())
    (user,) = User.scan()
    assert len(list(Session.by_user.query(user.user_id))) == 2


@BOTH
def test_who_is_not_who_the_provider_says_is_refused(name: str, outsider: Client, provider: Provider) -> None:
    problem(make(outsider, name, provider.token(), user_id="1002"), 403, "user_mismatch")
    assert list(User.scan()) == []
    assert list(Session.scan()) == []


@BOTH
def test_a_token_that_was_given_to_another_application_opens_nothing(
    name: str, outsider: Client, provider: Provider
) -> None:
    """Any application with sign-in by the same provider has such tokens of its users."""
    problem(make(outsider, name, provider.token(client_id="another")), 401, "provider_token_invalid")
    assert list(User.scan()) == []


@BOTH
def test_a_token_that_the_provider_does_not_know_opens_nothing(name: str, outsider: Client, provider: Provider) -> None:
    problem(make(outsider, name, "made-up"), 401, "provider_token_invalid")


def refusals() -> list[dict[str, Any]]:
    """What the audit trail says of refused sign-ins."""
    records = sorted(AuditRecord.scan(AuditRecord.action == "user.sign_in_failed"), key=lambda record: record.entry)
    assert {(record.result, record.actor_id) for record in records} <= {("refused", "unknown")}
    return [{"target": record.target, **record.detail} for record in records]


@BOTH
def test_refused_token_confusion_is_recorded(name: str, outsider: Client, provider: Provider) -> None:
    """A token that was issued to another application, and one of another user than the body says."""
    make(outsider, name, provider.token(client_id="another"))
    unknown = {"target": "email:unknown", "provider": name, "address": "127.0.0.1"}
    assert refusals() == [{**unknown, "reason": "provider_token_invalid", "claimed": "1001"}]
    make(outsider, name, provider.token(), user_id="1002")
    assert refusals()[1:] == [
        {
            "target": "email:ada@example.com",
            "provider": name,
            "address": "127.0.0.1",
            "reason": "user_mismatch",
            "subject": "1001",
            "claimed": "1002",
        }
    ]


def test_what_a_stranger_claims_to_be_is_recorded_as_a_claim_only(outsider: Client, provider: Provider) -> None:
    problem(make(outsider, "google", "made-up", user_id="ada@example.com" + "😀" * 80), 401, "provider_token_invalid")
    (refusal,) = refusals()
    assert refusal["target"] == "email:unknown"
    assert refusal["claimed"].startswith("ada@example.com😀")


@pytest.mark.parametrize("status", [403, 404])
def test_a_github_token_without_user_email_is_told_so(status: int, outsider: Client, provider: Provider) -> None:
    provider.person = Person(scopes=frozenset(), without_scope=status)
    body = problem(make(outsider, "github", provider.token()), 403, "provider_scope_missing")
    assert "user:email" in body["detail"]
    assert [refusal["reason"] for refusal in refusals()] == ["provider_scope_missing"]


def test_a_github_token_without_read_org_is_told_so_where_organisations_count(
    outsider: Client, provider: Provider, settings: Any
) -> None:
    settings.ALLOWED_GITHUB_ORGS = {"acme": "operator"}
    provider.person = Person(scopes=frozenset({"user:email"}), without_scope=403)
    assert "read:org" in problem(make(outsider, "github", provider.token()), 403, "provider_scope_missing")["detail"]


@pytest.mark.parametrize("headers", [{"Retry-After": "60"}, {"X-RateLimit-Remaining": "0"}])
def test_githubs_own_rate_limit_is_no_missing_scope(
    headers: dict[str, str], outsider: Client, provider: Provider
) -> None:
    provider.person, provider.headers = Person(scopes=frozenset(), without_scope=403), headers
    problem(make(outsider, "github", provider.token()), 503, "provider_unavailable")
    assert refusals() == []


def test_google_sign_in_by_domain_demands_hd(outsider: Client, provider: Provider) -> None:
    provider.person = Person(hosted_domain="")
    problem(make(outsider, "google", provider.token()), 403, "not_allowed")


@BOTH
def test_a_token_that_is_revoked_at_this_moment_opens_nothing(name: str, outsider: Client, provider: Provider) -> None:
    provider.revokes = True
    problem(make(outsider, name, provider.token()), 401, "provider_token_invalid")


def test_what_the_frontend_says_of_the_person_is_not_believed(outsider: Client, provider: Provider) -> None:
    make(outsider, "google", provider.token(), user_info={"email": "root@example.com", "name": "Root"})
    (user,) = User.scan()
    assert (user.email, user.name) == ("ada@example.com", "Ada Lovelace")


@BOTH
def test_the_session_keeps_user_info_for_its_user(
    name: str, outsider: Client, server: str, browser: Browser, provider: Provider
) -> None:
    given = {"email": "root@example.com", "name": "Root", "picture": "https://evil.example/x.png"}
    made = make(outsider, name, provider.token(), user_info=given).json()
    ada = {"email": "ada@example.com", "name": "Ada Lovelace", "picture": provider.person.picture}
    frontend = Client(server, made.pop("session_id"))
    assert frontend.get("/auth/session").json() == {**made, "user_info": ada}
    # Saving what a page keeps in the session does not lose it.
    browser.sign_in_with(name)
    browser.get("/signin")
    assert browser.get("/auth/session").json()["user_info"] == ada


@pytest.mark.parametrize("picture", [None, 7, "http://plain.example/a.png", "javascript:alert(1)", "https://x" * 200])
def test_a_picture_that_pages_cannot_show_is_left_out(picture: Any, outsider: Client, provider: Provider) -> None:
    provider.person.picture = picture
    session = make(outsider, "github", provider.token()).json()["session_id"]
    info = Client(outsider.server, session).get("/auth/session").json()["user_info"]
    assert info == {"email": "ada@example.com", "name": "Ada Lovelace", "picture": None}


def test_a_password_session_has_what_the_account_says(ada: User, browser: Browser) -> None:
    browser.sign_in()
    assert browser.get("/auth/session").json()["user_info"] == {
        "email": "ada@example.com",
        "name": "Ada",
        "picture": None,
    }


def test_a_session_of_an_earlier_version_has_no_user_info(token: str, server: str) -> None:
    Session(secret_hash(token)).update(actions=[Session.user_info.remove()])
    shown = Client(server, token).get("/auth/session").json()
    assert (shown["user_id"], shown["user_info"]) == ("1001", None)


def test_a_user_who_is_not_allowed_gets_no_session(outsider: Client, provider: Provider) -> None:
    provider.person = Person(email="eve@evil.example")
    problem(make(outsider, "google", provider.token()), 403, "not_allowed")


def test_an_address_that_is_taken_gets_no_session(ada: User, outsider: Client, provider: Provider) -> None:
    problem(make(outsider, "google", provider.token()), 409, "email_taken")


def test_an_outage_of_the_provider_is_reported_as_one(outsider: Client, provider: Provider) -> None:
    provider.status = 503
    assert problem(make(outsider, "google", provider.token()), 503, "provider_unavailable")


def test_a_provider_that_is_not_configured_is_a_mistake(outsider: Client) -> None:
    problem(make(outsider, "google", "x"), 400, "provider_unknown")


@pytest.mark.parametrize("token", [None, "", 5, "a b", "a\r\nX: y", "ä", "x" * 5000, {"a": 1}])
def test_what_can_be_no_token_is_not_sent_to_the_provider(token: Any, outsider: Client, provider: Provider) -> None:
    problem(make(outsider, "google", token), 400, "invalid_input")
    assert provider.asked == []


@pytest.mark.parametrize(
    "body",
    [
        {},
        [],
        {"user_id": 5, "provider": "google", "oauth_tokens": {}},
        {"user_id": "5", "provider": "x", "oauth_tokens": {}},
        {"user_id": "5", "provider": "google", "oauth_tokens": []},
    ],
)
def test_a_body_that_is_not_as_described_is_refused(body: Any, outsider: Client) -> None:
    assert outsider.post("/auth/session", json=body).status_code == 400


# --- as a bearer ----------------------------------------------------------------------------------------------------


def test_the_session_is_a_bearer_for_every_endpoint(token: str, ada: User, server: str) -> None:
    frontend = Client(server, token)
    assert frontend.get("/jobs").status_code == 200
    assert frontend.post("/jobs", json={"git_ref": "main", "pipeline": "nothing"}).status_code != 403
    assert frontend.get("/auth/devices").status_code == 200


def test_a_bearer_costs_one_call(token: str, server: str) -> None:
    frontend = Client(server, token)
    with dynamodb_calls() as counted:
        frontend.get("/agents")
    assert counted.operations[0] == "BatchGetItem"
    assert "GetItem" not in counted.operations[:2]


@pytest.mark.parametrize("wrong", ["x", "a" * 32, "a" * 32 + "." + "0" * 26, "hcp_" + "a" * 43])
def test_an_unknown_bearer_token_is_refused(wrong: str, server: str) -> None:
    assert Client(server, wrong).get("/jobs").status_code == 401


def test_neither_the_hash_nor_the_devices_id_is_a_bearer(token: str, server: str) -> None:
    (row,) = Session.scan()
    for wrong in (row.token_hash, row.device_id, f"{'a' * 32}.{row.user_id}"):
        assert Client(server, wrong).get("/jobs").status_code == 401


def test_the_random_part_of_one_with_the_name_of_another_is_nothing(token: str, server: str) -> None:
    assert Client(server, f"{token.partition('.')[0]}.{'0' * 26}").get("/jobs").status_code == 401
    assert Client(server, token.partition(".")[0]).get("/jobs").status_code == 401


def test_use_keeps_a_session_and_asking_about_it_does_not(token: str, server: str) -> None:
    frontend = Client(server, token)
    with clock.shifted(timedelta(minutes=50)):
        assert validate(frontend, token)["valid"]
    with clock.shifted(timedelta(minutes=61)):
        assert validate(frontend, token) == NOTHING
        assert frontend.get("/jobs").status_code == 401
    with clock.shifted(timedelta(minutes=50)):
        assert frontend.get("/jobs").status_code == 200
    with clock.shifted(timedelta(minutes=100)):
        assert validate(frontend, token)["valid"]


def test_no_use_keeps_a_session_beyond_twelve_hours(token: str, server: str) -> None:
    frontend = Client(server, token)
    for minutes in range(50, 12 * 60, 50):
        with clock.shifted(timedelta(minutes=minutes)):
            assert frontend.get("/jobs").status_code == 200
    with clock.shifted(timedelta(hours=12, seconds=1)):
        assert frontend.get("/jobs").status_code == 401


# --- asking ---------------------------------------------------------------------------------------------------------


def test_validating_costs_one_call_and_no_write(token: str, outsider: Client) -> None:
    for minutes in (0, 30):
        with clock.shifted(timedelta(minutes=minutes)), dynamodb_calls() as counted:
            assert validate(outsider, token)["valid"]
        assert (counted.calls, counted.write_units) == (1, 0)


@pytest.mark.parametrize("store", ["dynamodb", "memory"])
def test_an_unknown_or_ended_session_is_reported_as_invalid(
    store: str, ada: User, outsider: Client, settings: Any
) -> None:
    settings.SESSION_STORE = store
    started = session_start(user=ada, provider="google", device=None, address="")
    assert validate(outsider, started.token)["user_id"] == ada.user_id
    with dynamodb_calls() as counted:
        assert validate(outsider, "a" * 32) == NOTHING
        assert validate(outsider, "ä" * 150) == NOTHING
    assert counted.calls <= 1
    user_disable(user_id=ada.user_id, actor=SYSTEM)
    assert validate(outsider, started.token) == NOTHING


@pytest.mark.parametrize("body", [{}, [], {"session_id": 5}, {"session_id": ""}, {"session_id": "x" * 300}, {"x": 1}])
def test_a_question_that_is_none_is_refused(body: Any, outsider: Client) -> None:
    problem(outsider.post("/auth/validate", json=body), 400, outsider.post("/auth/validate", json=body).json()["code"])


def test_a_mistyped_member_is_named_with_the_one_that_was_meant(outsider: Client) -> None:
    body = problem(outsider.post("/auth/validate", json={"session": "x"}), 400, "invalid_input")
    (error,) = body["errors"]
    assert (error["field"], error["message"]) == (
        "session",
        "must not be given; did you mean session_id?",
    )


def test_a_question_that_does_not_call_itself_json_is_refused(outsider: Client) -> None:
    answer = outsider.post("/auth/validate", data='{"session_id": "x"}', headers={"Content-Type": "text/plain"})
    problem(answer, 415, "unsupported_media_type")


def test_asking_by_another_method_is_refused(outsider: Client) -> None:
    answer = outsider.get("/auth/validate")
    problem(answer, 405, "method_not_allowed")
    assert "POST" in answer.headers["Allow"]


def test_a_session_of_a_browser_can_be_asked_about_too(ada: User, browser: Browser) -> None:
    browser.sign_in()
    answer = validate(browser, browser.cookie)
    assert (answer["user_id"], answer["provider"]) == (ada.user_id, "password")


# --- ending ---------------------------------------------------------------------------------------------------------


def test_logging_out_ends_the_session_and_is_recorded_once(token: str, ada: User, server: str) -> None:
    frontend = Client(server)
    for _ in range(3):
        answer = frontend.post(f"/auth/logout?session_id={token}")
        assert (answer.status_code, answer.json()) == (200, {"status": "logged out"})
    assert validate(frontend, token) == NOTHING
    assert Client(server, token).get("/jobs").status_code == 401
    (record,) = AuditRecord.scan(AuditRecord.action == "user.signed_out")
    assert record.actor_id == ada.user_id


def test_logging_out_takes_a_body_too(token: str, server: str) -> None:
    frontend = Client(server)
    both = frontend.post(f"/auth/logout?session_id={token}", json={"session_id": token})
    assert "not in both" in problem(both, 400, "invalid_input")["detail"]
    assert validate(frontend, token)["valid"]
    answer = frontend.post("/auth/logout", json={"session_id": token})
    assert (answer.status_code, answer.json()) == (200, {"status": "logged out"})
    assert validate(frontend, token) == NOTHING


@pytest.mark.parametrize("body", [{}, {"session": "x"}, {"session_id": 7}])
def test_a_body_that_names_no_session_is_a_mistake(body: Any, outsider: Client) -> None:
    problem(outsider.post("/auth/logout", json=body), 400, "invalid_input")


@pytest.mark.parametrize("session_id", ["x", "a" * 32, "ä"])
def test_a_session_that_never_was_is_logged_out_alike(session_id: str, outsider: Client) -> None:
    answer = outsider.post(f"/auth/logout?session_id={session_id}")
    assert (answer.status_code, answer.json()) == (200, {"status": "logged out"})


def test_logging_out_of_nothing_is_a_mistake(outsider: Client) -> None:
    problem(outsider.post("/auth/logout"), 400, "invalid_input")


def test_logging_out_lasts_although_other_requests_run_at_the_same_time(token: str, server: str) -> None:
    def act(number: int) -> int:
        if number == 4:
            return Client(server).post(f"/auth/logout?session_id={token}").status_code
        return Client(server, token).get("/jobs").status_code

    # Late enough for each request to note its use as well.
    with clock.shifted(timedelta(minutes=5)), ThreadPoolExecutor(8) as pool:
        assert set(pool.map(act, range(8))) <= {200, 401}
    assert list(Session.scan()) == []
    assert Client(server, token).get("/jobs").status_code == 401


def test_eight_who_log_out_at_once_end_it_once(token: str, server: str) -> None:
    with ThreadPoolExecutor(8) as pool:
        answers = pool.map(lambda _: Client(server).post(f"/auth/logout?session_id={token}").status_code, range(8))
        assert set(answers) == {200}
    assert len(list(AuditRecord.scan(AuditRecord.action == "user.signed_out"))) == 1


@pytest.mark.parametrize("store", ["dynamodb", "memory"])
def test_logging_out_everywhere_ends_all_sessions_at_once(store: str, ada: User, server: str, settings: Any) -> None:
    settings.SESSION_STORE = store
    tokens = [session_start(user=ada, provider="google", device=None, address="").token for _ in range(3)]
    assert all(Client(server, token).get("/jobs").status_code == 200 for token in tokens)
    answer = Client(server, tokens[0]).post("/auth/logout-everywhere")
    assert answer.json() == {"status": "logged out"}
    assert [Client(server, token).get("/jobs").status_code for token in tokens] == [401] * 3
    (record,) = AuditRecord.scan(AuditRecord.action == "user.signed_out_everywhere")
    assert (record.actor_id, record.target) == (ada.user_id, f"user:{ada.user_id}")


def test_a_session_whose_row_the_index_does_not_know_yet_is_ended_too(ada: User, token: str, server: str) -> None:
    """The epoch alone ends it: the row is put back as if the deletion had missed it."""
    (row,) = Session.scan()
    sessions_end(actor=Actor("user", ada.user_id, "Ada"), user_id=ada.user_id)
    Session(**row.attribute_values).save()
    assert Client(server, token).get("/jobs").status_code == 401
    assert validate(Client(server), token) == NOTHING


def test_another_persons_sessions_go_on(ada: User, admin: Client, server: str, token: str) -> None:
    (grace,) = User.scan(User.email == "admin@example.com")
    other = session_start(user=grace, provider="google", device=None, address="").token
    Client(server, token).post("/auth/logout-everywhere")
    assert Client(server, other).get("/jobs").status_code == 200
    assert admin.get("/jobs").status_code == 200


# --- from another origin --------------------------------------------------------------------------------------------


@pytest.fixture
def frontend_origin(settings: Any) -> Callable[..., requests.Response]:
    settings.CORS_ALLOWED_ORIGINS = [ORIGIN]

    def ask(client: Client, method: str, path: str, origin: str = ORIGIN, **more: str) -> requests.Response:
        return client.request(method, path, headers={"Origin": origin, **more})

    return ask


def test_the_frontend_may_call_with_cookies_and_read_the_answer(
    frontend_origin: Callable[..., requests.Response], outsider: Client
) -> None:
    answer = frontend_origin(outsider, "GET", "/jobs")
    assert answer.status_code == 401
    assert answer.headers["Access-Control-Allow-Origin"] == ORIGIN
    assert answer.headers["Access-Control-Allow-Credentials"] == "true"
    asked = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "authorization"}
    preflight = frontend_origin(outsider, "OPTIONS", "/jobs", **asked)
    assert preflight.status_code == 200
    assert "authorization" in preflight.headers["Access-Control-Allow-Headers"]


@pytest.mark.parametrize("origin", ["https://evil.example", "null", ORIGIN + ".evil.example", "http://app.example.com"])
def test_no_other_origin_may(frontend_origin: Callable[..., requests.Response], outsider: Client, origin: str) -> None:
    assert "Access-Control-Allow-Origin" not in frontend_origin(outsider, "GET", "/jobs", origin).headers


@pytest.mark.parametrize("path", ["/signin", "/dashboard/", "/account/devices", "/oauth/google/complete"])
def test_our_own_pages_are_read_by_no_other_origin(
    frontend_origin: Callable[..., requests.Response], outsider: Client, path: str
) -> None:
    assert "Access-Control-Allow-Origin" not in frontend_origin(outsider, "GET", path).headers


def test_a_cookie_alone_changes_nothing(ada: User, browser: Browser) -> None:
    browser.sign_in()
    assert browser.post("/auth/logout-everywhere").status_code == 403
    assert browser.delete("/auth/devices/x").status_code == 403
    csrf = browser.session.cookies[django_settings.CSRF_COOKIE_NAME]
    assert browser.post("/auth/logout-everywhere", headers={"X-CSRFToken": csrf}).status_code == 200
    assert not browser.signed_in


def test_the_rows_key_is_the_hash_of_the_token(token: str) -> None:
    (row,) = Session.scan()
    assert row.token_hash == secret_hash(token)
    assert token.partition(".")[0] not in str(row.to_simple_dict())
