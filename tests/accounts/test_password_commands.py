"""``manage.py set_password`` and ``unlock``, and what the commands of accounts do on Lambda."""

from contextlib import suppress

import pytest
from django.contrib.auth.hashers import check_password

from apps.accounts.models import User
from apps.accounts.selectors import invitation_by_token, user_by_email
from apps.accounts.services import invitation_accept_password, password_attempt_reserve, session_start, user_create
from apps.audit.selectors import audit_list
from controlplane.lambda_entry import handler
from controlplane.lib import clock
from controlplane.lib.actor import SYSTEM
from controlplane.lib.errors import ApplicationError, TooManyRequests
from tests.commands import command
from tests.conftest import PASSWORD

OTHER = "a-different-long-passphrase"
LAMBDA = {"AWS_LAMBDA_FUNCTION_NAME": "hybrid-ci-cd-staging"}


@pytest.fixture
def olga(tables: None) -> User:
    return user_create(email="olga@example.com", password=PASSWORD, name="Olga", role="operator", actor=SYSTEM)


def audited() -> list[str]:
    return [record.action for record in audit_list(day=clock.timestamp(clock.now())[:10]).records]


def fail_until_locked(address: str) -> None:
    with suppress(TooManyRequests):
        while True:
            password_attempt_reserve(address=address, email="olga@example.com")


def test_a_password_is_set_and_all_sessions_end(olga: User) -> None:
    session_start(user=olga, provider="password", device=None, address="192.0.2.1")
    done = command("set_password", "Olga@example.com", stdin=f"{OTHER}\n")
    assert (done.returncode, OTHER in done.stdout) == (0, False), done.stderr
    user = user_by_email("olga@example.com")
    assert check_password(OTHER, user.password)
    assert user.session_epoch == olga.session_epoch + 1
    assert "user.password_set" in audited()


@pytest.mark.parametrize(("email", "password"), [("olga@example.com", "short"), ("other@example.com", OTHER)])
def test_a_wrong_password_or_user_ends_with_one_sentence(olga: User, email: str, password: str) -> None:
    done = command("set_password", email, stdin=password)
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert done.stderr.startswith("CommandError: ")


def test_unlock_ends_the_lock_of_an_account_at_an_address_and_is_audited(olga: User) -> None:
    fail_until_locked("192.0.2.1")
    assert command("unlock", "--email", "OLGA@example.com", "--address", "192.0.2.1").returncode == 0
    password_attempt_reserve(address="192.0.2.1", email="olga@example.com")
    assert "rate_limit.ended" in audited()


def test_unlock_of_another_address_ends_no_other_lock(olga: User) -> None:
    fail_until_locked("192.0.2.1")
    assert command("unlock", "--address", "192.0.2.2").returncode == 0
    with pytest.raises(TooManyRequests):
        password_attempt_reserve(address="192.0.2.1", email="olga@example.com")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [((), "Name what to unlock"), (("--address", "somewhere"), "address: must be an IP address")],
)
def test_unlock_needs_what_it_can_unlock(tables: None, arguments: tuple[str, ...], message: str) -> None:
    done = command("unlock", *arguments)
    assert done.returncode == 1
    assert message in done.stderr


@pytest.mark.parametrize(
    "words",
    [
        ("enrolment_token",),
        ("create_token", "olga@example.com", "--name", "ci"),
        ("create_admin", "ada@example.com", "--invite"),
    ],
    ids=lambda words: words[0],
)
def test_on_lambda_a_secret_is_in_the_answer_and_never_in_the_log(
    olga: User, words: tuple[str, ...], capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    refused = command(*words, **LAMBDA)
    assert refused.returncode == 1
    assert "zappa manage STAGE 'COMMAND …'" in refused.stderr

    monkeypatch.setattr("controlplane.lambda_entry._handler", manage_event)
    monkeypatch.setenv("AWS_LAMBDA_FUNCTION_NAME", "hybrid-ci-cd-staging")
    secret = handler({"manage": " ".join(words)}, None)["output"].strip()
    assert "hc" in secret
    said = capfd.readouterr()
    assert secret not in said.out + said.err


def manage_event(event: dict[str, str], _context: object) -> object:
    from django.core.management import call_command

    call_command(*event["manage"].split(" "))
    return {}


def test_the_link_of_an_invited_admin_works(tables: None) -> None:
    done = command("create_admin", "ada@example.com", "--invite")
    path, _, token = done.stdout.strip().partition("#")
    assert path == "/invitation"
    user = invitation_accept_password(invitation=invitation_by_token(token), name="Ada", password=PASSWORD)
    assert (user.email, user.role) == ("ada@example.com", "admin")


def test_on_lambda_no_password_is_asked_for_and_the_message_says_what_works(olga: User) -> None:
    for words in (("create_admin", "ada@example.com"), ("set_password", "olga@example.com")):
        done = command(*words, stdin=PASSWORD, **LAMBDA)
        assert done.returncode == 1
        assert "create_admin EMAIL --invite" in done.stderr


def test_on_lambda_a_command_of_sql_says_what_to_use(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("controlplane.lambda_entry._handler", manage_event)
    with pytest.raises(ApplicationError, match="create_admin EMAIL"):
        handler({"manage": "createsuperuser"}, None)
