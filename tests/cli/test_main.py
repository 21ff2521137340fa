"""What every command has: help, exit codes, the shared options, completion, and errors without a traceback."""

import re
from pathlib import Path

import click
import pytest
from hci.errors import Exit
from hci.main import cli

from tests.cli.conftest import Scripted, hci

PAGE = (Path(__file__).parents[2] / "docs" / "cli.md").read_text()


def commands(group: click.Group = cli, prefix: str = "hci") -> list[tuple[str, click.Command]]:
    found = []
    for name, command in group.commands.items():
        path = f"{prefix} {name}"
        below = commands(command, path) if isinstance(command, click.Group) else []
        found += below if below and not command.invoke_without_command else [(path, command), *below]  # type: ignore[attr-defined]
    return found


@pytest.mark.parametrize(("path", "command"), commands(), ids=[path for path, _ in commands()])
def test_each_command_explains_itself_and_is_in_the_manual(path: str, command: click.Command) -> None:
    assert command.help
    row = re.search(rf"^\| `{re.escape(path)}[^`]*` \|", PAGE, re.MULTILINE)
    assert row, path
    if path != "hci completion":
        names = {option for parameter in command.params for option in parameter.opts}
        assert {"--json", "--quiet", "--profile", "--server", "--color"} <= names
    options = {one for parameter in command.params for one in parameter.opts if one.startswith("--")}
    assert options - {"--colour"} <= set(re.findall(r"--[a-z-]+", PAGE)), path


def test_the_help_and_the_manual_have_every_exit_code() -> None:
    shown = hci("--help").out
    for code in (0, 1, 2, 3, 4, 5, 130):
        assert re.search(rf"^ +{code} ", shown, re.MULTILINE)
    for exit_code in Exit:
        assert re.search(rf"^\| {exit_code.value} \|", PAGE, re.MULTILINE)


def test_a_wrong_command_is_a_usage_error(scripted: Scripted) -> None:
    for wrong in (["fly"], ["runs", "--fly"], ["logs"], ["runs", "--limit", "0"], ["runs", "--status", "odd"]):
        ended = hci(*wrong)
        assert (ended.code, ended.out) == (2, "")
        assert "Traceback" not in ended.err
    assert hci("--version").out.startswith("hci")
    assert hci("logs", "--help").code == 0
    assert scripted.asked == []


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_shells_complete_it(shell: str) -> None:
    assert "_HCI_COMPLETE" in hci("completion", shell).out


def test_a_bug_is_no_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: object) -> None:
        raise ZeroDivisionError("secret")

    monkeypatch.setattr("hci.session.Session.place", fails)
    ended = hci("runs")
    assert (ended.code, ended.out) == (1, "")
    assert ended.err == "hci: internal error: ZeroDivisionError. HCI_DEBUG=1 shows where.\n"
