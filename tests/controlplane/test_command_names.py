"""Django's commands that make no sense here say which one to use."""

from itertools import pairwise

import pytest
from django.core.management import get_commands

from controlplane.lib.command_names import REFUSED_COMMANDS, command_instead
from tests.commands import command, manage

NAMED = ["changepassword", "createsuperuser", "dbshell", "dumpdata", "flush", "inspectdb", "loaddata"]
NAMED += ["makemigrations", "migrate", "sqlmigrate"]


def test_a_command_that_makes_no_sense_says_which_one_to_use_and_fails() -> None:
    done = manage("createsuperuser", "--email", "ada@example.com")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "CommandError: Users are not in SQL. Type: manage.py create_admin EMAIL\n"


@pytest.mark.parametrize("name", NAMED)
def test_each_of_them_has_its_sentence(name: str) -> None:
    assert command_instead(name)


def test_each_of_them_is_a_command_of_django_and_names_commands_that_exist() -> None:
    known = set(get_commands())
    # Sessions are not Django's here, so this one is not installed.
    assert REFUSED_COMMANDS - known == {"clearsessions"}
    for name in REFUSED_COMMANDS:
        words = command_instead(name).replace("`", " ").split()
        named = [after for word, after in pairwise(words) if word == "manage.py"]
        assert set(named) <= known


@pytest.mark.parametrize("seconds", ["0", "-5", "x"])
def test_a_sweep_happens_every_second_at_most(seconds: str) -> None:
    done = command("sweep", "--every", seconds)
    assert done.returncode == 2
    assert "at least 1" in done.stderr
