"""``manage.py create_token``, ``revoke_token``, ``list_sessions`` and ``revoke_sessions``."""

import re
from typing import Any

import pytest

from apps.accounts.models import User
from apps.accounts.selectors import api_token_list, session_list
from apps.accounts.services import session_start, user_create
from apps.audit.selectors import audit_list
from controlplane.lib import clock
from controlplane.lib.actor import SYSTEM
from controlplane.lib.ids import new_id
from tests.clients import Client
from tests.commands import command, manage
from tests.conftest import PASSWORD

# A process writes to the tables of this test, too.
STAGE = "test"


@pytest.fixture
def olga(server: str) -> User:
    return user_create(email="olga@example.com", password=PASSWORD, name="Olga", role="operator", actor=SYSTEM)


def acts() -> list[str]:
    return [
        f"{record.actor_kind} {record.action}" for record in audit_list(day=clock.timestamp(clock.now())[:10]).records
    ]


def test_a_token_made_by_command_works_and_is_all_that_goes_to_standard_output(server: str, olga: User) -> None:
    ended = manage("create_token", "olga@example.com", "--name", "ci", "--permission", "jobs.read", STAGE=STAGE)
    assert ended.returncode == 0, ended.stderr
    assert re.fullmatch(r"hcp_[A-Za-z0-9_-]{70}\n", ended.stdout)
    program = Client(server, ended.stdout.strip())
    assert program.get("/jobs").status_code == 200
    assert program.get("/agents").status_code == 403
    (token,) = api_token_list(olga.user_id)
    assert token.token_id in ended.stderr
    assert ended.stdout.strip() not in ended.stderr
    assert 89 <= (token.expires_at - clock.now()).days <= 90
    assert acts()[:2] == ["token access.refused", "system api_token.created"]


def test_a_token_may_be_made_for_ever(olga: User) -> None:
    assert command("create_token", "olga@example.com", "--name", "ci", "--days", "0").returncode == 0
    assert api_token_list(olga.user_id)[0].expires_at is None


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("nobody@example.com", "--name", "ci"), "No user has the address nobody@example.com."),
        (("olga@example.com", "--name", ""), "name: must have 1 to 100 printable characters"),
        (("olga@example.com", "--name", "ci", "--days", "-1"), "expires_at: must be in the future"),
        (
            ("olga@example.com", "--name", "ci", "--days", "9999999999"),
            "--days is too large. Use 0 for a token that does not expire.",
        ),
        (
            ("olga@example.com", "--name", "ci", "--permission", "accounts.manage"),
            "permissions: must be permissions that the token's owner has",
        ),
    ],
)
def test_a_token_that_cannot_be_is_refused_with_one_sentence(
    olga: User, arguments: tuple[str, ...], message: str
) -> None:
    ended = command("create_token", *arguments)
    assert (ended.returncode, ended.stderr, ended.stdout) == (1, f"CommandError: {message}\n", "")
    assert api_token_list(olga.user_id) == []


def test_a_token_is_revoked_by_its_id(server: str, olga: User) -> None:
    made = command("create_token", "olga@example.com", "--name", "ci")
    (token,) = api_token_list(olga.user_id)
    ended = command("revoke_token", token.token_id)
    assert (ended.returncode, ended.stdout) == (0, "Revoked the token ci.\n")
    assert Client(server, made.stdout.strip()).get("/jobs").status_code == 401
    assert acts()[0] == "system api_token.revoked"


def test_a_token_that_is_not_there_cannot_be_revoked(olga: User) -> None:
    ended = command("revoke_token", new_id())
    assert (ended.returncode, ended.stderr) == (1, "CommandError: There is no such API token.\n")


def test_sessions_are_listed_and_ended(server: str, olga: User) -> None:
    browser = Client(server)
    session = session_start(user=olga, provider="password", device="Firefox on Linux", address="192.0.2.7")
    browser.session.cookies.set("sessionid", session.token)
    assert browser.get("/jobs").status_code == 200
    listed = command("list_sessions", "olga@example.com")
    assert listed.returncode == 0, listed.stderr
    assert len(listed.stdout.splitlines()) == 1
    assert "192.0.2.7  Firefox on Linux" in listed.stdout
    assert session.token not in listed.stdout
    ended = command("revoke_sessions", "OLGA@example.com")
    assert (ended.returncode, ended.stdout) == (0, "Signed OLGA@example.com out everywhere.\n")
    assert session_list(olga.user_id).sessions == []
    assert browser.get("/jobs").status_code == 401
    assert acts()[0] == "system user.signed_out_everywhere"
    again = command("list_sessions", "olga@example.com")
    assert (again.returncode, again.stdout) == (0, "")
    assert "has no sessions" in again.stderr


def test_sessions_in_the_servers_memory_are_not_said_to_be_none(olga: User, settings: Any) -> None:
    settings.SESSION_STORE = "memory"
    ended = command("list_sessions", "olga@example.com")
    assert ended.returncode == 1
    assert "only the server's process can list its sessions" in ended.stderr


@pytest.mark.parametrize("name", ["list_sessions", "revoke_sessions"])
def test_an_unknown_user_is_refused(olga: User, name: str) -> None:
    ended = command(name, "nobody@example.com")
    assert (ended.returncode, ended.stderr) == (1, "CommandError: No user has the address nobody@example.com.\n")


@pytest.mark.parametrize("name", ["create_token", "revoke_token", "list_sessions", "revoke_sessions", "prune"])
def test_every_command_explains_itself(name: str) -> None:
    ended = command(name, "--help")
    assert ended.returncode == 0
    assert f"manage.py {name}" in ended.stdout
