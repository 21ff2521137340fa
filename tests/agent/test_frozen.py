"""A guard lives on when its agent is frozen, and ends the step then."""

from __future__ import annotations

import secrets
import signal
import threading
import time
from pathlib import Path

import pytest

from agent import guard, processes
from agent.bundle import write_guard_program
from agent.process import Launcher
from tests.agent.conftest import AgentProcess, History, eventually
from tests.agent.fake_server import FakeControlPlane


def test_the_guard_of_a_frozen_agent_ends_the_step_and_the_agent_reports_nothing_about_it(
    agent: AgentProcess, plane: FakeControlPlane, history: History
) -> None:
    job = plane.add_job(history.url, run="(env -i setsid sleep 300 &); echo pid $$.; sleep 300")
    agent.start("--frozen-limit=1")
    plane.wait_for_output(job, "pid ")
    step = int(job.text.partition("pid ")[2].split(".")[0])
    # The agent confirms for longer than the limit.
    time.sleep(1.5)
    assert step in processes.process_table()
    agent.signal(signal.SIGSTOP)
    below = {one.pid for one in processes.descendants([agent.pid], processes.process_table())}
    eventually(lambda: step not in processes.process_table(), 5)
    left = [one for one in processes.descendants([agent.pid], processes.process_table()) if one.pid in below]
    assert len(left) == 1, "only the guard is left"
    heartbeats = len(plane.heartbeats)
    agent.signal(signal.SIGCONT)
    plane.wait_for(lambda: any(not heartbeat["running"] for heartbeat in plane.heartbeats[heartbeats:]))
    assert job.finish is None, "another agent may have the job: this one must not report it as failed"
    assert "because this agent was frozen" in agent.output
    assert not list((agent.state / "work").glob("agent-*/*"))


def test_a_control_plane_that_is_away_ends_no_step(
    agent: AgentProcess, plane: FakeControlPlane, history: History, tmp_path: Path
) -> None:
    job = plane.add_job(history.url, run=f"echo begun; while [ ! -e {tmp_path}/go ]; do sleep 0.1; done; echo done")
    agent.start("--frozen-limit=1")
    plane.wait_for_output(job, "begun")
    with plane.unreachable():
        time.sleep(2.5)
        (tmp_path / "go").touch()
    assert plane.finished(job, 30)["exit_code"] == 0
    assert "\ndone\n" in job.text


def test_a_full_spool_that_delays_the_output_ends_no_step(tmp_path: Path) -> None:
    write_guard_program(tmp_path)
    launcher = Launcher(program=tmp_path, marker=secrets.token_hex(8), grace=1, frozen_limit=0.4)
    running = launcher.guard()
    over = threading.Event()
    command = running.start(
        ["/bin/sh", "-c", "echo printed; sleep 1.2"],
        cwd=Path("/"),
        env={},
        output=lambda data: time.sleep(1),
        on_end=over.set,
    )
    assert over.wait(10)
    running.close()
    assert (command.exit_code, command.is_abandoned) == (0, False)


def test_the_time_for_which_the_whole_machine_was_suspended_does_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: clock[0])
    silence = guard._Silence(120.0)
    for _ in range(3):
        clock[0] += 36_000
        assert not silence.is_too_long()
    silence.end()
    looks = 0
    while not silence.is_too_long():
        clock[0] += silence.tick
        looks += 1
    assert clock[0] == 3 * 36_000 + 120
    assert looks == 8


def test_an_invalid_limit_is_refused(agent: AgentProcess) -> None:
    assert agent.start("--frozen-limit=0").exit_code() == 2
    assert "argument --frozen-limit: must be a number between 1 and 3600" in agent.output
