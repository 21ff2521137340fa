"""The agent's side of a guard: what it sends, what it passes on, and how it ends a guard that does not."""

from __future__ import annotations

import os
import secrets
import signal
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from agent import guard as guard_module
from agent import process, processes
from agent.guard import STOP, frame
from agent.guard_program import write_guard_program
from agent.process import Guard, Launcher, RunningCommand
from agent.step_users import StepUser
from tests.agent.conftest import eventually
from tests.agent.test_guard import Shell


def test_a_request_larger_than_a_pipe_arrives(guard: Guard) -> None:
    large = {f"LARGE_{number}": "x" * 100_000 for number in range(10)}
    assert Shell(guard, "echo ${#LARGE_7}", env=large).wait() == (0, "100000\n")


def test_a_guard_that_another_process_kills_ends_the_command_and_all_its_processes(launcher: Launcher) -> None:
    guard = launcher.guard()
    shell = Shell(guard, "(setsid sleep 300 &) ; echo begun; kill -9 $PPID; sleep 300")
    assert shell.wait()[0] == 137
    assert not processes.marked(launcher.marker, processes.process_table())
    with pytest.raises(OSError, match="another process ended the guard of this job's commands"):
        Shell(guard, "true")
    guard.close()


def test_a_frozen_guard_is_killed_with_all_processes(launcher: Launcher, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process, "_GUARD_LIMIT_SECONDS", 0.2)
    monkeypatch.setattr(process, "_TICK_SECONDS", 0.1)
    guard = launcher.guard()
    shell = Shell(guard, "kill -STOP $PPID; echo begun; sleep 300")
    eventually(lambda: b"begun" in shell.printed)
    shell.command.stop()
    assert shell.wait()[0] == 137
    assert not processes.marked(launcher.marker, processes.process_table())
    guard.close()


def test_what_a_command_writes_to_the_report_pipe_cannot_confuse_the_agent(launcher: Launcher) -> None:
    guard = launcher.guard()
    forge = "for fd in /proc/$PPID/fd/*; do case $(readlink $fd) in pipe:*) echo nonsense-nonsense >$fd;; esac; done"
    shell = Shell(guard, f"{forge} 2>/dev/null; sleep 300")
    assert shell.wait()[0] == 137
    assert not processes.marked(launcher.marker, processes.process_table())
    guard.close()


def test_a_full_spool_that_delays_the_output_ends_no_step(tmp_path: Path) -> None:
    write_guard_program(tmp_path)
    launcher = Launcher(program=tmp_path, marker=secrets.token_hex(8), grace=1, frozen_limit=1)
    running = launcher.guard()
    over = threading.Event()
    command = running.start(
        ["/bin/sh", "-c", "echo printed; sleep 1.8"],
        cwd=Path("/"),
        env={},
        output=lambda data: time.sleep(1.5),
        on_end=over.set,
    )
    assert over.wait(10)
    running.close()
    assert (command.exit_code, command.is_abandoned) == (0, False)


# --- one command ------------------------------------------------------------------------------------------------------


def test_a_command_has_no_exit_code_before_it_is_over(guard: Guard) -> None:
    shell = Shell(guard, "echo begun; sleep 300")
    eventually(lambda: b"begun" in shell.printed)
    command = shell.command
    assert command.is_over is False
    with pytest.raises(AssertionError, match="not over"):
        _ = command.exit_code
    command.stop()
    shell.wait()
    assert shell.command.is_over
    assert (shell.command.failure, shell.command.is_abandoned) == (None, False)


def test_output_that_cannot_be_passed_on_stops_the_command_and_is_kept_as_its_failure(guard: Guard) -> None:
    over = threading.Event()
    seen: list[bytes] = []

    def refuse(data: bytes) -> None:
        seen.append(data)
        raise OSError(28, "No space left on device")

    running = guard.start(
        ["/bin/sh", "-c", "echo one; sleep 0.1; echo two; sleep 300"],
        cwd=Path("/"),
        env={"PATH": os.environ["PATH"]},
        output=refuse,
        on_end=over.set,
    )
    assert over.wait(20)
    assert isinstance(running.failure, OSError)
    assert (running.exit_code, running.failure.errno, len(seen)) == (143, 28, 1)


def test_a_guard_runs_one_command_at_a_time(guard: Guard) -> None:
    shell = Shell(guard, "sleep 300")
    with pytest.raises(AssertionError, match="one command at a time"):
        Shell(guard, "true")
    shell.command.stop()
    shell.wait()


def test_a_command_carries_the_marker_of_its_guard_and_the_agent(guard: Guard, launcher: Launcher) -> None:
    _, first = Shell(guard, f"echo ${processes.MARKER_VARIABLE}").wait()
    _, second = Shell(guard, f"echo ${processes.MARKER_VARIABLE}", {processes.MARKER_VARIABLE: "forged"}).wait()
    assert first == second
    assert first.startswith(f"{launcher.marker}.")
    assert len(first.strip()) == len(launcher.marker) + 9


def test_a_request_names_the_user_by_number(guard: Guard, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[object] = []
    request = guard_module.run_request

    def run_request(*, user: object, **members: Any) -> bytes:
        asked.append(user)
        return request(**members)

    monkeypatch.setattr(process, "run_request", run_request)
    for user in (None, StepUser("one", 5, 6, (6, 7))):
        over = threading.Event()
        guard.start(["/bin/true"], cwd=Path("/"), env={}, output=lambda _: None, on_end=over.set, user=user)
        assert over.wait(20)
    assert asked == [None, (5, 6, (6, 7))]


# --- requests ---------------------------------------------------------------------------------------------------------


def sent_by(guard: Guard, monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """All requests to the guard from now on."""
    sent: list[bytes] = []
    send = guard._send

    def send_noted(request: bytes) -> None:
        sent.append(request)
        send(request)

    monkeypatch.setattr(guard, "_send", send_noted)
    return sent


def test_a_command_is_asked_to_stop_once_and_only_while_it_runs(guard: Guard, monkeypatch: pytest.MonkeyPatch) -> None:
    sent = sent_by(guard, monkeypatch)
    first = Shell(guard, "echo begun; sleep 300")
    eventually(lambda: b"begun" in first.printed)
    for _ in range(3):
        first.command.stop()
    assert first.wait()[0] == 143
    first.command.stop()
    second = Shell(guard, "sleep 0.1")
    first.command.stop()
    assert second.wait()[0] == 0
    assert sent.count(frame(STOP)) == 1


def test_the_agent_confirms_eight_times_in_the_limit_while_a_command_runs(
    program: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    launcher = Launcher(program=program, marker=secrets.token_hex(8), grace=1, frozen_limit=0.4)
    guard = launcher.guard()
    sent = sent_by(guard, monkeypatch)
    waits: list[float] = []
    wait = guard._over.wait

    def wait_noted(seconds: float) -> bool:
        waits.append(seconds)
        return wait(seconds)

    monkeypatch.setattr(guard._over, "wait", wait_noted)
    time.sleep(0.15)
    assert frame(b"C") not in sent, "no command runs"
    shell = Shell(guard, "echo begun; sleep 300")
    eventually(lambda: sent.count(frame(b"C")) >= 3)
    assert set(waits) == {0.05}
    shell.command.stop()
    shell.wait()
    guard.close()
    count = len(sent)
    time.sleep(0.15)
    assert len(sent) == count


def test_a_guard_that_does_not_read_its_input_is_killed(launcher: Launcher, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process, "_GUARD_LIMIT_SECONDS", 0.3)
    guard = launcher.guard()
    os.kill(guard._process.pid, signal.SIGSTOP)
    shell = Shell(guard, "true", {"LARGE": "x" * 120_000, "MORE": "x" * 120_000})
    assert shell.wait()[0] == 137
    guard.close()


def test_closing_a_guard_ends_its_command_and_every_process(launcher: Launcher) -> None:
    guard = launcher.guard()
    shell = Shell(guard, "trap '' TERM; (setsid sleep 300 &); echo begun; sleep 300")
    eventually(lambda: b"begun" in shell.printed)
    guard.close()
    assert shell.wait()[0] == 137
    assert not processes.marked(launcher.marker, processes.process_table())
    assert guard._process.returncode == 0
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(guard._control)


def open_descriptors() -> set[str]:
    return {path.name for path in Path("/proc/self/fd").iterdir()}


def test_a_guard_that_cannot_be_started_leaves_no_descriptor_open(
    program: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    launcher = Launcher(program=program, marker="m", grace=1)

    def refuse(*_: object, **__: object) -> None:
        raise OSError(11, "Resource temporarily unavailable")

    monkeypatch.setattr(launcher.adoption, "start_guard", refuse)
    before = open_descriptors()
    with pytest.raises(OSError, match="Resource"):
        launcher.guard()
    assert open_descriptors() == before


def test_a_guard_that_was_forgotten_in_time_is_no_child_of_the_agent_any_more(
    launcher: Launcher, monkeypatch: pytest.MonkeyPatch
) -> None:
    forgotten: list[int] = []
    monkeypatch.setattr(launcher.adoption, "forget_guard", forgotten.append)
    orphans: list[str] = []
    monkeypatch.setattr(launcher.adoption, "end_orphans", lambda: orphans.append("ended"))
    guard = launcher.guard()
    guard.close()
    assert (forgotten, orphans) == ([guard._process.pid], [])
    guard = launcher.guard()
    Shell(guard, "kill -9 $PPID; sleep 300").wait()
    guard.close()
    assert (forgotten[1:], orphans) == ([guard._process.pid], ["ended"])


def test_the_control_group_of_a_guard_ends_with_it(launcher: Launcher, monkeypatch: pytest.MonkeyPatch) -> None:
    ended: list[int] = []

    class Group:
        def __init__(self, pid: int) -> None:
            self.pid = pid

        def end(self) -> None:
            ended.append(self.pid)

    monkeypatch.setattr(launcher.groups, "enclose", Group)
    guard = launcher.guard()
    assert Shell(guard, "true").wait()[0] == 0
    assert ended == []
    guard.close()
    assert ended == [guard._process.pid]


def test_a_command_that_is_over_forgets_its_guard(guard: Guard) -> None:
    over: list[str] = []
    command = RunningCommand(guard, lambda _: None, lambda: over.append("over"))
    command.end(5, is_abandoned=True)
    assert (command.exit_code, command.is_over, command.is_abandoned, over) == (5, True, True, ["over"])
