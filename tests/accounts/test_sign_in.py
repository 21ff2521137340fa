"""Signing in and out over HTTP, as a browser does it."""

import re
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
import requests
from django.conf import settings

from apps.accounts.models import Session, User, secret_hash
from apps.accounts.selectors import user_get
from apps.accounts.services import user_disable
from apps.audit.models import AuditRecord
from controlplane.lib import clock
from controlplane.lib.actor import SYSTEM
from tests.clients import Client
from tests.conftest import PASSWORD
from tests.metering import dynamodb_calls

PAGE = "/dashboard/"


def csrf_token(browser: Client, path: str = "/signin") -> str:
    return re.search(r'name="csrfmiddlewaretoken" value="(\w+)"', browser.get(path).text)[1]


def sign_in(
    browser: Client, email: str = "ada@example.com", password: str = PASSWORD, **more: str
) -> requests.Response:
    form = {"csrfmiddlewaretoken": csrf_token(browser), "email": email, "password": password, **more}
    return browser.post("/signin", data=form)


def cookie(browser: Client) -> str | None:
    return browser.session.cookies.get(settings.SESSION_COOKIE_NAME)


def trail() -> list[tuple[str, str, str]]:
    records = sorted(AuditRecord.scan(), key=lambda record: record.entry)
    return [(record.action, record.target, record.result) for record in records if record.action != "user.created"]


def test_who_signs_in_comes_to_the_dashboard_and_is_recorded(ada: User, outsider: Client) -> None:
    answer = sign_in(outsider)
    assert answer.status_code == 302
    assert answer.headers["Location"] == PAGE
    page = outsider.get(PAGE)
    assert page.status_code == 200
    assert "Ada" in page.text
    assert trail() == [("user.signed_in", f"user:{ada.user_id}", "ok")]
    assert user_get(ada.user_id).last_login_at is not None


def test_the_record_of_a_sign_in_says_how_and_from_where(ada: User, outsider: Client) -> None:
    outsider.session.headers["User-Agent"] = "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"
    sign_in(outsider)
    (record,) = AuditRecord.scan(AuditRecord.action == "user.signed_in")
    assert (record.actor_kind, record.actor_id, record.actor_name) == ("user", ada.user_id, "Ada")
    assert record.detail == {"provider": "password", "address": "127.0.0.1", "device": "Firefox on Linux"}


def test_the_session_is_known_as_the_persons(ada: User, outsider: Client) -> None:
    sign_in(outsider)
    (session,) = Session.by_user.query(ada.user_id)
    assert session.token_hash == secret_hash(cookie(outsider))
    assert session.provider == "password"


def test_the_address_is_taken_in_any_case(ada: User, outsider: Client) -> None:
    assert sign_in(outsider, email="  ADA@example.com").status_code == 302


def test_the_cookie_is_out_of_reach_of_scripts_and_other_sites(ada: User, outsider: Client) -> None:
    header = sign_in(outsider).raw.headers.getlist("Set-Cookie")
    session = next(line for line in header if line.startswith(settings.SESSION_COOKIE_NAME))
    assert "HttpOnly" in session
    assert "SameSite=Lax" in session


@pytest.mark.parametrize(
    ("email", "password"),
    [("ada@example.com", "not her password"), ("eve@example.com", PASSWORD), ("ada@example.com", " " + PASSWORD)],
)
def test_wrong_credentials_are_refused_alike_and_recorded(
    ada: User, outsider: Client, email: str, password: str
) -> None:
    answer = sign_in(outsider, email=email, password=password)
    assert answer.status_code == 401
    assert "The e-mail address or the password is not right." in answer.text
    assert password not in answer.text
    assert cookie(outsider) is None
    assert trail() == [("user.sign_in_failed", f"email:{email}", "refused")]


def test_a_password_typed_into_the_wrong_field_is_not_recorded(ada: User, outsider: Client) -> None:
    sign_in(outsider, email=PASSWORD)
    assert trail() == [("user.sign_in_failed", "email:unknown", "refused")]


@pytest.mark.parametrize("form", [{}, {"email": "ada@example.com"}, {"email": "x" * 300, "password": "x" * 2000}])
def test_an_incomplete_form_is_shown_again(outsider: Client, form: dict[str, str]) -> None:
    answer = outsider.post("/signin", data={"csrfmiddlewaretoken": csrf_token(outsider), **form})
    assert answer.status_code == 401
    assert "errorlist" in answer.text


@pytest.mark.parametrize("email", ["\x00@example.com", "😀" * 60 + "@example.com", "#@#", "ada@example.com\r\n"])
def test_no_address_however_odd_is_an_error_of_ours(ada: User, outsider: Client, email: str) -> None:
    assert sign_in(outsider, email=email, password="wrong password").status_code == 401


def test_a_disabled_person_is_refused_like_a_wrong_password(ada: User, outsider: Client) -> None:
    user_disable(user_id=ada.user_id, actor=SYSTEM)
    answer = sign_in(outsider)
    assert answer.status_code == 401
    assert "The e-mail address or the password is not right." in answer.text


def test_an_unknown_address_costs_as_much_hashing_as_a_known_one(
    ada: User, outsider: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    from django.contrib.auth.hashers import MD5PasswordHasher

    hashed: list[str] = []
    encode = MD5PasswordHasher.encode

    def counted(self: MD5PasswordHasher, password: str, salt: str) -> str:
        hashed.append(password)
        return encode(self, password, salt)

    monkeypatch.setattr(MD5PasswordHasher, "encode", counted)
    sign_in(outsider, password="one wrong password")
    sign_in(outsider, email="eve@example.com", password="other wrong password")
    assert hashed == ["one wrong password", "other wrong password"]


def test_signing_in_gives_a_new_key_and_drops_the_data_of_the_old_session(ada: User, outsider: Client) -> None:
    from apps.accounts.session_store import SessionStore

    planted = SessionStore()
    planted["basket"] = "planted by someone else"
    planted.save()
    outsider.session.cookies.set(settings.SESSION_COOKIE_NAME, planted.session_key)
    sign_in(outsider)
    (session,) = Session.scan()
    assert session.token_hash != secret_hash(planted.session_key)
    assert "basket" not in SessionStore().decode(session.data)


def test_a_form_without_the_csrf_token_is_refused(ada: User, outsider: Client) -> None:
    answer = outsider.post("/signin", data={"email": "ada@example.com", "password": PASSWORD})
    assert answer.status_code == 403
    assert cookie(outsider) is None


@pytest.mark.parametrize(
    "elsewhere",
    [
        "https://evil.example/",
        "//evil.example/",
        "///evil.example",
        "/\\evil.example",
        "\\\\evil.example",
        "http:evil.example",
        "javascript:alert(1)",
        " //evil.example",
        "\t//evil.example",
    ],
)
def test_next_leads_to_no_other_site(ada: User, outsider: Client, elsewhere: str) -> None:
    assert sign_in(outsider, next=elsewhere).headers["Location"] == PAGE
    assert outsider.get("/signin", params={"next": elsewhere}).headers["Location"] == PAGE


def test_next_leads_back_to_the_page_that_was_asked_for(ada: User, outsider: Client) -> None:
    answer = outsider.get(PAGE + "?day=1")
    assert answer.status_code == 302
    assert answer.headers["Location"] == "/signin?next=/dashboard/%3Fday%3D1"
    form = outsider.get(answer.headers["Location"]).text
    assert 'name="next" value="/dashboard/?day=1"' in form
    assert sign_in(outsider, next=PAGE + "?day=1").headers["Location"] == PAGE + "?day=1"


def test_a_part_of_a_page_sends_the_whole_page_to_sign_in(outsider: Client) -> None:
    headers = {"HX-Request": "true", "HX-Current-URL": outsider.server + "/dashboard/jobs"}
    answer = outsider.get(PAGE, headers=headers)
    assert answer.headers["HX-Redirect"] == "/signin?next=/dashboard/jobs"


def test_who_is_signed_in_already_is_sent_on(ada: User, outsider: Client) -> None:
    sign_in(outsider)
    assert outsider.get("/signin").headers["Location"] == PAGE


def test_a_page_for_who_is_signed_in_reads_the_session_and_the_person_once(ada: User, outsider: Client) -> None:
    sign_in(outsider)
    with dynamodb_calls() as counted:
        outsider.get("/signin")
    assert counted.operations == ["GetItem", "GetItem"]


@pytest.fixture
def signed_in(ada: User, outsider: Client) -> Client:
    """A browser in which Ada is signed in."""
    assert sign_in(outsider).status_code == 302
    return outsider


def sign_out(browser: Client) -> requests.Response:
    return browser.post("/signout", data={"csrfmiddlewaretoken": csrf_token(browser, PAGE)})


def test_signing_out_ends_the_session_and_is_recorded(ada: User, signed_in: Client) -> None:
    key = cookie(signed_in)
    answer = sign_out(signed_in)
    assert answer.headers["Location"] == "/signin"
    assert cookie(signed_in) is None
    assert list(Session.scan()) == []
    assert trail()[-1] == ("user.signed_out", f"user:{ada.user_id}", "ok")
    signed_in.session.cookies.set(settings.SESSION_COOKIE_NAME, key)
    assert signed_in.get(PAGE).status_code == 302


def test_a_link_does_not_sign_out(signed_in: Client) -> None:
    assert signed_in.get("/signout").status_code == 405
    assert signed_in.get(PAGE).status_code == 200


def test_signing_out_needs_the_csrf_token(signed_in: Client) -> None:
    assert signed_in.post("/signout").status_code == 403
    assert signed_in.get(PAGE).status_code == 200


def test_who_is_not_signed_in_may_sign_out(outsider: Client) -> None:
    answer = outsider.post("/signout", data={"csrfmiddlewaretoken": csrf_token(outsider)})
    assert answer.status_code == 302
    assert trail() == []


def end_by_disabling(ada: User) -> None:
    user_disable(user_id=ada.user_id, actor=SYSTEM)


def end_by_epoch(ada: User) -> None:
    ada.update(actions=[User.session_epoch.add(1)])


def end_by_password(ada: User) -> None:
    ada.update(actions=[User.password.set("md5$x$x")])


def end_by_removing(ada: User) -> None:
    ada.delete()


@pytest.mark.parametrize("end", [end_by_disabling, end_by_epoch, end_by_password, end_by_removing])
def test_a_session_ends_at_once_when_its_person_changes(
    ada: User, signed_in: Client, end: Callable[[User], None]
) -> None:
    end(ada)
    assert signed_in.get(PAGE).status_code == 302
    assert signed_in.get("/jobs").status_code == 401


def test_a_session_ends_after_twelve_hours_however_busy(signed_in: Client) -> None:
    for minutes in range(50, 12 * 60, 50):
        with clock.shifted(timedelta(minutes=minutes)):
            assert signed_in.get(PAGE).status_code == 200
    with clock.shifted(timedelta(hours=12, seconds=1)):
        assert signed_in.get(PAGE).status_code == 302


def test_a_session_that_is_not_used_for_an_hour_ends(signed_in: Client) -> None:
    with clock.shifted(timedelta(minutes=59)):
        assert signed_in.get(PAGE).status_code == 200
    with clock.shifted(timedelta(minutes=118)):
        assert signed_in.get(PAGE).status_code == 200
    with clock.shifted(timedelta(minutes=179)):
        assert signed_in.get(PAGE).status_code == 302


def test_a_session_may_read_the_api(signed_in: Client) -> None:
    assert signed_in.get("/jobs").status_code == 200


def test_a_session_changes_nothing_through_the_api_without_the_csrf_token(signed_in: Client) -> None:
    refused = signed_in.post("/jobs", json={"git_ref": "main"})
    assert refused.status_code == 403
    assert "CSRF" in refused.json()["detail"]
    token = signed_in.session.cookies[settings.CSRF_COOKIE_NAME]
    assert signed_in.post("/jobs", json={}, headers={"X-CSRFToken": token}).status_code != 403


def test_a_page_that_the_role_does_not_allow_says_so(ada: User, signed_in: Client) -> None:
    ada.update(actions=[User.role.set("no such role")])
    answer = signed_in.get(PAGE)
    assert answer.status_code == 403
    assert "This is not allowed" in answer.text
    assert answer.headers["Content-Type"].startswith("text/html")


def test_a_password_hashed_the_old_way_is_hashed_again_at_sign_in_and_the_session_stays_valid(
    ada: User, outsider: Client, settings: Any
) -> None:
    settings.PASSWORD_HASHERS = [
        "django.contrib.auth.hashers.ScryptPasswordHasher",
        "django.contrib.auth.hashers.MD5PasswordHasher",
    ]
    sign_in(outsider)
    assert user_get(ada.user_id).password.startswith("scrypt$")
    assert outsider.get(PAGE).status_code == 200
