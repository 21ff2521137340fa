"""Users change their own passwords, on the page that says how they sign in."""

from collections.abc import Callable
from typing import Any

import pytest
import requests

from apps.accounts.identities import ProviderIdentity
from apps.accounts.models import User
from apps.accounts.selectors import user_get
from apps.accounts.services import (
    identity_sign_in,
    invitation_accept,
    invitation_create,
    rate_limits,
    rate_limits_end,
    session_start,
    session_verify,
    sessions_end,
    user_password_change,
)
from apps.accounts.services import passwords as password_services
from apps.audit.models import AuditRecord
from controlplane.lib.actor import SYSTEM, Actor
from controlplane.lib.errors import Conflict, Forbidden, NotAuthenticated
from tests.accounts.browser import Browser
from tests.conftest import PASSWORD, session_take

PAGE = "/account/identities"
NEW = "a new password, and long"


@pytest.fixture
def ada_in(ada: User, browser: Browser) -> Browser:
    """The browser in which she is signed in."""
    browser.sign_in()
    return browser


def change(browser: Browser, old: str = PASSWORD, new: str = NEW, again: str | None = None) -> requests.Response:
    form = {"old_password": old, "password": new, "password_again": new if again is None else again}
    return browser.send("/account/password", page=PAGE, **form)


def acting(user: User) -> Actor:
    return Actor("user", user.user_id, user.name)


def trail(action: str) -> list[AuditRecord]:
    return list(AuditRecord.scan(AuditRecord.action == action))


def test_a_user_changes_their_password_and_signs_in_with_the_new_one(ada_in: Browser, ada: User) -> None:
    assert "Change password" in ada_in.get(PAGE).text
    answer = change(ada_in)
    assert (answer.status_code, answer.headers["Location"]) == (302, PAGE)
    assert "Your password is changed." in ada_in.get(PAGE).text
    assert Browser(ada_in.server).sign_in().status_code == 401
    assert Browser(ada_in.server).sign_in(password=NEW).status_code == 302
    (record,) = trail("user.password_set")
    assert (record.actor_id, record.target, record.detail) == (ada.user_id, f"user:{ada.user_id}", None)


def test_a_changed_password_ends_all_other_sessions_and_keeps_this_one(
    store: str, ada: User, browsers: Callable[[], Browser]
) -> None:
    desk, pocket = browsers(), browsers()
    desk.sign_in()
    pocket.sign_in()
    bearer = session_start(user=ada, provider="google", device=None, address="").token
    key = desk.cookie
    assert change(desk).status_code == 302
    assert (desk.signed_in, pocket.signed_in) == (True, False)
    assert desk.cookie == key
    with pytest.raises(NotAuthenticated):
        session_verify(bearer, use=False)


@pytest.mark.parametrize(
    ("form", "message"),
    [
        ({"old": "not her password"}, "must be your current password"),
        ({"old": "x" * 1025}, "at most 1024 characters"),
        ({"old": ""}, "This field is required."),
        ({"new": "tiny-pw"}, "This password is too short."),
        ({"new": "password1234"}, "This password is too common."),
        ({"again": "another password"}, "The two passwords differ."),
    ],
)
def test_a_password_that_cannot_be_changed_stays_and_the_page_says_why(
    ada_in: Browser, ada: User, form: dict[str, str], message: str
) -> None:
    answer = change(ada_in, **form)
    assert answer.status_code == 422
    assert message in answer.text
    assert all(text not in answer.text for text in (PASSWORD, NEW, *filter(None, form.values())))
    assert user_get(ada.user_id).password == ada.password
    assert ada_in.signed_in
    assert trail("user.password_set") == []


def test_after_some_wrong_old_passwords_even_the_right_one_must_wait(
    ada_in: Browser, ada: User, settings: Any, new_window: None
) -> None:
    settings.SIGN_IN_ATTEMPTS_PER_ACCOUNT = 3
    # A new password that is refused is no guess at the old one.
    assert [change(ada_in, new="short").status_code for _ in range(4)] == [422] * 4
    assert [change(ada_in, old="wrong").status_code for _ in range(3)] == [422] * 3
    answer = change(ada_in)
    assert answer.status_code == 429
    assert 1 <= int(answer.headers["Retry-After"]) <= 15 * 60
    assert "too many failed attempts" in answer.text
    assert Browser(ada_in.server).sign_in().status_code == 302, "The owner can still sign in."
    rate_limits_end(email=ada.email, address="", actor=SYSTEM)
    assert change(ada_in).status_code == 302


def test_successful_changes_do_not_count(ada_in: Browser, settings: Any, new_window: None) -> None:
    settings.SIGN_IN_ATTEMPTS_PER_ACCOUNT = 1
    assert change(ada_in).status_code == 302
    assert change(ada_in, old=NEW, new=PASSWORD).status_code == 302


def test_where_passwords_are_off_none_is_changed(ada: User, ada_in: Browser, settings: Any) -> None:
    form = {"old_password": PASSWORD, "password": NEW, "password_again": NEW}
    token = ada_in.csrf_token(PAGE)
    settings.PASSWORD_SIGN_IN = False
    assert "Change password" not in ada_in.get(PAGE).text
    answer = ada_in.post("/account/password", data={"csrfmiddlewaretoken": token, **form})
    assert answer.status_code == 403
    assert "switched off" in answer.text
    assert user_get(ada.user_id).password == ada.password


def test_the_first_password_of_a_user_without_one_is_set_by_an_admin_only(tables: None, browser: Browser) -> None:
    """A session alone, which may have been stolen, must not make a way to sign in that outlasts it."""
    google = ProviderIdentity("google", "2002", "eve@example.com", "Eve")
    invitation, _ = invitation_create(email="eve@example.com", role="viewer", actor=SYSTEM)
    eve = invitation_accept(invitation=invitation, identity=google)
    with pytest.raises(Conflict, match="Ask an administrator"):
        user_password_change(actor=acting(eve), old_password="", password=NEW)
    assert identity_sign_in(google).password == eve.password
    session_take(browser, eve)
    page = browser.get(PAGE).text
    assert "An administrator can set the first one." in page
    assert "Change password" not in page


@pytest.mark.parametrize("kind", ["token", "agent", "system"])
def test_only_a_user_changes_their_password(ada: User, kind: Any) -> None:
    with pytest.raises(Forbidden):
        user_password_change(actor=Actor(kind, ada.user_id, "x"), old_password=PASSWORD, password=NEW)


def test_a_sign_out_everywhere_that_comes_between_lets_no_session_go_on(
    ada: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    reserve = rate_limits.password_change_reserve

    def first(**how: Any) -> Any:
        sessions_end(actor=acting(ada), user_id=ada.user_id)
        return reserve(**how)

    monkeypatch.setattr(password_services, "password_change_reserve", first)
    with pytest.raises(Conflict, match="changed meanwhile"):
        user_password_change(actor=acting(ada), old_password=PASSWORD, password=NEW)
    assert user_get(ada.user_id).password == ada.password
