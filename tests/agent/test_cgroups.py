"""Control groups, which end processes that fork faster than the agent looks."""

from __future__ import annotations

import os
import secrets
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from agent import cgroups
from agent.cgroups import ControlGroups
from tests.agent.conftest import eventually

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="only Linux has control groups")


def group_of_test() -> Path | None:
    group = cgroups._own_group()
    return group if group is not None and os.access(group, os.W_OK) and (group / "cgroup.procs").exists() else None


HOPPER = """
import os, sys
open(sys.argv[1], "w").close()
while True:
    if os.fork():
        os._exit(0)
    os.setsid()
"""


@pytest.mark.skipif(group_of_test() is None, reason="this process may not make control groups")
def test_a_control_group_ends_processes_that_fork_faster_than_the_agent_looks(tmp_path: Path) -> None:
    groups = ControlGroups(cgroups._own_group(), secrets.token_hex(8))
    started = tmp_path / "started"
    gate = subprocess.Popen([sys.executable, "-c", "input()\n" + HOPPER, started], stdin=subprocess.PIPE)
    group = groups.enclose(gate.pid)
    assert group is not None
    assert gate.stdin is not None
    gate.stdin.write(b"\n")
    gate.stdin.close()
    eventually(started.exists)
    gate.wait()
    time.sleep(0.1)
    assert (group._path / "cgroup.procs").read_text()
    group.end()
    assert not group._path.exists()


@pytest.mark.skipif(group_of_test() is None, reason="this process may not make control groups")
def test_a_new_start_ends_the_processes_in_the_groups_of_an_earlier_run() -> None:
    marker = secrets.token_hex(8)
    left = subprocess.Popen(["sleep", "300"], env={}, start_new_session=True)
    group = ControlGroups(cgroups._own_group(), marker).enclose(left.pid)
    assert group is not None
    below = group._path / "below"
    below.mkdir()
    assert ControlGroups.find(marker).end_all() == 1
    assert left.wait(5) == -signal.SIGKILL
    assert not group._path.exists()


def test_without_control_groups_everything_works(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cgroups, "_KILL_LIMIT_SECONDS", 0.1)
    assert ControlGroups(None, "marker").enclose(os.getpid()) is None
    assert ControlGroups(tmp_path / "missing", "marker").enclose(os.getpid()) is None
    # A folder that is no control group.
    assert ControlGroups(tmp_path, "marker").enclose(os.getpid()) is None
