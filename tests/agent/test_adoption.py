"""A step that kills its guard leaves nothing behind."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent import processes
from agent.adoption import Adoption
from tests.agent.conftest import AgentProcess, History, eventually
from tests.agent.fake_server import FakeControlPlane
from tests.agent.test_cgroups import group_of_test

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="only Linux has subreapers")


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
    finish = plane.finished(job)
    assert (finish["exit_code"], finish["agent_fault"]) == (137, None), finish
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


# --- which children are adopted ---------------------------------------------------------------------------------------


@pytest.fixture
def adopting() -> Iterator[Adoption]:
    """An adoption of this process, which must reap what it adopts."""
    adopting = Adoption()
    adopting.begin()
    yield adopting
    ctypes.CDLL(None).prctl(36, 0, 0, 0, 0)


def orphan(marker: Path) -> int:
    """The number of a process in a session of its own whose parent has ended, and which this process adopts."""
    script = f"(setsid sh -c 'echo $$ >{marker}.part; mv {marker}.part {marker}; exec sleep 300' &)"
    subprocess.run(["/bin/sh", "-c", script], check=True, start_new_session=True)
    eventually(marker.exists)
    return int(marker.read_text())


def is_there(pid: int) -> bool:
    return pid in processes.process_table(zombies=True)


def test_orphans_are_killed_and_reaped_and_own_children_are_not(adopting: Adoption, tmp_path: Path) -> None:
    guard = adopting.start_guard(["sleep", "300"])
    child = subprocess.Popen(["sleep", "300"])
    try:
        assert os.getsid(guard.pid) == guard.pid
        left = [orphan(tmp_path / name) for name in ("one", "two")]
        adopting.end_orphans()
        assert not any(is_there(pid) for pid in left)
        assert (guard.poll(), child.poll()) == (None, None)
        # A guard that is forgotten counts as any other child in another session.
        adopting.forget_guard(guard.pid)
        adopting.forget_guard(guard.pid)
        adopting.end_orphans()
        assert not is_there(guard.pid)
        assert child.poll() is None
    finally:
        child.kill()
        child.wait()
        guard.poll()


def test_a_child_from_before_the_adoption_is_no_orphan() -> None:
    child = subprocess.Popen(["sleep", "300"], start_new_session=True)
    adopting = Adoption()
    adopting.begin()
    try:
        adopting.end_orphans()
        assert child.poll() is None
    finally:
        ctypes.CDLL(None).prctl(36, 0, 0, 0, 0)
        child.kill()
        child.wait()


def test_an_adoption_that_has_not_begun_ends_nothing() -> None:
    child = subprocess.Popen(["sleep", "300"], start_new_session=True)
    Adoption().end_orphans()
    assert child.poll() is None
    child.kill()
    child.wait()


def test_the_descendants_of_an_orphan_are_killed_with_it(adopting: Adoption, tmp_path: Path) -> None:
    below = tmp_path / "below"
    script = f"(setsid sh -c 'sh -c \"echo \\$\\$ >{below}.part; mv {below}.part {below}; exec sleep 300\"; :' &)"
    subprocess.run(["/bin/sh", "-c", script], check=True, start_new_session=True)
    eventually(below.exists)
    adopting.end_orphans()
    assert not is_there(int(below.read_text()))


def test_an_orphan_that_cannot_be_killed_is_given_up_after_ten_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: clock[0])
    monkeypatch.setattr(time, "sleep", lambda _: clock.__setitem__(0, clock[0] + 1))
    adopting = Adoption()
    looks: list[bool] = []

    def look() -> bool:
        looks.append(True)
        return True

    monkeypatch.setattr(adopting, "_end_once", look)
    adopting._is_on = True
    adopting.end_orphans()
    assert len(looks) == 11
