"""A step that kills its guard leaves nothing behind."""

from __future__ import annotations

import os
import secrets
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from agent import cgroups, processes
from agent.cgroups import ControlGroups
from tests.agent.conftest import AgentProcess, History, eventually
from tests.agent.fake_server import FakeControlPlane

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="only Linux has subreapers")


def group_of_test() -> Path | None:
    group = cgroups._own_group()
    return group if group is not None and os.access(group, os.W_OK) and (group / "cgroup.procs").exists() else None


# Each leaves a process behind that has no marker, is in a session of its own and is no child of the step.
ESCAPES = {
    "double fork": "(env -i setsid sh -c 'echo $$ >>{pids}; exec sleep 300' &)",
    "a fork in a fork in a fork": "(env -i setsid sh -c '(setsid sh -c \"echo \\$\\$ >>{pids}; exec sleep 300\" &)' &)",
    "changed environment": f"(env {processes.MARKER_VARIABLE}=other setsid sh -c 'echo $$ >>{{pids}}; sleep 300; :' &)",
    "ignores signals": "(env -i setsid sh -c 'trap \"\" HUP INT TERM; echo $$ >>{pids}; while :; do sleep 1; done' &)",
    "stopped": "(env -i setsid sh -c 'echo $$ >>{pids}; kill -STOP $$; sleep 300' &)",
}


def attack(pids: Path) -> str:
    lines = [escape.format(pids=pids) for escape in ESCAPES.values()]
    wait = f"while [ $(cat {pids} | wc -l) -lt {len(lines)} ]; do sleep 0.05; done"
    return "\n".join([f"touch {pids}", *lines, wait, "kill -9 $PPID", "sleep 300"])


@pytest.mark.parametrize("has_cgroups", [False, True])
def test_a_step_that_kills_its_guard_leaves_nothing_behind(
    has_cgroups: bool, agent: AgentProcess, plane: FakeControlPlane, history: History, tmp_path: Path
) -> None:
    if has_cgroups and group_of_test() is None:
        pytest.skip("this process may not make control groups")
    pids = tmp_path / "pids"
    job = plane.add_job(history.url, run=attack(pids))
    # Another job runs on.
    other = plane.add_job(history.url, run=f"while [ ! -e {tmp_path}/go ]; do sleep 0.1; done; echo unharmed")
    # Without this, the agent has groups where it may make them.
    hide = "from agent import cgroups; cgroups._own_group = lambda: None; "
    code = f"import sys; {'' if has_cgroups else hide}from agent.__main__ import main; sys.exit(main())"
    agent.start("--slots=2", command=[sys.executable, "-c", code])
    assert plane.finished(job)["exit_code"] == 137
    numbers = [int(word) for word in pids.read_text().split()]
    assert len(numbers) == len(ESCAPES)
    eventually(lambda: not set(numbers).intersection(processes.process_table()), 5)
    (tmp_path / "go").touch()
    assert plane.finished(other)["exit_code"] == 0
    assert "\nunharmed\n" in other.text
    below = processes.process_table(zombies=True).values()
    eventually(lambda: not [one for one in below if one.parent == agent.pid and one.pid in numbers])


def test_a_child_that_the_agent_had_from_its_start_is_not_an_orphan(
    agent: AgentProcess, plane: FakeControlPlane, history: History, tmp_path: Path
) -> None:
    helper = tmp_path / "helper"
    wrapper = f'setsid sleep 300 & echo $! >{helper}; exec {sys.executable} -m agent "$@"'
    job = plane.add_job(history.url, run=attack(tmp_path / "pids"))
    agent.start(command=["/bin/sh", "-c", wrapper, "sh"])
    assert plane.finished(job)["exit_code"] == 137
    pid = int(helper.read_text())
    assert pid in processes.process_table()
    os.kill(pid, signal.SIGKILL)


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
