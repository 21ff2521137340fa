"""Ending processes that ignore or delay their end."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from controlplane.local import ending
from controlplane.local.ending import Stage, processes_end

# Records each SIGTERM and exits at the one whose number is its argument; 0 means never.
STUBBORN = """
import signal, sys
seen = []
def note(*_):
    seen.append(1)
    with open(sys.argv[1], "a") as file:
        file.write(sys.argv[2])
    if len(seen) == int(sys.argv[3]):
        sys.exit(7)
signal.signal(signal.SIGTERM, note)
print("ready", flush=True)
while True:
    signal.pause()
"""

Start = Callable[[str, int], "subprocess.Popen[str]"]


@pytest.fixture
def notes(tmp_path: Path) -> Path:
    return tmp_path / "notes"


@pytest.fixture
def start(notes: Path) -> Iterator[Start]:
    def start_one(name: str, leaves_at: int) -> "subprocess.Popen[str]":
        process = stack.enter_context(
            subprocess.Popen(
                [sys.executable, "-c", STUBBORN, str(notes), name, str(leaves_at)],
                stdout=subprocess.PIPE,
                text=True,
                start_new_session=True,
            )
        )
        stack.callback(process.kill)
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        return process

    with ExitStack() as stack:
        yield start_one


@pytest.fixture
def hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ending, "_PAUSES", dict.fromkeys(Stage, (0.3, 0.3)))


def end(*processes: "tuple[Stage, subprocess.Popen[str]]") -> None:
    by_id = {process.pid: process for _, process in processes}
    processes_end([(stage, process.pid) for stage, process in processes], lambda pid: by_id[pid].poll() is None)


def test_agents_end_before_the_server_and_the_database_ends_last(start: Start, notes: Path) -> None:
    database, server, agent = start("D", 1), start("S", 1), start("A", 1)
    end((Stage.DATABASE, database), (Stage.SERVER, server), (Stage.AGENT, agent))
    assert notes.read_text() == "ASD"


@pytest.mark.usefixtures("hurried")
def test_a_process_that_still_runs_gets_another_sigterm(start: Start, notes: Path) -> None:
    agent = start("A", 2)
    end((Stage.AGENT, agent))
    assert notes.read_text() == "AA"
    assert agent.returncode == 7


@pytest.mark.usefixtures("hurried")
def test_a_process_that_ignores_sigterm_is_killed(start: Start) -> None:
    server = start("S", 0)
    end((Stage.SERVER, server))
    assert server.returncode == -signal.SIGKILL


def test_a_process_that_has_ended_already_is_ignored(start: Start) -> None:
    agent = start("A", 1)
    os.kill(agent.pid, signal.SIGTERM)
    agent.wait()
    end((Stage.AGENT, agent))
