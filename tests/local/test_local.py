"""`manage.py local` as a person runs it: a process, a terminal's signals, a state directory."""

import fcntl
import json
import os
import re
import signal
import socket
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import requests
from django.conf import settings

from controlplane.local.checkout import Checkout
from controlplane.local.supervisor import _instructions
from tests.engines import path_without_engine

READY = "Ctrl-C stops everything."
PATIENCE_SECONDS = 60


class Local:
    """One run of the command, and what it has printed so far."""

    def __init__(self, state_dir: Path, *options: str, **environment: str) -> None:
        self.state_dir = state_dir
        self.output = ""
        surroundings = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
        surroundings |= {"DJANGO_SETTINGS_MODULE": "controlplane.settings", "STAGE": "local"}
        surroundings["PATH"] = path_without_engine()
        # A person's own account. A call to it would fail the test.
        surroundings |= {
            "AWS_PROFILE": "work",
            "AWS_ENDPOINT_URL": "http://127.0.0.1:1",
            "HTTP_PROXY": "http://127.0.0.1:1",
        }
        self.process = subprocess.Popen(
            [sys.executable, "manage.py", "local", "--port=0", "--agents=1", f"--state-dir={state_dir}", *options],
            cwd=settings.BASE_DIR,
            env=surroundings | environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        with self.process.stdout:
            for line in self.process.stdout:
                self.output += line

    def ready(self) -> "Local":
        self.wait_for(READY)
        return self

    def wait_for(self, text: str) -> None:
        wait_until(lambda: text in self.output or self.process.poll() is not None)
        assert text in self.output, self.output

    def end(self) -> int:
        """Wait for the end; return the exit code."""
        self.process.wait(PATIENCE_SECONDS)
        self._reader.join()
        return self.process.returncode

    def credentials(self) -> dict[str, str]:
        found: dict[str, str] = json.loads((self.state_dir / "credentials.json").read_text())
        return found

    def call(self, method: str, path: str, **options: object) -> requests.Response:
        credentials = self.credentials()
        headers = {"Authorization": f"Bearer {credentials['api_token']}"}
        with requests.Session() as session:
            session.trust_env = False
            return session.request(method, credentials["url"] + path, headers=headers, timeout=20, **options)  # type: ignore[arg-type]

    def jobs(self) -> list[tuple[str, str]]:
        """The name and the status of each job."""
        return [(job["name"], job["status"]) for job in self.call("GET", "/jobs").json()["jobs"]]

    def processes(self) -> dict[str, int]:
        """The processes of this state directory, which their environment names: command line to process id."""
        listing = subprocess.run(["ps", "axeww", "-o", "pid=,args="], capture_output=True, text=True, check=True).stdout
        found = {}
        for line in listing.splitlines():
            pid, _, text = line.strip().partition(" ")
            if str(self.state_dir) in text and int(pid) != self.process.pid:
                found[text] = int(pid)
        return found

    def process_id(self, of: str) -> int:
        return next(pid for text, pid in self.processes().items() if of in text)

    def is_all_gone(self) -> bool:
        return not self.processes() and not self._is_locked()

    def _is_locked(self) -> bool:
        with (self.state_dir / "lock").open() as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return True
        return False


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not condition():
        assert time.monotonic() < deadline, "the condition did not become true in time"
        # A condition costs a request, or a look at all processes.
        time.sleep(0.2)


@contextmanager
def local(state_dir: Path, *options: str, **environment: str) -> Iterator[Local]:
    run = Local(state_dir, *options, **environment)
    try:
        yield run
    finally:
        if run.process.poll() is None:
            run.process.terminate()
        try:
            run.end()
        finally:
            # Its children end when it does.
            run.process.kill()


def test_after_kill_9_its_data_is_kept_and_its_processes_end(tmp_path: Path) -> None:
    pipeline = {"repository": "https://example.com/a.git", "default_ref": "main", "definition": None}
    with local(tmp_path / "state") as first:
        first.ready()
        before = first.credentials()
        assert first.call("PUT", "/pipelines/kept", json=pipeline).status_code == 201
        assert len(first.processes()) >= 4
        first.process.kill()
        first.end()
    # The next start waits until the processes of the first one have ended.
    with local(tmp_path / "state") as second:
        second.ready()
        assert {**second.credentials(), "url": ""} == {**before, "url": ""}
        assert second.call("GET", "/pipelines/kept").json()["repository"] == pipeline["repository"]
        wait_until(lambda: [agent["status"] for agent in second.call("GET", "/agents").json()["agents"]] == ["healthy"])
        assert len(second.call("GET", "/agents").json()["agents"]) == 1
        second.process.terminate()
        assert second.end() == 0
        assert second.is_all_gone(), second.processes()


def test_the_printed_commands_work_and_failures_are_reported(tmp_path: Path) -> None:
    state_dir = tmp_path / "state"
    with local(state_dir) as run:
        run.ready()
        assert stat.S_IMODE((state_dir / "credentials.json").stat().st_mode) == 0o600
        assert set(run.credentials()) == {"url", "email", "password", "api_token", "enrolment_token"}

        # Run the printed line unchanged.
        curl = re.search(r"^ +(curl .*)$", run.output, re.MULTILINE)
        assert curl is not None
        answer = subprocess.run(["sh", "-c", curl[1]], capture_output=True, text=True, check=True).stdout
        run_id = json.loads(answer)["run_id"]
        assert run.call("GET", f"/runs/{run_id}").json()["pipeline"] == "self"
        # The first job reads the file. Those that it names are there when one of them runs.
        wait_until(lambda: ("lint", "running") in run.jobs())
        assert run.call("POST", f"/runs/{run_id}/cancel").ok
        wait_until(lambda: run.call("GET", f"/runs/{run_id}").json()["status"] == "cancelled")
        assert ("lint", "cancelled") in run.jobs()

        # A second run names the process of the first one.
        with local(state_dir) as second:
            assert second.end() == 1
            assert f"in use by another `manage.py local`, process {run.process.pid}" in second.output

        # An agent is restarted. The end of the emulator ends everything.
        os.kill(run.process_id("-m agent"), signal.SIGKILL)
        run.wait_for("agent-1 was ended by SIGKILL")
        run.wait_for("Restarting it")
        wait_until(lambda: any("-m agent" in text for text in run.processes()))
        os.kill(run.process_id("controlplane.local.emulator"), signal.SIGKILL)
        assert run.end() == 1
        assert "emulator was ended by SIGKILL" in run.output
        assert run.is_all_gone(), run.processes()


def test_make_run_warns_that_pipelines_run_as_you() -> None:
    credentials = {"url": "http://127.0.0.1:1", "api_token": "hca_x", "email": "me@example.org", "password": "x"}
    text = _instructions(credentials, Checkout(url="file:///here", ref="main"), Path("output"))
    assert "WARNING: pipelines run as you." in text
    assert "docs/security.md" in text


def test_make_run_says_how_to_log_in_with_the_command_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    credentials = {"url": "http://127.0.0.1:1", "api_token": "hcp_x", "email": "me@example.org", "password": "x"}
    monkeypatch.setattr("sys.executable", str(tmp_path / "python"))
    assert "hci" not in _instructions(credentials, Checkout(url="file:///here", ref="main"), Path("output"))
    (tmp_path / "hci").touch()
    text = _instructions(credentials, Checkout(url="file:///here", ref="main"), Path("output"))
    assert f"echo hcp_x | {tmp_path}/hci login --server http://127.0.0.1:1 --token-stdin" in text
    assert f"{tmp_path}/hci run --ref main --follow" in text


def test_ctrl_c_during_the_start_leaves_no_process(tmp_path: Path) -> None:
    with local(tmp_path / "state") as run:
        run.wait_for("Creating tables")
        os.killpg(run.process.pid, signal.SIGINT)
        assert run.end() == 0, run.output
        assert READY not in run.output
        assert run.is_all_gone(), run.processes()


def test_a_taken_port_is_named(tmp_path: Path) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        with local(tmp_path / "state", f"--port={port}") as run:
            assert run.end() == 1
    assert f"Port {port} cannot be used: Address already in use" in run.output
    assert "Traceback" not in run.output
    assert run.is_all_gone()


def test_without_git_the_error_says_so(tmp_path: Path) -> None:
    with local(tmp_path / "state", PATH=str(tmp_path)) as run:
        assert run.end() == 1
    assert "git is not on the PATH" in run.output
    assert "Traceback" not in run.output


def test_a_state_directory_that_cannot_be_created_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with local(tmp_path / "file" / "state") as run:
        assert run.end() == 1
    assert f"{tmp_path}/file/state cannot be used: Not a directory" in run.output


@pytest.mark.parametrize("port", ["70000", "-1"])
def test_an_impossible_port_is_named(tmp_path: Path, port: str) -> None:
    with local(tmp_path / "state", f"--port={port}") as run:
        assert run.end() == 1
    assert f"Port {port} cannot be used: there is no such port" in run.output
