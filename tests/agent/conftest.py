"""A git repository with a history, a fake control plane, and agents as real processes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from agent import processes
from tests.agent.fake_server import TOKEN, FakeControlPlane
from tests.agent.peers import _connections_closed, peer  # noqa: F401 — fixtures

ROOT = Path(__file__).resolve().parent.parent.parent


class History:
    """A bare repository with three commits on `main`, a tag on the second, and some odd refs."""

    def __init__(self, folder: Path) -> None:
        self._work = folder / "work"
        self.path = folder / "repository.git"
        self._work.mkdir(parents=True)
        self._git("init", "--quiet", "--initial-branch=main")
        self.commits = [self._commit(number) for number in (1, 2, 3)]
        self._git("tag", "--annotate", "v1", "--message=the second", self.commits[1])
        self._git("branch", "feature/slash", self.commits[1])
        self._git("branch", "both", self.commits[0])
        self._git("tag", "both", self.commits[2])
        subprocess.run(["git", "clone", "--quiet", "--bare", self._work, self.path], check=True)

    @property
    def url(self) -> str:
        return f"file://{self.path}"

    def commit_file(self, name: str, data: bytes, branch: str) -> str:
        """Commit a file to a new branch. Returns the branch."""
        self._git("checkout", "--quiet", "-B", branch, "main")
        (self._work / name).write_bytes(data)
        return self._push(branch)

    def commit_link(self, name: str, target: str, branch: str) -> str:
        self._git("checkout", "--quiet", "-B", branch, "main")
        (self._work / name).symlink_to(target)
        return self._push(branch)

    def _push(self, branch: str) -> str:
        self._git("add", "--all")
        self._git("commit", "--quiet", "--message=one file")
        self._git("push", "--quiet", "--force", str(self.path), branch)
        self._git("checkout", "--quiet", "main")
        return branch

    def _commit(self, number: int) -> str:
        (self._work / "number").write_text(f"{number}\n")
        self._git("add", "number")
        self._git("commit", "--quiet", f"--message=commit {number}")
        return self._git("rev-parse", "HEAD").strip()

    def _git(self, *arguments: str) -> str:
        identity = ["-c", "user.name=Test", "-c", "user.email=test@example.org", "-c", "commit.gpgsign=false"]
        return subprocess.run(
            ["git", *identity, *arguments], cwd=self._work, check=True, capture_output=True, text=True
        ).stdout


class AgentProcess:
    """The agent program as a real process. After another `start` it uses the same state directory."""

    def __init__(self, folder: Path, plane: FakeControlPlane, *arguments: str) -> None:
        self.state = folder / "state"
        self._plane = plane
        self._arguments = arguments
        self._stderr = folder / "agent.log"
        self._home = folder / "home"
        self._home.mkdir(parents=True, exist_ok=True)
        self._process: subprocess.Popen[bytes] | None = None

    def start(
        self, *arguments: str, command: list[str] | None = None, token: str | None = TOKEN, url: str | None = None
    ) -> AgentProcess:
        env = {
            "PATH": os.environ["PATH"],
            "HOME": str(self._home),
            "LANG": "C.UTF-8",
            "SECRET_OF_THE_MACHINE": "not for steps",
            "HYBRID_CI_URL": url or self._plane.url,
            "HYBRID_CI_STATE_DIR": str(self.state),
            **({"HYBRID_CI_TOKEN": token} if token else {}),
            # By which coverage measures it, when the tests are measured.
            **{name: value for name, value in os.environ.items() if name.startswith("COVERAGE_")},
        }
        with self._stderr.open("ab") as stderr:
            self._process = subprocess.Popen(
                [*(command or [sys.executable, "-m", "agent"]), "--name=tester", *self._arguments, *arguments],
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


@pytest.fixture
def agent(tmp_path: Path, plane: FakeControlPlane) -> Iterator[AgentProcess]:
    """An agent that the test starts. The test fails if a process of the agent remains."""
    agent = AgentProcess(tmp_path, plane, "--grace=1")
    yield agent
    agent.stop()
    eventually(lambda: not agent.leftovers())


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
    agent = AgentProcess(tmp_path_factory.mktemp("agent"), shared_plane, "--grace=1", "--slots=4").start()
    yield agent
    agent.stop()
    eventually(lambda: not agent.leftovers())
