"""The systemd unit in the documentation fits the agent."""

from __future__ import annotations

import shlex
import shutil
import subprocess
from configparser import RawConfigParser
from pathlib import Path

import pytest

from agent.options import options_parser
from tests.agent import test_step_users
from tests.agent.conftest import ROOT

UNIT = ROOT / "docs" / "systemd" / "hybrid-ci-agent.service"


def values(name: str) -> list[str]:
    """All values of a setting, which may be given several times."""
    return [line.partition("=")[2] for line in UNIT.read_text().splitlines() if line.startswith(f"{name}=")]


def test_the_unit_uses_only_options_and_variables_that_the_agent_knows() -> None:
    (command,) = values("ExecStart")
    words = shlex.split(command)
    options = options_parser().parse_args(words[words.index("/opt/hybrid-ci/agent.pyz") + 1 :])
    assert options.slots == len(options.step_user) == 2
    known = {f"HYBRID_CI_{name.upper()}" for name in vars(options)}
    assert {value.partition("=")[0] for value in values("Environment")} <= known | {"HOME"}


def test_the_unit_gives_the_capabilities_that_are_tested_and_documented() -> None:
    tested = {f"CAP_{name.lstrip('+').upper()}" for name in test_step_users.CAPABILITIES.split(",")}
    page = (ROOT / "docs" / "security.md").read_text()
    for name in ("AmbientCapabilities", "CapabilityBoundingSet"):
        assert set(values(name)[0].split()) == tested
    assert all(f"`{name}`" in page for name in tested)


def test_the_unit_restarts_the_agent_only_where_that_helps() -> None:
    parser = RawConfigParser(strict=False)
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    parser.read(UNIT)
    codes = {int(code) for code in parser["Service"]["RestartPreventExitStatus"].split()}
    assert codes == {2, 3, 4, 5}
    assert parser["Service"]["KillMode"] == "mixed"


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="needs systemd-analyze")
def test_systemd_finds_no_mistake_in_the_unit(tmp_path: Path) -> None:
    copy = shutil.copy(UNIT, tmp_path)
    checked = subprocess.run(["systemd-analyze", "verify", copy], capture_output=True, text=True)
    lines = [line for line in checked.stderr.splitlines() if UNIT.name in line and "not executable" not in line]
    assert lines == []
