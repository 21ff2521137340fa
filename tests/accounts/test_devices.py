"""Where one is signed in: by the API and on the page."""

import re
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from apps.accounts.devices import device_name
from apps.accounts.models import Session, User
from apps.accounts.selectors import session_list
from apps.accounts.services import session_revoke, session_start
from apps.accounts.views import devices as devices_page
from apps.audit.models import AuditRecord
from controlplane.lib import clock
from controlplane.lib.actor import Actor
from controlplane.lib.errors import Forbidden, NotFound
from tests.accounts.browser import Browser
from tests.clients import Client, problem

FIREFOX = "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"
IPHONE = (
    "Mozilla/5.0 (iPhone; CPU iPhone OS 18_5 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) "
    "Version/18.5 Mobile/15E148 Safari/604.1"
)


@pytest.fixture
def two(store: str, ada: User, browsers: Callable[[], Browser]) -> tuple[Browser, Browser]:
    """Ada's browsers: the one at her desk, and the one in her pocket, which signed in later."""
    desk, pocket = browsers(), browsers()
    desk.session.headers["User-Agent"] = FIREFOX
    pocket.session.headers["User-Agent"] = IPHONE
    desk.sign_in()
    pocket.sign_in()
    return desk, pocket


def test_my_devices_are_listed_with_what_identifies_them(two: tuple[Browser, Browser]) -> None:
    desk, _ = two
    body = desk.get("/auth/devices").json()
    assert (body["total"], body["next_cursor"]) == (2, None)
    pocket, own = body["devices"]
    assert (pocket["device"], own["device"]) == ("Safari on iPhone", "Firefox on Linux")
    assert (pocket["current"], own["current"]) == (False, True)
    assert own["address"] == "127.0.0.1"
    assert own["region"] is None
    assert own["provider"] == "password"
    assert set(own) == {
        "id",
        "device",
        "address",
        "region",
        "provider",
        "signed_in_at",
        "last_seen_at",
        "expires_at",
        "current",
    }


def test_a_persons_devices_are_paged(two: tuple[Browser, Browser]) -> None:
    desk, _ = two
    first = desk.get("/auth/devices?limit=1").json()
    second = desk.get("/auth/devices", params={"limit": "1", "cursor": first["next_cursor"]}).json()
    assert [first["devices"][0]["device"], second["devices"][0]["device"]] == ["Safari on iPhone", "Firefox on Linux"]
    assert (first["total"], second["total"], first["total_is_lower_bound"]) == (2, 2, False)
    assert second["next_cursor"] is None
    for parameters, field in (({"limit": "0"}, "limit"), ({"limit": "101"}, "limit"), ({"cursor": "x"}, "cursor")):
        refused = desk.get("/auth/devices", params=parameters)
        assert refused.status_code == 400
        assert refused.json()["errors"][0]["field"] == field


def test_the_list_has_nothing_that_opens_a_session(two: tuple[Browser, Browser]) -> None:
    desk, pocket = two
    text = desk.get("/auth/devices").text
    ids = [session.token_hash for session in session_list(User.find_by_email("ada@example.com").user_id).sessions]
    for secret in (desk.cookie, pocket.cookie, *ids):
        assert secret not in text


def test_i_can_sign_out_another_device(two: tuple[Browser, Browser], ada: User) -> None:
    desk, pocket = two
    csrf = {"X-CSRFToken": desk.session.cookies["csrftoken"]}
    device = desk.get("/auth/devices").json()["devices"][0]["id"]
    assert desk.delete(f"/auth/devices/{device}", headers=csrf).status_code == 204
    assert not pocket.signed_in
    assert desk.signed_in
    problem(desk.delete(f"/auth/devices/{device}", headers=csrf), 404, "session_not_found")
    (record,) = AuditRecord.scan(AuditRecord.action == "session.revoked")
    assert (record.actor_id, record.target) == (ada.user_id, f"user:{ada.user_id}")
    assert record.detail == {"session": device, "device": "Safari on iPhone", "address": "127.0.0.1"}


def test_another_persons_device_is_not_there(two: tuple[Browser, Browser], server: str, admin: Client) -> None:
    desk, _ = two
    device = desk.get("/auth/devices").json()["devices"][0]["id"]
    (grace,) = User.scan(User.email == "admin@example.com")
    other = Client(server, session_start(user=grace, provider="google", device=None, address="").token)
    problem(other.delete(f"/auth/devices/{device}"), 404, "session_not_found")
    assert other.get("/auth/devices").json()["total"] == 1
    assert desk.signed_in


def test_an_id_of_any_form_is_only_not_found(two: tuple[Browser, Browser]) -> None:
    desk, _ = two
    csrf = {"X-CSRFToken": desk.session.cookies["csrftoken"]}
    for device in ("x", desk.cookie, "%00", "%F0%9F%98%80", "x" * 500):
        problem(desk.delete(f"/auth/devices/{device}", headers=csrf), 404, "session_not_found")
    assert desk.signed_in


def test_when_a_device_was_last_seen_is_true_to_the_minute(two: tuple[Browser, Browser]) -> None:
    desk, pocket = two
    before = {entry["device"]: entry for entry in desk.get("/auth/devices").json()["devices"]}
    with clock.shifted(timedelta(minutes=10)):
        pocket.get("/account/devices")
        after = {entry["device"]: entry for entry in desk.get("/auth/devices").json()["devices"]}
    name = "Safari on iPhone"
    assert after[name]["last_seen_at"][:16] > before[name]["last_seen_at"][:16]
    assert after[name]["signed_in_at"] == before[name]["signed_in_at"]


def test_a_session_that_has_expired_is_no_device(two: tuple[Browser, Browser]) -> None:
    desk, _ = two
    with clock.shifted(timedelta(minutes=50)):
        desk.get("/account/devices")
    with clock.shifted(timedelta(minutes=70)):
        assert desk.get("/auth/devices").json()["total"] == 1


def test_an_api_token_cannot_sign_users_out(admin: Client) -> None:
    problem(admin.get("/auth/devices"), 403, "session_needed")
    problem(admin.delete("/auth/devices/x"), 403, "session_needed")
    problem(admin.post("/auth/logout-everywhere"), 403, "session_needed")


def test_the_region_is_shown_where_a_proxy_reports_it(ada: User, browser: Browser, settings: Any) -> None:
    browser.session.headers["CloudFront-Viewer-Country"] = "DE"
    browser.sign_in()
    assert browser.get("/auth/devices").json()["devices"][0]["region"] is None
    settings.CLIENT_REGION_HEADER = "CloudFront-Viewer-Country"
    other = Browser(browser.server)
    other.session.headers["CloudFront-Viewer-Country"] = "DE"
    other.sign_in()
    assert other.get("/auth/devices").json()["devices"][0]["region"] == "DE"


# --- the page -------------------------------------------------------------------------------------------------------


def test_the_page_shows_the_devices_this_one_first(two: tuple[Browser, Browser]) -> None:
    desk, _ = two
    page = desk.get("/account/devices").text
    assert page.index("Firefox on Linux") < page.index("this device") < page.index("Safari on iPhone")


def test_the_page_has_more_when_there_are_more_devices_and_shows_this_one_first(
    two: tuple[Browser, Browser], ada: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    desk, _ = two
    monkeypatch.setattr(devices_page, "PAGE_SIZE", 2)
    session_start(user=ada, provider="google", device="Edge on Windows", address="192.0.2.8")
    page = desk.get("/account/devices").text
    assert page.index("this device") < page.index("Edge on Windows") < page.index("Safari on iPhone")
    assert "3 devices" in page
    (more,) = re.findall(r'rel="next" href="(/account/devices\?cursor=[^"]+)"', page)
    page = desk.get(more).text
    assert "Safari on iPhone" not in page
    assert "this device" not in page
    assert 'rel="next"' not in page
    assert 'href="/account/devices">Newest</a>' in page
    assert desk.get("/account/devices?cursor=x").status_code == 400


def test_the_page_signs_out_another_device(two: tuple[Browser, Browser]) -> None:
    desk, pocket = two
    device = desk.get("/auth/devices").json()["devices"][0]["id"]
    path = f"/account/devices/{device}/end"
    assert desk.send(path, page="/account/devices").headers["Location"] == "/account/devices"
    assert "You are signed out there." in desk.get("/account/devices").text
    assert not pocket.signed_in
    desk.send(path, page="/account/devices")
    assert "You were signed out there already." in desk.get("/account/devices").text


def test_the_page_signs_out_everywhere(two: tuple[Browser, Browser]) -> None:
    desk, pocket = two
    assert desk.send("/account/devices/everywhere", page="/account/devices").headers["Location"] == "/signin"
    assert not desk.signed_in
    assert not pocket.signed_in


def test_who_is_not_signed_in_has_no_devices(browser: Browser) -> None:
    assert browser.get("/account/devices").headers["Location"] == "/signin?next=/account/devices"


# --- the services that the admin uses -------------------------------------------------------------------------------


def test_only_users_who_manage_accounts_revoke_sessions_of_others(ada: User, browser: Browser) -> None:
    browser.sign_in()
    (session,) = session_list(ada.user_id).sessions
    with pytest.raises(Forbidden):
        session_revoke(actor=Actor("user", "eve", "Eve"), token_hash=session.token_hash)
    assert browser.signed_in
    grace = Actor("user", "grace", "Grace", frozenset({"accounts.manage"}))
    session_revoke(actor=grace, token_hash=session.token_hash)
    assert not browser.signed_in
    with pytest.raises(NotFound):
        session_revoke(actor=grace, token_hash=session.token_hash)
    (record,) = AuditRecord.scan(AuditRecord.action == "session.revoked")
    assert record.actor_id == "grace"


def test_sessions_are_listed_without_their_data(ada: User, browser: Browser) -> None:
    browser.sign_in()
    (session,) = session_list(ada.user_id).sessions
    (row,) = Session.scan()
    assert row.data not in str(session)


@pytest.mark.parametrize(
    ("user_agent", "name"),
    [
        (FIREFOX, "Firefox on Linux"),
        (IPHONE, "Safari on iPhone"),
        (
            "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 Chrome/140.0 Safari/537.36",
            "Chrome on Windows",
        ),
        (
            "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 Chrome/140.0 Safari/537.36 Edg/140.0",
            "Edge on Windows",
        ),
        (
            "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1.15 Version/18 Safari/605.1.15",
            "Safari on macOS",
        ),
        ("Mozilla/5.0 (Linux; Android 15; Pixel 9) AppleWebKit/537.36 Chrome/140.0 Mobile", "Chrome on Android"),
        ("curl/8.9", "curl"),
        ("python-requests/2.34", "Python"),
        ("", None),
        ("something of my own", None),
        ("Firefox/" * 10_000, "Firefox"),
    ],
)
def test_a_device_is_called_by_its_browser_and_system(user_agent: str, name: str | None) -> None:
    assert device_name(user_agent) == name
