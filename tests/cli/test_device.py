"""Logging in with a browser."""

import json
from collections.abc import Callable
from typing import Any

import pytest
from hci import device

from apps.accounts.models import User
from apps.accounts.selectors.device_authorizations import device_authorization_find
from apps.accounts.services.device_authorizations import device_authorization_decide
from controlplane.lib.actor import Actor
from tests.cli.conftest import Clock, Outcome, Scripted, answer, hci
from tests.clients import Client


class Terminal(Clock):
    """A clock, and a user who decides while the program waits."""

    def __init__(self, decide: Callable[[], None]) -> None:
        super().__init__()
        self.decide = decide

    def sleep(self, seconds: float) -> None:
        super().sleep(seconds)
        if self.now > 11:
            self.decide()


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The addresses that the program opens in a browser."""
    found: list[str] = []
    monkeypatch.delenv("SSH_CONNECTION", raising=False)
    monkeypatch.setenv("DISPLAY", ":9")
    monkeypatch.setattr("webbrowser.open", found.append)
    return found


def logged_in(server: str, monkeypatch: pytest.MonkeyPatch, decide: Callable[[], None]) -> Outcome:
    monkeypatch.setattr(device, "time", Terminal(decide))
    monkeypatch.setattr("tests.cli.conftest.Stream.isatty", lambda _: True)
    return hci("login", "--server", server, "--json")


def deciding(operator: Client, opened: list[str], *, is_allowed: bool) -> Callable[[], None]:
    user = User.find(str(operator.token)[4:30])
    assert user is not None
    actor = Actor("user", user.user_id, user.name, frozenset({"tokens.manage"}))

    def decide() -> None:
        found = device_authorization_find(opened[0].rpartition("=")[2])
        if found is not None:
            device_authorization_decide(authorization=found, is_allowed=is_allowed, actor=actor)

    return decide


def test_a_user_logs_in_by_allowing_it_in_the_browser(
    server: str, operator: Client, opened: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    ended = logged_in(server, monkeypatch, deciding(operator, opened, is_allowed=True))
    assert (ended.code, ended.json["user_id"]) == (0, str(operator.token)[4:30])
    (address,) = opened
    code = address.rpartition("=")[2]
    assert address == f"{server}/device?code={code}"
    assert f"Open {server}/device and type this code: {code}" in ended.err
    assert "hcp_" not in ended.out + ended.err
    assert hci("whoami", "-q").out.strip() == str(operator.token)[4:30]


def test_a_user_who_denies_it_is_not_logged_in(
    server: str, operator: Client, opened: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    ended = logged_in(server, monkeypatch, deciding(operator, opened, is_allowed=False))
    assert (ended.code, "denied" in ended.err) == (4, True)
    assert hci("whoami").code == 2


STARTED = {
    "device_code": "hcd_x",
    "user_code": "BCDF-GHJK\x1b[31m",
    "verification_uri": "https://elsewhere.example",
    "verification_uri_complete": "https://elsewhere.example",
    "expires_in": 600,
    "interval": 5,
}
PENDING = answer({"code": "authorization_pending", "detail": "Not yet."}, status="409 Conflict")


@pytest.mark.parametrize(
    ("answers", "code", "said"),
    [
        ([answer(STARTED, status="201 Created"), PENDING], 4, "expired"),
        ([answer({**STARTED, "interval": None}, status="201 Created")], 5, "unknown form"),
        ([answer(STARTED, status="201 Created"), answer(b"", status="503 Away"), answer({"access_token": 3})], 5, ""),
        ([answer({"code": "rate_limited", "detail": "Too many."}, status="429 Wait", Retry_After="60")], 5, "Too many"),
    ],
)
def test_what_a_control_plane_answers_is_not_trusted(
    scripted: Scripted, opened: list[str], monkeypatch: pytest.MonkeyPatch, answers: list[Any], code: int, said: str
) -> None:
    scripted.answers = [answer({"version": "1"}), *answers]
    ended = logged_in(scripted.url, monkeypatch, lambda: None)
    assert (ended.code, said in ended.err, "\x1b" in ended.err) == (code, True, False), ended.err
    assert not any("elsewhere" in address for address in opened)


def test_an_older_control_plane_is_asked_for_a_token_instead(
    scripted: Scripted, operator: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    missing = answer({"code": "not_found", "detail": "Nothing there."}, status="404 Not Found")
    caller = {"kind": "token", "id": "x", "name": "x", "user_id": "u", "permissions": []}
    scripted.answers = [answer({"version": "1"}), missing, answer(caller)]
    monkeypatch.setattr("hci.commands.access.click.prompt", lambda *_, **__: str(operator.token))
    ended = logged_in(scripted.url, monkeypatch, lambda: None)
    assert (ended.code, json.loads(ended.out)["user_id"]) == (0, "u")
    assert str(operator.token).encode() in scripted.asked[-1]
