"""A git repository with a history, a fake control plane, and agents as real processes."""

from __future__ import annotations

import os
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from agent import processes
from agent.guard_program import write_guard_program
from agent.process import Guard, Launcher
from tests.agent.fake_server import TOKEN, FakeControlPlane
from tests.agent.peers import _connections_closed, peer  # noqa: F401 — fixtures
from tests.engines import path_without_engine
from tests.repositories import BareRepository, Entry, commit_stream, ref_stream, tag_stream

ROOT = Path(__file__).resolve().parent.parent.parent


class History(BareRepository):
    """A repository with three commits on `main`, a tag on the second, and some odd refs."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder / "repository.git")
        self.commits = self.write(
            *(
                commit_stream("main", {"number": b"%d\n" % mark}, on=None if mark == 1 else f":{mark - 1}", mark=mark)
                for mark in (1, 2, 3)
            ),
            tag_stream("v1", ":2"),
            ref_stream("refs/heads/feature/slash", ":2"),
            ref_stream("refs/heads/both", ":1"),
            ref_stream("refs/tags/both", ":3"),
            *(b"get-mark :%d\n" % mark for mark in (1, 2, 3)),
        )

    def commit_entry(self, name: str, entry: Entry, branch: str) -> str:
        """Add a file or a link to `main` on the branch. Returns the branch."""
        self.commit(branch, {name: entry}, on=self.commits[2])
        return branch


class AgentProcess:
    """The agent program as a real process. After another `start` it uses the same state directory."""

    def __init__(self, folder: Path, plane: FakeControlPlane, *arguments: str) -> None:
        self.state = folder / "state"
        self._plane = plane
        self._arguments = arguments
        self._stderr = folder / "agent.log"
        self._token = folder / "enrolment-token"
        self._home = folder / "home"
        self._home.mkdir(parents=True, exist_ok=True)
        self._process: subprocess.Popen[bytes] | None = None

    def start(
        self,
        *arguments: str,
        command: list[str] | None = None,
        token: str | None = TOKEN,
        url: str | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> AgentProcess:
        """Start the program, with the enrolment token in a file: given in another way, the program starts twice."""
        if token:
            self._token.write_text(token)
        env = {
            "PATH": path_without_engine(),
            "HOME": str(self._home),
            "LANG": "C.UTF-8",
            "SECRET_OF_THE_MACHINE": "not for steps",
            "HYBRID_CI_URL": url or self._plane.url,
            "HYBRID_CI_STATE_DIR": str(self.state),
            **(environment or {}),
            # By which coverage measures it, when the tests are measured.
            **{name: value for name, value in os.environ.items() if name.startswith("COVERAGE_")},
        }
        with self._stderr.open("ab") as stderr:
            self._process = subprocess.Popen(
                [
                    *(command or [sys.executable, "-m", "agent"]),
                    "--name=tester",
                    *([f"--token-file={self._token}"] if token else []),
                    *self._arguments,
                    *arguments,
                ],
                cwd=ROOT,
                env=env,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=stderr,
                start_new_session=True,
            )
        return self

    @property
    def output(self) -> str:
        return self._stderr.read_text()

    @property
    def pid(self) -> int:
        return self._running.pid

    def signal(self, number: int) -> None:
        self._running.send_signal(number)

    def kill(self) -> None:
        """Kill the agent process alone, with kill -9."""
        self._running.kill()
        self._running.wait()

    def exit_code(self, timeout: float = 15.0) -> int:
        return self._running.wait(timeout)

    def leftovers(self) -> list[processes.Process]:
        """The processes with this agent's marker. The agent itself has none."""
        marker = self.state / "marker"
        return processes.marked(marker.read_text(), processes.process_table()) if marker.exists() else []

    def stop(self) -> None:
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
            # Two signals at the same moment are one.
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(0.1)
            self._process.send_signal(signal.SIGTERM)
            try:
                self._process.wait(5)
            except subprocess.TimeoutExpired:
                self.kill()

    @property
    def _running(self) -> subprocess.Popen[bytes]:
        assert self._process is not None
        return self._process


def eventually(condition: Callable[[], object], timeout: float = 10.0) -> None:
    """Wait until the condition is true."""
    deadline = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.02)


@pytest.fixture(scope="session")
def history(tmp_path_factory: pytest.TempPathFactory) -> History:
    return History(tmp_path_factory.mktemp("history"))


@pytest.fixture
def plane() -> Iterator[FakeControlPlane]:
    """A control plane for one test. The test fails if the agent broke the protocol."""
    plane = FakeControlPlane()
    yield plane
    plane.close()
    assert plane.problems == []


@contextmanager
def ending(agent: AgentProcess) -> Iterator[AgentProcess]:
    """Stop the agent in the end. Fails if a process of the agent remains."""
    yield agent
    agent.stop()
    eventually(lambda: not agent.leftovers())


@pytest.fixture
def agent(tmp_path: Path, plane: FakeControlPlane) -> Iterator[AgentProcess]:
    """An agent that the test starts."""
    with ending(AgentProcess(tmp_path, plane, "--grace=1")) as agent:
        yield agent


@pytest.fixture(scope="module")
def shared_plane() -> Iterator[FakeControlPlane]:
    """A control plane under a gateway's stage, for the tests of jobs."""
    plane = FakeControlPlane(prefix="/staging")
    yield plane
    plane.close()
    assert plane.problems == []


@pytest.fixture(scope="module")
def shared_agent(tmp_path_factory: pytest.TempPathFactory, shared_plane: FakeControlPlane) -> Iterator[AgentProcess]:
    """One agent with four slots for all tests of a module."""
    with ending(AgentProcess(tmp_path_factory.mktemp("agent"), shared_plane, "--grace=1", "--slots=4")) as agent:
        yield agent.start()


@pytest.fixture(scope="module")
def serial_agent(tmp_path_factory: pytest.TempPathFactory, shared_plane: FakeControlPlane) -> Iterator[AgentProcess]:
    """One agent with one slot, which each test of a module must leave free."""
    with ending(AgentProcess(tmp_path_factory.mktemp("agent"), shared_plane, "--grace=1")) as agent:
        yield agent.start()


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("program")
    write_guard_program(folder)
    return folder


@pytest.fixture
def launcher(program: Path) -> Launcher:
    return Launcher(program=program, marker=secrets.token_hex(8), grace=0.5)


@pytest.fixture
def guard(launcher: Launcher) -> Iterator[Guard]:
    """A guard; the test fails if one of its processes remains."""
    guard = launcher.guard()
    yield guard
    guard.close()
    assert not processes.marked(launcher.marker, processes.process_table())
