"""Finding processes with /proc and with ps."""

from __future__ import annotations

import os
import secrets
import signal
import subprocess
from collections.abc import Iterator
from contextlib import suppress

import pytest

from agent import processes
from tests.agent.conftest import eventually


@pytest.fixture
def marker() -> str:
    return secrets.token_hex(8)


@pytest.fixture
def family(marker: str) -> Iterator[subprocess.Popen[bytes]]:
    """A shell with a marker, and two children. One of them has no marker."""
    shell = subprocess.Popen(
        ["/bin/sh", "-c", "env -i sleep 300 & sleep 300"],
        env={processes.MARKER_VARIABLE: f"{marker}.1"},
        start_new_session=True,
    )
    yield shell
    with suppress(ProcessLookupError):
        os.killpg(shell.pid, signal.SIGKILL)
    shell.wait()


@pytest.mark.parametrize("has_proc", [True, False])
def test_all_descendants_of_a_process_are_found(
    has_proc: bool, family: subprocess.Popen[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(processes, "_HAS_PROC", has_proc)
    eventually(lambda: len(processes.descendants([family.pid], processes.process_table())) == 2)
    below = processes.descendants([os.getpid()], processes.process_table())
    assert family.pid in [process.pid for process in below]
    assert os.getpid() not in [process.pid for process in below]


def test_marked_processes_are_killed_with_their_descendants(family: subprocess.Popen[bytes], marker: str) -> None:
    eventually(lambda: len(processes.descendants([family.pid], processes.process_table())) == 2)
    everyone = {family.pid, *(one.pid for one in processes.descendants([family.pid], processes.process_table()))}
    assert set(processes.kill_marked(marker)) == everyone
    assert not everyone.intersection(processes.process_table())


@pytest.mark.parametrize("has_pidfd", [True, False])
def test_a_later_process_with_the_same_number_gets_no_signal(
    has_pidfd: bool, family: subprocess.Popen[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    if not has_pidfd:
        # As on macOS.
        monkeypatch.delattr(os, "pidfd_open")
    now = processes.process_table()[family.pid]
    earlier = processes.Process(now.pid, now.parent, str(int(now.started) - 1))
    processes.send_signal(earlier, signal.SIGKILL)
    assert family.poll() is None
    processes.send_signal(now, signal.SIGKILL)
    assert family.wait(5) == -signal.SIGKILL


def test_a_process_that_has_ended_is_not_listed() -> None:
    ended = subprocess.Popen(["true"])
    eventually(lambda: ended.pid not in processes.process_table())
    ended.wait()
