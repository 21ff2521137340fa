"""What other processes can read of the agent's secrets."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from agent import concealment, processes
from agent.bundle import agent_bundle
from agent.errors import UsageError
from tests.agent.conftest import ROOT, AgentProcess, History, eventually
from tests.agent.fake_server import TOKEN, FakeControlPlane
from tests.engines import path_without_engine

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="only Linux has /proc")


# A token as most people give it.
GIVEN = {"HYBRID_CI_TOKEN": TOKEN}


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
    agent.start(*arguments, command=command, token=None, environment={} if arguments else GIVEN)
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
    agent.start(token=None, environment=GIVEN)
    plane.wait_for(lambda: len(plane.heartbeats) > count)
    assert TOKEN.encode() not in shown(agent.pid)


def test_a_token_that_is_too_long_for_a_pipe_is_refused(agent: AgentProcess) -> None:
    assert agent.start(token=None, environment={"HYBRID_CI_TOKEN": "x" * 70_000}).exit_code() == 2
    assert "The enrolment token is invalid: it is too long." in agent.output


@pytest.mark.skipif(os.geteuid() != 0 or not shutil.which("python3", path="/usr/bin"), reason="needs two users")
def test_processes_of_the_same_user_cannot_read_the_agent_s_memory(tmp_path: Path) -> None:
    """The control plane does not answer here: the agent is enrolling, and has its token in memory."""
    place = Path("/tmp") / f"concealment-{os.getpid()}"
    place.mkdir()
    os.chown(place, 65534, 65534)
    (place / "agent.pyz").write_bytes(agent_bundle())
    command = ["/usr/bin/python3", str(place / "agent.pyz"), "--url=http://127.0.0.1:9", f"--state-dir={place}/state"]
    environment = {"HYBRID_CI_TOKEN": TOKEN, "PATH": path_without_engine(), "HOME": str(place)}
    user = {"user": 65534, "group": 65534, "extra_groups": []}
    agent = subprocess.Popen(
        command,
        env={**environment, "XDG_RUNTIME_DIR": str(place)},
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


# --- the same program without the token -------------------------------------------------------------------------------


class Executed(Exception):
    """In place of the program that would run now."""


@pytest.fixture
def executed(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Any]]:
    """The program, arguments and environment with which the process is replaced."""
    calls: list[Any] = []

    def execve(program: str, arguments: list[str], environment: dict[str, str]) -> None:
        calls.append((program, arguments, environment))
        raise Executed

    monkeypatch.setattr(os, "execve", execve)
    yield calls
    for _, _, environment in calls:
        with suppress(OSError):
            os.close(int(environment["HYBRID_CI_TOKEN_FD"]))


def test_the_token_goes_through_a_pipe_that_is_read_once(executed: list[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HYBRID_CI_TOKEN", "secret")
    monkeypatch.setenv("OTHER", "stays")
    monkeypatch.setattr(sys, "orig_argv", ["python3", "-I", "-m", "agent", "--name=x", "--token=secret"])
    with pytest.raises(Executed):
        concealment.start_again_without_token(["--name=x", "--token=secret"], "secret")
    ((program, arguments, environment),) = executed
    assert (program, arguments) == (sys.executable, [sys.executable, "-I", "-m", "agent", "--name=x"])
    assert environment["OTHER"] == "stays"
    assert "HYBRID_CI_TOKEN" not in environment
    assert "secret" not in str(executed)
    descriptor = environment["HYBRID_CI_TOKEN_FD"]
    assert os.get_inheritable(int(descriptor))
    monkeypatch.setenv("HYBRID_CI_TOKEN_FD", descriptor)
    assert concealment.inherited_token() == "secret"
    assert concealment.inherited_token() is None
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(int(descriptor))


@pytest.mark.parametrize(("size", "is_refused"), [(4096, False), (4097, True)])
def test_a_token_is_at_most_as_long_as_a_pipe_takes(executed: list[Any], size: int, is_refused: bool) -> None:
    with pytest.raises(UsageError if is_refused else Executed):
        concealment.start_again_without_token([], "x" * size)


@pytest.mark.parametrize(
    ("arguments", "variable", "token"),
    [
        (["--name", "x"], None, None),
        (["--name", "x"], "secret", "secret"),
        (["--name", "x"], "", None),
        (["--token", "first", "--token=last"], "secret", "last"),
        (["--token=first", "--token", "last", "--name=x"], None, "last"),
        (["--token="], "secret", None),
        (["--token"], "secret", None),
        (["--token-file=path", "--tokens=1", "--name=--token"], None, None),
    ],
)
def test_the_token_is_the_last_one_of_the_arguments_or_else_the_environment_s(
    arguments: list[str], variable: str | None, token: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("HYBRID_CI_TOKEN", raising=False)
    if variable is not None:
        monkeypatch.setenv("HYBRID_CI_TOKEN", variable)
    assert concealment.given_token(arguments) == token


def test_the_process_that_is_replaced_imports_nothing_of_the_program() -> None:
    code = "import sys, agent.__main__; print(*sorted(name for name in sys.modules if name.startswith('agent')))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["agent", "agent.__main__", "agent.concealment", "agent.errors"]


@pytest.mark.parametrize(
    ("arguments", "kept"),
    [
        (["--name", "x"], ["--name", "x"]),
        (["--token", "secret", "--name", "x"], ["--name", "x"]),
        (["--name", "x", "--token=secret"], ["--name", "x"]),
        (["--token=secret", "--token", "other", "--once"], ["--once"]),
        (["--once", "--token"], ["--once"]),
        (["--tokens=1", "--name=--token"], ["--tokens=1", "--name=--token"]),
    ],
)
def test_all_options_but_the_token_stay(arguments: list[str], kept: list[str]) -> None:
    assert concealment._without_token(arguments) == kept


def test_a_python_that_does_not_know_its_own_arguments_finds_them_in_proc_or_in_its_flags(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delattr(sys, "orig_argv")
    words = Path("/proc/self/cmdline").read_bytes().split(b"\0")[1:-1]
    assert concealment._program(0) == [sys.executable, *map(os.fsdecode, words)]
    monkeypatch.setattr(Path, "exists", lambda _: False)
    monkeypatch.setattr(sys, "argv", ["agent.pyz", "--once"])
    found = concealment._program(1)
    assert (found[0], found[-1]) == (sys.executable, "agent.pyz")


def test_the_words_of_the_program_end_where_its_own_arguments_begin(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "orig_argv", ["python3", "agent.pyz", "--once", "--name=x"])
    assert concealment._program(2) == [sys.executable, "agent.pyz"]
    assert concealment._program(0) == [sys.executable, "agent.pyz", "--once", "--name=x"]
