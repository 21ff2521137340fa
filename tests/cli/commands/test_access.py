"""Logging in and out, profiles, and where tokens are."""

import json
import stat
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest

from apps.accounts.selectors import user_get
from apps.accounts.services import api_token_create
from controlplane.lib.actor import SYSTEM
from tests.cli.conftest import Scripted, answer, hci
from tests.clients import Client
from tests.conftest import person


@pytest.fixture
def logged_in(server: str, operator: Client) -> Client:
    assert hci("login", "--server", server + "/", "--token-stdin", stdin=f"{operator.token}\n").code == 0
    return operator


def test_a_token_is_checked_kept_for_the_user_alone_and_then_used(
    server: str, logged_in: Client, settings_folder: Path
) -> None:
    for name in ("tokens.json", "config.json"):
        assert stat.S_IMODE((settings_folder / name).stat().st_mode) == 0o600
    assert stat.S_IMODE(settings_folder.stat().st_mode) == 0o700
    found = hci("whoami", "--json").json
    assert (found["server"], found["profile"], found["user_id"]) == (server, "default", str(logged_in.token)[4:30])
    assert "jobs.create" in hci("whoami").out
    assert str(logged_in.token) not in hci("whoami", "--json").out


def test_a_token_that_is_not_valid_is_refused_and_not_kept(server: str, settings_folder: Path) -> None:
    ended = hci("login", "--server", server, "--token-stdin", stdin="hcp_wrong\n")
    assert ended.code == 4
    assert "hcp_wrong" not in ended.err + ended.out
    assert not (settings_folder / "tokens.json").exists()
    for nonsense in ("", "two words\n", "grün\n", "x" * 5000):
        assert hci("login", "--server", server, "--token-stdin", stdin=nonsense).code == 2


def test_a_token_of_few_permissions_can_log_in(server: str, operator: Client) -> None:
    user = user_get(str(operator.token)[4:30])
    _, few = api_token_create(user=user, name="few", actor=SYSTEM, permissions=["jobs.read"])
    assert hci("login", "--server", server, "--token-stdin", stdin=few).code == 0
    assert hci("whoami", "--json").json["permissions"] == ["jobs.read"]
    assert hci("runs", "--json").json == {"runs": [], "next_cursor": None}
    refused = hci("run", "self")
    assert (refused.code, "permission" in refused.err) == (4, True)


def test_logging_in_says_where_to_make_a_token_if_there_is_no_terminal_or_no_server(server: str) -> None:
    assert "--token-stdin" in hci("login", "--server", server).err
    assert "--server" in hci("login").err
    for address in ("ftp://x", "ci.example.com", "https://a@b/", "http://[", "https://x/?q"):
        ended = hci("login", "--server", address, "--token-stdin", stdin="hcp_x")
        assert (ended.code, "must be an address" in ended.err) == (2, True)


def test_a_server_that_is_none_of_ours_gets_no_token(scripted: Scripted) -> None:
    scripted.answers = [answer(b"<html>", Content_Type="text/html")]
    assert hci("login", "--token-stdin", stdin="hcp_x").code == 5
    assert all(b"authorization" not in request.lower() for request in scripted.asked)


def test_a_token_is_sent_to_no_other_server_than_its_own(
    logged_in: Client, scripted: Scripted, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("HCI_TOKEN")
    ended = hci("runs", "--server", scripted.url)
    assert (ended.code, ended.err.splitlines()[0]) == (4, f"hci: There is no token for {scripted.url}.")
    assert scripted.asked == []


def test_logging_out_forgets_the_token_and_says_that_it_is_still_valid(
    server: str, logged_in: Client, settings_folder: Path
) -> None:
    ended = hci("logout")
    assert (ended.code, f"{server}/account/tokens" in ended.err) == (0, True)
    assert str(logged_in.token) not in (settings_folder / "tokens.json").read_text()
    assert hci("runs").code == 2
    assert hci("logout").code == 0


def test_each_profile_has_its_server_and_token(server: str, logged_in: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    other = person(server, "viewer")
    assert hci("login", "--profile", "work", "--server", server, "--token-stdin", stdin=other.token).code == 0
    users = [hci("whoami", "--json", "--profile", name).json["user_id"] for name in ("default", "work")]
    assert users == [str(client.token)[4:30] for client in (logged_in, other)]
    monkeypatch.setenv("HCI_PROFILE", "work")
    assert hci("whoami", "-q").out.strip() == users[1]
    assert hci("whoami", "-q", "--profile", "default").out.strip() == users[0]
    assert hci("whoami", "--profile", "nothing").code == 2
    assert hci("whoami", "--profile", "../x").code == 2


def test_variables_win_over_the_profile(server: str, logged_in: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HCI_TOKEN", "hcp_other")
    assert hci("whoami").code == 4
    monkeypatch.setenv("HCI_TOKEN", str(logged_in.token))
    monkeypatch.setenv("HCI_SERVER", server)
    assert hci("runs").code == 0


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620])
def test_a_file_of_tokens_that_others_can_read_or_change_is_refused(
    logged_in: Client, settings_folder: Path, mode: int
) -> None:
    (settings_folder / "tokens.json").chmod(mode)
    ended = hci("runs")
    assert (ended.code, "chmod 600" in ended.err) == (4, True)


@pytest.mark.parametrize("content", ["{", "[]", "[" * 100_000, '{"profiles": 3}', "\udcff"])
def test_damaged_files_are_named(logged_in: Client, settings_folder: Path, content: str) -> None:
    for name in ("tokens.json", "config.json"):
        path = settings_folder / name
        before = path.read_bytes()
        path.write_bytes(content.encode(errors="surrogateescape"))
        ended = hci("runs")
        assert (ended.code in (1, 2, 4), name in ended.err or content == '{"profiles": 3}') == (True, True), ended.err
        path.write_bytes(before)


class Keyring(ModuleType):
    """The package keyring, with a keyring that keeps secrets, or that fails."""

    def __init__(self, *, fails: bool = False) -> None:
        super().__init__("keyring")
        self.kept: dict[tuple[str, str], str] = {}
        self.fails = fails
        self.priority = 5

    def get_keyring(self) -> "Keyring":
        return self

    def set_password(self, service: str, account: str, token: str) -> None:
        if self.fails:
            raise RuntimeError("locked")
        self.kept[service, account] = token

    def get_password(self, service: str, account: str) -> str | None:
        return self.kept.get((service, account))

    def delete_password(self, service: str, account: str) -> None:
        del self.kept[service, account]


def install(keyring: Keyring, monkeypatch: pytest.MonkeyPatch) -> Keyring:
    empty = SimpleNamespace(Keyring=int)
    backends = ModuleType("keyring.backends")
    vars(backends).update(fail=empty, null=empty)
    monkeypatch.setitem(sys.modules, "keyring", keyring)
    monkeypatch.setitem(sys.modules, "keyring.backends", backends)
    return keyring


def test_the_systems_keyring_has_the_token_where_it_works(
    server: str, operator: Client, settings_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    keyring = install(Keyring(), monkeypatch)
    assert hci("login", "--server", server, "--token-stdin", stdin=operator.token).code == 0
    assert keyring.kept == {("hci", f"default {server}"): operator.token}
    assert not (settings_folder / "tokens.json").exists()
    assert hci("whoami").code == 0
    assert hci("logout").code == 0
    assert keyring.kept == {}


def test_a_keyring_that_keeps_nothing_is_passed_over_and_one_that_is_gone_is_named(
    server: str, operator: Client, settings_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(Keyring(fails=True), monkeypatch)
    assert hci("login", "--server", server, "--token-stdin", stdin=operator.token).code == 0
    assert json.loads((settings_folder / "tokens.json").read_text())["default"]["token"] == operator.token
    install(Keyring(), monkeypatch)
    assert hci("login", "--server", server, "--token-stdin", stdin=operator.token).code == 0
    assert "default" not in json.loads((settings_folder / "tokens.json").read_text())
    monkeypatch.setitem(sys.modules, "keyring", None)
    ended = hci("whoami")
    assert (ended.code, "keyring" in ended.err) == (1, True)
