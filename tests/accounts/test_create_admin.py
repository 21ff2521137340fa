"""``manage.py create_admin``."""

import pytest

from apps.accounts.models import User
from apps.accounts.selectors import user_by_email
from tests.commands import command
from tests.conftest import PASSWORD

pytestmark = pytest.mark.usefixtures("tables")


def test_the_password_may_come_from_standard_input() -> None:
    ended = command("create_admin", "Ada@example.com", "--name", "Ada", stdin=f"{PASSWORD}\n")
    assert ended.returncode == 0, ended.stderr
    assert PASSWORD not in ended.stdout
    user = user_by_email("ada@example.com")
    assert (user.name, user.role, user.is_active) == ("Ada", "admin", True)


def test_the_password_may_come_from_the_environment() -> None:
    assert command("create_admin", "ada@example.com", ADMIN_PASSWORD=PASSWORD).returncode == 0
    assert user_by_email("ada@example.com") is not None


def test_the_password_is_not_taken_from_the_command_line() -> None:
    assert command("create_admin", "ada@example.com", "--password", PASSWORD).returncode != 0
    assert list(User.scan()) == []


@pytest.mark.parametrize(("email", "password"), [("no address", PASSWORD), ("ada@example.com", "short"), ("a@b.c", "")])
def test_bad_input_ends_with_one_sentence(email: str, password: str) -> None:
    ended = command("create_admin", email, stdin=password)
    assert ended.returncode == 1
    assert ended.stderr.startswith("CommandError: ")
    assert "Traceback" not in ended.stderr
    assert list(User.scan()) == []


def test_a_taken_address_is_reported() -> None:
    command("create_admin", "ada@example.com", ADMIN_PASSWORD=PASSWORD)
    again = command("create_admin", "ada@example.com", ADMIN_PASSWORD=PASSWORD)
    assert again.stderr == "CommandError: There is a user with this e-mail address already.\n"
