"""What other processes can read of the agent's secrets."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from agent import processes
from agent.bundle import agent_bundle
from tests.agent.conftest import AgentProcess, History, eventually
from tests.agent.fake_server import TOKEN, FakeControlPlane

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="only Linux has /proc")


def shown(pid: int) -> bytes:
    """What /proc shows of how the process began."""
    return Path(f"/proc/{pid}/cmdline").read_bytes() + Path(f"/proc/{pid}/environ").read_bytes()


@pytest.mark.parametrize(
    ("arguments", "isolated"), [([], False), ([f"--token={TOKEN}"], True), (["--token", TOKEN], False)]
)
def test_the_enrolment_token_is_out_of_proc_after_the_start(
    arguments: list[str], isolated: bool, agent: AgentProcess, plane: FakeControlPlane, history: History, tmp_path: Path
) -> None:
    job = plane.add_job(history.url, run="cat /proc/$PPID/environ /proc/$PPID/cmdline; echo begun; sleep 300")
    bundle = tmp_path / "agent.pyz"
    bundle.write_bytes(agent_bundle())
    command = [sys.executable, "-I", str(bundle)] if isolated else None
    agent.start(*arguments, command=command, token=None if arguments else TOKEN)
    plane.wait_for_output(job, "begun")
    assert plane.enrol_requests[0][1]["token"] == TOKEN
    below = [process.pid for process in processes.descendants([agent.pid], processes.process_table())]
    assert len(below) >= 2
    for pid in (agent.pid, *below):
        assert TOKEN.encode() not in shown(pid)
    assert TOKEN not in job.text
    # The other options survive.
    assert b"--name=tester" in shown(agent.pid)


def test_a_token_in_the_environment_is_removed_even_if_the_agent_needs_none(
    agent: AgentProcess, plane: FakeControlPlane
) -> None:
    agent.start()
    plane.wait_for(lambda: plane.heartbeats)
    agent.stop()
    count = len(plane.heartbeats)
    agent.start()
    plane.wait_for(lambda: len(plane.heartbeats) > count)
    assert TOKEN.encode() not in shown(agent.pid)


def test_a_token_that_is_too_long_for_a_pipe_is_refused(agent: AgentProcess) -> None:
    assert agent.start(token="x" * 70_000).exit_code() == 2
    assert "The enrolment token is invalid: it is too long." in agent.output


@pytest.mark.skipif(os.geteuid() != 0 or not shutil.which("python3", path="/usr/bin"), reason="needs two users")
def test_processes_of_the_same_user_cannot_read_the_agent_s_memory(tmp_path: Path) -> None:
    """The control plane does not answer here: the agent is enrolling, and has its token in memory."""
    place = Path("/tmp") / f"concealment-{os.getpid()}"
    place.mkdir()
    os.chown(place, 65534, 65534)
    (place / "agent.pyz").write_bytes(agent_bundle())
    command = ["/usr/bin/python3", str(place / "agent.pyz"), "--url=http://127.0.0.1:9", f"--state-dir={place}/state"]
    user = {"user": 65534, "group": 65534, "extra_groups": []}
    agent = subprocess.Popen(
        command,
        env={"HYBRID_CI_TOKEN": TOKEN, "PATH": "/usr/bin:/bin", "HOME": str(place), "XDG_RUNTIME_DIR": str(place)},
        stderr=subprocess.DEVNULL,
        **user,
    )  # type: ignore[call-overload]
    try:
        eventually(lambda: (place / "state" / "enrolment.json").exists())
        for name in ("environ", "mem", "maps"):
            read = subprocess.run(["/bin/cat", f"/proc/{agent.pid}/{name}"], capture_output=True, **user)  # type: ignore[call-overload]
            assert b"Permission denied" in read.stderr
    finally:
        agent.send_signal(signal.SIGKILL)
        agent.wait()
        shutil.rmtree(place)
