"""A program that a user allows in a browser gets a token of its own, once."""

import re
from datetime import timedelta

import pytest

from apps.accounts.models import ApiToken, DeviceAuthorization, User
from apps.accounts.selectors.device_authorizations import device_authorization_find
from apps.accounts.services import user_disable
from apps.accounts.services.device_authorizations import (
    StartedAuthorization,
    device_authorization_create,
    device_authorization_decide,
    device_authorization_redeem,
)
from apps.audit.selectors import audit_list
from controlplane.lib import clock
from controlplane.lib.actor import SYSTEM, Actor
from controlplane.lib.error_codes import ErrorCode
from controlplane.lib.errors import ApplicationError, Conflict, Forbidden, InvalidInput, NotFound, TooManyRequests
from tests.accounts.browser import Browser
from tests.clients import Client
from tests.conftest import person, someone

NAME = "hci on laptop"


def started(name: str = NAME) -> StartedAuthorization:
    return device_authorization_create(name=name, address="198.51.100.7")


def decided(begun: StartedAuthorization, client: Client, *, is_allowed: bool) -> None:
    found = device_authorization_find(begun.user_code)
    assert found is not None
    device_authorization_decide(authorization=found, is_allowed=is_allowed, actor=actor_of(client))


def actor_of(client: Client) -> Actor:
    user = User.find(str(client.token)[4:30])
    assert user is not None
    return Actor("user", user.user_id, user.name, frozenset({"tokens.manage", "jobs.read"}))


def refused(error: type[ApplicationError], code: ErrorCode, begun: StartedAuthorization) -> None:
    with pytest.raises(error) as raised:
        device_authorization_redeem(device_code=begun.device_code)
    assert raised.value.code == code


def test_a_program_gets_a_token_once_a_user_has_allowed_it(server: str, outsider: Client) -> None:
    viewer, stranger = person(server, "viewer"), outsider
    begun = stranger.post("/auth/device-authorization", json={"name": NAME})
    assert begun.status_code == 201
    codes = begun.json()
    assert re.fullmatch("[B-Z]{4}-[B-Z]{4}", codes["user_code"])
    assert codes["verification_uri"] == f"{server}/device"
    ask = {"device_code": codes["device_code"]}
    pending = stranger.post("/auth/device-token", json=ask)
    assert (pending.status_code, pending.json()["code"]) == (409, "authorization_pending")
    found = device_authorization_find(codes["user_code"].lower().replace("-", " "))
    assert found is not None
    device_authorization_decide(authorization=found, is_allowed=True, actor=actor_of(viewer))
    given = stranger.post("/auth/device-token", json=ask)
    assert given.status_code == 200
    token = given.json()["access_token"]
    caller = Client(server, token=token).get("/auth/whoami").json()
    assert caller["user_id"] == actor_of(viewer).id
    assert "jobs.create" not in caller["permissions"]
    assert stranger.post("/auth/device-token", json=ask).json()["code"] == "device_code_invalid"
    stored = str([row.to_simple_dict() for row in DeviceAuthorization.scan()])
    assert not any(secret in stored for secret in (token, codes["device_code"], codes["user_code"]))


def test_of_two_requests_for_the_token_one_gets_it(server: str) -> None:
    viewer = person(server, "viewer")
    begun = started()
    decided(begun, viewer, is_allowed=True)
    before = len(list(ApiToken.scan()))
    token, _ = device_authorization_redeem(device_code=begun.device_code)
    assert (token.name, token.permissions) == (NAME, None)
    assert token.expires_at == pytest.approx(clock.now() + timedelta(days=90), abs=timedelta(minutes=1))
    refused(NotFound, ErrorCode.DEVICE_CODE_INVALID, begun)
    assert len(list(ApiToken.scan())) == before + 1


def test_a_denied_expired_or_foreign_code_gives_nothing(server: str) -> None:
    viewer = person(server, "viewer")
    denied, late, open_one = started(), started(), started()
    decided(denied, viewer, is_allowed=False)
    refused(Conflict, ErrorCode.ACCESS_DENIED, denied)
    decided(late, viewer, is_allowed=True)
    with clock.shifted(timedelta(minutes=11)):
        refused(NotFound, ErrorCode.DEVICE_CODE_INVALID, late)
        assert device_authorization_find(open_one.user_code) is None
    guessed = StartedAuthorization(late.device_code[:-1] + "-", late.user_code, 600)
    refused(NotFound, ErrorCode.DEVICE_CODE_INVALID, guessed)
    for text in ("", "hcd_", "ü" * 79, late.user_code):
        refused(NotFound, ErrorCode.DEVICE_CODE_INVALID, StartedAuthorization(text, late.user_code, 600))


def test_a_decision_counts_once_and_is_recorded(server: str) -> None:
    viewer, other = person(server, "viewer"), person(server, "operator")
    begun = started()
    found = device_authorization_find(begun.user_code)
    assert found is not None
    device_authorization_decide(authorization=found, is_allowed=True, actor=actor_of(viewer))
    with pytest.raises(NotFound):
        device_authorization_decide(authorization=found, is_allowed=False, actor=actor_of(other))
    token, _ = device_authorization_redeem(device_code=begun.device_code)
    assert token.user_id == actor_of(viewer).id
    actions = [event.action for event in audit_list(day=clock.timestamp(clock.now())[:10]).records]
    assert {"device.allowed", "api_token.created"} <= set(actions)


def test_a_user_who_is_disabled_after_allowing_it_gives_no_token(server: str) -> None:
    viewer = person(server, "viewer")
    begun = started()
    decided(begun, viewer, is_allowed=True)
    user_disable(user_id=actor_of(viewer).id, actor=SYSTEM)
    refused(Conflict, ErrorCode.ACCOUNT_DISABLED, begun)


def test_a_token_without_the_permission_cannot_allow_a_program(tables: None) -> None:
    begun = started()
    found = device_authorization_find(begun.user_code)
    assert found is not None
    with pytest.raises(Forbidden):
        device_authorization_decide(authorization=found, is_allowed=True, actor=Actor("token", "x", "x", frozenset()))
    assert device_authorization_find(begun.user_code) is not None


@pytest.mark.parametrize("name", ["", " ", "a\nb", "x" * 101, "\x1b[31m"])
def test_a_name_that_pages_cannot_show_is_refused(tables: None, name: str) -> None:
    with pytest.raises(InvalidInput):
        started(name)


def test_a_client_that_asks_for_very_many_codes_is_refused(tables: None, settings: object) -> None:
    settings.SIGN_IN_ATTEMPTS_PER_ADDRESS = 1  # type: ignore[attr-defined]
    for _ in range(20):
        started()
    with pytest.raises(TooManyRequests):
        started()
    assert device_authorization_create(name=NAME, address="203.0.113.9").user_code


# The page


@pytest.fixture
def viewing(server: str) -> Browser:
    someone("viewer")
    browser = Browser(server)
    assert browser.sign_in("viewer@example.com").status_code == 302
    return browser


def test_the_page_shows_who_asks_and_decides_only_by_its_form(viewing: Browser) -> None:
    begun = started("<b>hci</b>")
    page = viewing.get(f"/device?code={begun.user_code}&decision=allow").text
    assert "&lt;b&gt;hci&lt;/b&gt;" in page
    assert "198.51.100.7" in page
    assert begun.user_code in page
    refused(Conflict, ErrorCode.AUTHORIZATION_PENDING, begun)
    assert viewing.post("/device", data={"code": begun.user_code, "decision": "allow"}).status_code == 403
    answer = viewing.send("/device", page="/device", code=begun.user_code, decision="allow")
    assert (answer.status_code, answer.headers["Location"]) == (302, "/account/tokens")
    assert device_authorization_redeem(device_code=begun.device_code)


def test_the_page_denies_and_says_which_codes_are_not_open(viewing: Browser) -> None:
    begun = started()
    assert viewing.send("/device", page="/device", code=begun.user_code, decision="deny").status_code == 302
    refused(Conflict, ErrorCode.ACCESS_DENIED, begun)
    for code in (begun.user_code, "BCDF-GHJK", "nonsense", "", "x" * 60):
        answer = viewing.send("/device", page="/device", code=code)
        assert (answer.status_code, 'class="errorlist' in answer.text) == (422, True), code


def test_a_stranger_is_sent_to_sign_in_and_comes_back_with_the_code(server: str) -> None:
    answer = Client(server).get("/device?code=BCDF-GHJK")
    assert (answer.status_code, answer.headers["Location"]) == (302, "/signin?next=/device%3Fcode%3DBCDF-GHJK")


def test_a_user_who_types_very_many_wrong_codes_is_refused(viewing: Browser, settings: object) -> None:
    settings.SIGN_IN_ATTEMPTS_PER_ACCOUNT = 0  # type: ignore[attr-defined]
    answers = [viewing.send("/device", page="/device", code="BCDF-GHJK").text for _ in range(2)]
    assert ["too many codes" in answer for answer in answers] == [False, True]
