"""A guard lives on when its agent is frozen, and ends the step then."""

from __future__ import annotations

import signal
import time
from pathlib import Path

from agent import processes
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

    def left() -> list[processes.Process]:
        table = processes.process_table()
        return [one for one in processes.descendants([agent.pid], table) if one.pid in below]

    # The guard ends the step first, and then what left the step's session.
    eventually(lambda: len(left()) == 1, 5)
    assert step not in processes.process_table(), "only the guard is left"
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


def test_an_invalid_limit_is_refused(agent: AgentProcess) -> None:
    assert agent.start("--frozen-limit=0").exit_code() == 2
    assert "argument --frozen-limit: must be a number between 1 and 3600" in agent.output
