"""SECRET_KEY is changed: with the old key as a fallback everything goes on, without it all that it signed ends."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth import HASH_SESSION_KEY

from apps.accounts.models import Session, User, UserFacade, session_data_decode
from apps.accounts.services import api_token_create, session_start
from apps.accounts.session_store import SessionStore
from controlplane.lib import clock
from controlplane.lib.actor import SYSTEM
from tests.accounts.browser import Browser
from tests.clients import Client, problem
from tests.commands import manage

NEW = "another-key-" + "y" * 50

ChangeKey = Callable[..., None]


@pytest.fixture
def change_key(settings: Any) -> ChangeKey:
    """Changes the key, and keeps the old one as a fallback or not."""

    def change(*, fallback: bool) -> None:
        settings.SECRET_KEY_FALLBACKS = [settings.SECRET_KEY] if fallback else []
        settings.SECRET_KEY = NEW

    return change


@pytest.fixture
def browser(server: str, ada: User) -> Browser:
    """Ada's, signed in."""
    browser = Browser(server)
    browser.sign_in()
    return browser


@pytest.fixture
def frontend(server: str, ada: User) -> Client:
    return Client(server, session_start(user=ada, provider="google", device=None, address="").token)


def listed(client: Client, **parameters: str) -> Any:
    return client.get("/auth/devices", params={"limit": "1", **parameters})


def test_with_the_old_key_as_a_fallback_sessions_and_cursors_live_on(
    browser: Browser, frontend: Client, change_key: ChangeKey
) -> None:
    cursor = listed(frontend).json()["next_cursor"]
    cookie, csrf = browser.cookie, browser.csrf_token("/account/devices")
    change_key(fallback=True)
    assert browser.signed_in
    assert browser.cookie == cookie
    assert frontend.get("/jobs").status_code == 200
    assert frontend.post("/auth/validate", json={"session_id": frontend.token}).json()["valid"]
    page = listed(frontend, cursor=cursor)
    assert (page.status_code, len(page.json()["devices"]), page.json()["total"]) == (200, 1, 2)
    # A form that was loaded before the change can be sent after it.
    sent = browser.post("/signout", data={"csrfmiddlewaretoken": csrf})
    assert sent.status_code == 302
    assert not browser.signed_in


def test_without_a_fallback_all_sessions_and_cursors_of_the_old_key_end(
    browser: Browser, frontend: Client, ada: User, change_key: ChangeKey, server: str
) -> None:
    cursor = listed(frontend).json()["next_cursor"]
    token = api_token_create(user=ada, name="ci", actor=SYSTEM)[1]
    change_key(fallback=False)
    assert not browser.signed_in
    problem(frontend.get("/jobs"), 401, "session_invalid")
    assert not frontend.post("/auth/validate", json={"session_id": frontend.token}).json()["valid"]
    other = Client(server, session_start(user=ada, provider="google", device=None, address="").token)
    problem(listed(other, cursor=cursor), 400, "invalid_cursor")
    assert listed(other).json()["total"] == 1
    assert Client(server, token).get("/jobs").status_code == 200


def test_only_the_new_key_signs(browser: Browser, settings: Any, change_key: ChangeKey) -> None:
    change_key(fallback=True)
    fresh = Browser(browser.server)
    fresh.sign_in()
    cursor = listed(fresh).json()["next_cursor"]
    settings.SECRET_KEY_FALLBACKS = []
    assert fresh.signed_in
    assert not browser.signed_in
    assert listed(fresh, cursor=cursor).status_code == 200


def test_the_first_request_after_the_change_signs_a_browsers_session_anew_and_under_its_key(
    browser: Browser, ada: User, settings: Any, change_key: ChangeKey
) -> None:
    (before,) = Session.scan()
    change_key(fallback=True)
    with clock.shifted(timedelta(minutes=5)):
        assert browser.signed_in
    (after,) = Session.scan()
    # The same session: its 12 hours do not begin again, and requests that are under way have the right cookie.
    assert (after.token_hash, after.device_id, after.created_at) == (
        before.token_hash,
        before.device_id,
        before.created_at,
    )
    settings.SECRET_KEY_FALLBACKS = []
    assert session_data_decode(after.data)[HASH_SESSION_KEY] == UserFacade.from_record(ada).get_session_auth_hash()
    assert browser.signed_in


def test_a_message_for_the_next_page_survives_the_change(browser: Browser, change_key: ChangeKey) -> None:
    device = browser.get("/auth/devices").json()["devices"][0]["id"]
    other = Browser(browser.server)
    other.sign_in()
    other.send(f"/account/devices/{device}/end", page="/account/devices")
    change_key(fallback=True)
    assert "You are signed out there." in other.get("/account/devices").text


def test_the_key_may_change_before_the_processes_know_it_all(browser: Browser, settings: Any) -> None:
    """The step before the change: the old version already accepts what the new one signs."""
    old = settings.SECRET_KEY
    settings.SECRET_KEY_FALLBACKS = [NEW]
    assert browser.signed_in
    for key, fallback in ((NEW, old), (old, NEW), (NEW, old)):
        settings.SECRET_KEY, settings.SECRET_KEY_FALLBACKS = key, [fallback]
        assert browser.signed_in


def test_a_session_that_neither_key_signed_has_no_data(tables: None, settings: Any) -> None:
    settings.SECRET_KEY_FALLBACKS = ["third-key-" + "z" * 50]
    session = SessionStore()
    session["theme"] = "dark"
    session.save()
    settings.SECRET_KEY, settings.SECRET_KEY_FALLBACKS = NEW, ["fourth-key-" + "z" * 50]
    assert dict(SessionStore(session.session_key).items()) == {}


def test_an_anonymous_session_still_gets_a_new_key_on_demand(tables: None) -> None:
    session = SessionStore()
    session["theme"] = "dark"
    session.save()
    before = session.session_key
    session.cycle_key()
    assert session.session_key != before
    assert not SessionStore().exists(before)


def test_the_setting_is_a_list_of_the_environment() -> None:
    code = "from django.conf import settings; print(settings.SECRET_KEY_FALLBACKS)"
    assert manage("-c", code, SECRET_KEY_FALLBACKS="first,second").stdout.strip() == "['first', 'second']"
    assert manage("-c", code, SECRET_KEY_FALLBACKS="").stdout.strip() == "[]"
