"""`manage.py release`: its output and its errors."""

from io import StringIO
from typing import Any

import pytest
from django.core.management import call_command
from django.core.management.base import CommandError

from controlplane.deployment.live import Live
from controlplane.infrastructure.clients import Account


def release(action: str, *arguments: str) -> str:
    output = StringIO()
    call_command("release", action, "--stage", "staging", *arguments, stdout=output)
    return output.getvalue()


def test_list_shows_each_versions_share_and_description(account: Account, function: Any) -> None:
    live = Live("staging", account)
    live.lend(live.move(live.state(), "2"), "3", 10)
    rows = [(row.split()[0], row[28:36].strip(), row[36:]) for row in release("list").splitlines()]
    assert rows == [("3", "10 %", "0.1.3 abc"), ("2", "90 %", "0.1.2 abc"), ("1", "before", "0.1.1 abc")]


@pytest.mark.ministack("moto's Lambda has no provisioned concurrency, which a rollback moves")
def test_rollback_prints_the_live_version(account: Account, function: Any) -> None:
    live = Live("staging", account)
    live.move(live.state(), "2")
    assert release("rollback") == "All requests go to version 1.\n"
    with pytest.raises(CommandError, match="No version is known that was live before 1"):
        release("rollback")


def test_a_shift_to_the_live_version_is_refused(account: Account, function: Any) -> None:
    with pytest.raises(CommandError, match="Version 1 is live already"):
        release("shift", "--to", "1")


@pytest.mark.parametrize("percent", ["0", "101", "-5"])
def test_an_invalid_percentage_is_refused(account: Account, function: Any, percent: str) -> None:
    with pytest.raises(CommandError, match="whole number from 1 to 100"):
        release("shift", "--to", "2", "--percent", percent)


def test_an_unknown_version_is_refused(account: Account, function: Any) -> None:
    with pytest.raises(CommandError, match="ResourceNotFoundException"):
        release("shift", "--to", "9", "--percent", "5")
    assert Live("staging", account).state().candidate is None
