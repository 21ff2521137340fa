"""One guard for all commands of an attempt: what it costs, what it promises and what a hostile command can do to it."""

from __future__ import annotations

import marshal
import os
import re
import secrets
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from agent import guard as guard_module
from agent import process, processes
from agent.guard import ABANDONED, CANNOT_START, CONFIRM, ENDED, RUN, STOP, Frames, frame, guard_main, run_request
from agent.guard_program import GUARD_MODULES, write_guard_program
from agent.process import Guard, Launcher, RunningCommand
from tests.agent.conftest import eventually


class Shell:
    """Runs a script under a guard and keeps what it prints."""

    def __init__(self, guard: Guard, script: str, env: dict[str, str] | None = None) -> None:
        self.printed = bytearray()
        self.over = threading.Event()
        self.command: RunningCommand = guard.start(
            ["/bin/sh", "-c", script],
            cwd=Path("/"),
            env={"PATH": os.environ["PATH"], **(env or {})},
            output=self.printed.extend,
            on_end=self.over.set,
        )

    def wait(self) -> tuple[int, str]:
        assert self.over.wait(10), "the command did not end"
        return self.command.exit_code, self.printed.decode()


def test_one_guard_runs_the_commands_of_an_attempt_one_after_another(guard: Guard) -> None:
    guards = set()
    for number in range(20):
        code, text = Shell(guard, f"echo {number} $PPID; exit {number}").wait()
        assert code == number
        printed, parent = text.split()
        assert printed == str(number)
        guards.add(parent)
    assert len(guards) == 1


def test_all_output_of_a_command_arrives_before_it_is_over_and_none_in_the_next(guard: Guard) -> None:
    code, text = Shell(guard, "i=0; while [ $i -lt 20000 ]; do echo line $i; i=$((i+1)); done").wait()
    assert (code, text.count("\n"), text[-11:]) == (0, 20000, "line 19999\n")
    assert Shell(guard, "echo next").wait() == (0, "next\n")


def test_processes_that_a_command_leaves_behind_end_before_the_next_command_begins(guard: Guard) -> None:
    _, text = Shell(guard, "(setsid sh -c 'env -i sleep 300' & echo $!) ; echo left").wait()
    assert text.endswith("left\n")
    assert Shell(guard, f"kill -0 {text.split()[0]} || echo gone").wait()[1].endswith("gone\n")


def test_a_command_has_its_own_session_no_input_and_no_descriptor_of_the_guard(guard: Guard) -> None:
    assert Shell(guard, "exec cut -d' ' -f 6 /proc/self/stat").wait()[1].strip() != str(os.getsid(0))
    assert Shell(guard, "wc -c").wait() == (0, "0\n")
    # The fourth is that of the folder, which `ls` reads.
    assert Shell(guard, "exec ls /proc/self/fd").wait() == (0, "0\n1\n2\n3\n")


def test_a_command_is_not_started_with_signals_ignored(launcher: Launcher) -> None:
    # As a shell starts a program by `nohup` and with `&`.
    before = {number: signal.signal(number, signal.SIG_IGN) for number in (signal.SIGHUP, signal.SIGQUIT)}
    guard = launcher.guard()
    try:
        _, text = Shell(guard, "grep SigIgn /proc/self/status").wait()
    finally:
        guard.close()
        for number, handler in before.items():
            signal.signal(number, handler)
    # The C library uses 32 and 33 itself. A program that it started by posix_spawn, as make does, ignores them.
    internal = 1 << 31 | 1 << 32
    assert int(text.split()[1], 16) & ~internal == 0


def test_stop_sends_term_then_kill_after_the_grace_period_and_the_guard_goes_on(guard: Guard) -> None:
    shell = Shell(guard, "trap 'echo asked' TERM; echo begun; while true; do sleep 0.05; done")
    eventually(lambda: b"begun" in shell.printed)
    began = time.monotonic()
    shell.command.stop()
    code, text = shell.wait()
    assert code == 137
    assert "asked\n" in text
    assert 0.5 <= time.monotonic() - began < 5
    # A stop that comes too late does not reach the next command.
    shell.command.stop()
    assert Shell(guard, "sleep 0.1; echo unharmed").wait() == (0, "unharmed\n")


def test_a_command_that_cannot_start_has_exit_code_126_and_says_why(guard: Guard) -> None:
    printed = bytearray()
    over = threading.Event()
    for command, env in ((["/no/such/program"], {}), (["/bin/true"], {"A": "null\0byte"})):
        over.clear()
        running = guard.start(command, cwd=Path("/"), env=env, output=printed.extend, on_end=over.set)
        assert over.wait(10)
        assert running.exit_code == 126
    assert b"cannot start /no/such/program: [Errno 2] No such file or directory" in printed
    assert b"cannot start /bin/true: embedded null byte" in printed


def test_the_end_of_the_agent_ends_every_process(program: Path) -> None:
    marker = secrets.token_hex(8)
    code = (
        "import sys, time; from pathlib import Path; from agent.process import Launcher\n"
        f"guard = Launcher(program=Path({str(program)!r}), marker={marker!r}, grace=60).guard()\n"
        "guard.start(['/bin/sh', '-c', 'trap \"\" TERM; echo begun; sleep 300'], cwd=Path('/'), env={}, "
        "output=lambda data: print(data, flush=True), on_end=lambda: None); time.sleep(300)"
    )
    agent = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE)
    assert b"begun" in agent.stdout.readline()
    assert len(processes.marked(marker, processes.process_table())) >= 2
    agent.send_signal(signal.SIGKILL)
    agent.communicate()
    eventually(lambda: not processes.marked(marker, processes.process_table()))


def test_frames_arrive_in_any_parts() -> None:
    data = frame(ENDED, b"17") + frame(b"R", marshal.dumps({"a": 1})) + frame(b"S")
    frames = Frames()
    found = []
    for index in range(len(data)):
        frames.add(data[index : index + 1])
        if (one := frames.next()) is not None:
            found.append(one)
    assert found == [(ENDED, b"17"), (b"R", marshal.dumps({"a": 1})), (b"S", b"")]
    frames.add(b"no frame at all")
    with pytest.raises(ValueError, match="invalid literal"):
        frames.next()


def _imports(program: Path, *options: str) -> str:
    """What a guard imports, as -v prints it."""
    code = f"import sys; sys.path.insert(0, {str(program)!r}); import agent.guard; print(sorted(sys.modules))"
    done = subprocess.run(
        [sys.executable, "-I", "-S", *options, "-c", code], capture_output=True, text=True, check=True
    )
    return done.stdout + done.stderr


def test_a_guard_imports_little_and_nothing_that_its_folder_lacks(program: Path) -> None:
    loaded = _imports(program)
    assert set(re.findall(r"'agent\.(\w+)'", loaded)) == set(GUARD_MODULES) - {"__init__"}
    for slow in ("json", "subprocess", "typing", "pathlib", "dataclasses", "socket", "threading", "logging", "re"):
        assert f"'{slow}'" not in loaded, f"a guard imports {slow}"


def test_a_guard_is_not_compiled_at_each_start(program: Path) -> None:
    trace = _imports(program, "-v")
    for name in GUARD_MODULES:
        assert re.search(rf"code object from '?.*{re.escape(str(program))}/agent/__pycache__/{name}\.", trace), name
    # The flags of a .pyc file: based on a hash, which is not checked.
    for cached in (program / "agent" / "__pycache__").iterdir():
        assert cached.read_bytes()[4:8] == b"\x01\0\0\0"


def test_a_guard_of_another_python_version_compiles_the_sources(program: Path, tmp_path: Path) -> None:
    write_guard_program(tmp_path)
    for cached in (tmp_path / "agent" / "__pycache__").iterdir():
        cached.rename(cached.with_name(cached.name.replace(sys.implementation.cache_tag, "cpython-399")))
    guard = Launcher(program=tmp_path, marker=secrets.token_hex(8), grace=1).guard()
    assert Shell(guard, "echo works").wait() == (0, "works\n")
    guard.close()


# --- the time for which an agent is silent ----------------------------------------------------------------------------


def test_the_time_for_which_the_whole_machine_was_suspended_does_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: clock[0])
    silence = guard_module._Silence(120.0)
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


def test_each_word_of_the_agent_ends_its_silence(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: clock[0])
    silence = guard_module._Silence(8.0)
    assert silence.tick == 1
    for _ in range(7):
        clock[0] += 1
        assert not silence.is_too_long()
    silence.end()
    for second in range(1, 9):
        clock[0] += 1
        assert silence.is_too_long() is (second == 8)


# --- the protocol, spoken by hand -------------------------------------------------------------------------------------


class Raw:
    """A guard whose agent is the test: frames go in, frames and output come out."""

    def __init__(self, program: Path) -> None:
        self.marker = secrets.token_hex(8)
        reports, guard_reports = os.pipe()
        self.reports, self._frames = reports, Frames()
        self.process = subprocess.Popen(
            [sys.executable, "-I", "-S", "-c", process._GUARD, str(program), str(guard_reports)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            pass_fds=[guard_reports],
            env={processes.MARKER_VARIABLE: self.marker},
        )
        os.close(guard_reports)

    def send(self, *frames: bytes) -> None:
        os.write(self.process.stdin.fileno(), b"".join(frames))

    def run(self, script: str, *following: bytes, grace: float = 0.5, silence: float = 60.0, **options: Any) -> None:
        env = {"PATH": os.environ["PATH"], processes.MARKER_VARIABLE: self.marker}
        command = ["/bin/sh", "-c", script]
        members = {"command": command, "cwd": "/", "env": env, "grace": grace, "silence": silence, **options}
        self.send(run_request(**members), *following)

    def report(self) -> tuple[bytes, bytes]:
        """The next report. Fails if none comes."""
        while (found := self._frames.next()) is None:
            assert select.select([self.reports], [], [], 20)[0], "no report"
            data = os.read(self.reports, 4096)
            assert data, "the guard has ended"
            self._frames.add(data)
        return found

    def printed(self, text: bytes) -> bytes:
        """Wait for the output to contain the text; returns the output so far."""
        data = b""
        while text not in data:
            assert select.select([self.process.stdout], [], [], 20)[0], data
            data += os.read(self.process.stdout.fileno(), 65536)
        return data

    def rest(self) -> bytes:
        """End the input, and return what is still printed until the guard ends."""
        self.process.stdin.close()
        return self.process.stdout.read()

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        processes.kill_marked(self.marker)
        for descriptor in (self.process.stdin, self.process.stdout):
            descriptor.close()
        os.close(self.reports)


@pytest.fixture
def raw(program: Path) -> Iterator[Raw]:
    guard = Raw(program)
    yield guard
    guard.close()


def test_a_guard_reports_the_exit_code_of_each_command_as_in_a_shell(raw: Raw) -> None:
    for script, code in (("exit 0", b"0"), ("exit 7", b"7"), ("kill -9 $$", b"137"), ("kill -TERM $$", b"143")):
        raw.run(script)
        assert raw.report() == (ENDED, code)


def test_a_request_to_stop_that_comes_before_or_after_a_command_and_any_other_frame_is_passed_over(raw: Raw) -> None:
    raw.send(frame(STOP), frame(CONFIRM), frame(b"?", b"later versions"))
    raw.run("sleep 0.1; echo unharmed")
    assert raw.report() == (ENDED, b"0")
    raw.send(frame(STOP))
    raw.run("exit 3")
    assert raw.report() == (ENDED, b"3")


def test_a_command_runs_in_its_folder_with_its_environment_and_both_outputs(raw: Raw, tmp_path: Path) -> None:
    env = {"PATH": os.environ["PATH"], "NAME": "größe"}
    raw.run("pwd; echo $NAME; echo error >&2; echo end", cwd=str(tmp_path), env=env)
    assert raw.printed(b"end\n") == f"{tmp_path}\ngröße\nerror\nend\n".encode()


def test_a_folder_that_is_missing_is_a_command_that_cannot_start(raw: Raw) -> None:
    raw.run("echo never", cwd="/no/such/folder")
    assert raw.report() == (ENDED, b"126")
    assert b"cannot start /bin/sh: [Errno 2]" in raw.rest()


@pytest.mark.parametrize("name", ["TERM", "INT", "HUP"])
def test_a_command_cannot_end_its_guard_by_a_polite_signal(raw: Raw, name: str) -> None:
    raw.run(f"kill -{name} $PPID; sleep 0.1; exit 5")
    assert raw.report() == (ENDED, b"5")
    raw.run("exit 6")
    assert raw.report() == (ENDED, b"6")


def test_a_request_to_stop_that_arrives_with_the_request_to_run_stops_the_command(raw: Raw) -> None:
    raw.run("sleep 300", frame(STOP))
    kind, code = raw.report()
    # The command may not even have begun when the first signal came.
    assert (kind, code in (b"143", b"137")) == (ENDED, True)


def test_of_two_requests_to_stop_the_second_changes_nothing(raw: Raw) -> None:
    raw.run("trap 'echo asked' TERM; echo begun; while :; do sleep 0.02; done", grace=1)
    raw.printed(b"begun")
    raw.send(frame(STOP))
    raw.printed(b"asked")
    raw.send(frame(STOP), frame(STOP))
    assert raw.report() == (ENDED, b"137")
    assert raw.rest() == b""


def test_what_a_stopped_command_has_started_gets_the_grace_period_too(raw: Raw) -> None:
    child = "trap 'sleep 0.2; echo tidied; exit' TERM; echo begun; while :; do sleep 0.02; done"
    raw.run(f'(setsid sh -c "{child}") & wait', grace=20)
    raw.printed(b"begun")
    raw.send(frame(STOP))
    # And no longer than it needs.
    assert raw.report() == (ENDED, b"143")
    assert raw.rest().endswith(b"tidied\n")


def test_without_a_request_to_stop_what_a_command_leaves_behind_is_killed_at_once(raw: Raw) -> None:
    raw.run("(trap 'echo asked' TERM; echo begun; sleep 300; :) & sleep 0.2; exit 4", grace=20)
    assert raw.report() == (ENDED, b"4")
    assert b"asked" not in raw.rest()
    assert not processes.marked(raw.marker, processes.process_table())


def test_a_guard_that_hears_nothing_kills_the_command_and_says_so_and_runs_the_next_one(raw: Raw) -> None:
    raw.run("(sleep 300 &); echo begun; sleep 300", silence=0.3)
    raw.printed(b"begun")
    assert raw.report() == (ABANDONED, b"137")
    assert len(processes.marked(raw.marker, processes.process_table())) == 1
    raw.run("exit 8")
    assert raw.report() == (ENDED, b"8")


def test_a_guard_whose_input_ends_kills_the_command_and_ends_well(raw: Raw) -> None:
    raw.run("trap '' TERM; echo begun; sleep 300", grace=60)
    raw.printed(b"begun")
    raw.process.stdin.close()
    assert raw.process.wait(20) == 0
    assert not processes.marked(raw.marker, processes.process_table())


def test_a_guard_whose_reports_are_read_by_none_ends_well(program: Path) -> None:
    guard = Raw(program)
    os.close(guard.reports)
    guard.run("exit 0")
    assert guard.process.wait(20) == 0
    guard.reports = os.open(os.devnull, os.O_RDONLY)
    guard.close()


# --- what cannot be made to happen ------------------------------------------------------------------------------------


class Scripted:
    """Stands in for the guard that has a command to run."""

    def __init__(self, requests: list[tuple[bytes, bytes]], **state: bool) -> None:
        self.requests = iter(requests)
        self.agent_is_frozen = state.get("is_frozen", False)
        self.left_processes = state.get("left", False)

    def next_request(self) -> tuple[bytes, bytes] | None:
        return next(self.requests, None)

    def run(self, request: dict[str, Any]) -> int:
        return int(request["code"])


@pytest.mark.parametrize("is_frozen", [False, True])
@pytest.mark.parametrize("left", [False, True])
@pytest.mark.parametrize("has_reader", [False, True])
def test_a_guard_says_by_its_exit_code_whether_processes_are_left(
    monkeypatch: pytest.MonkeyPatch, is_frozen: bool, left: bool, has_reader: bool
) -> None:
    requests = [(STOP, b""), (RUN, marshal.dumps({"code": 3}))]
    monkeypatch.setattr(guard_module, "_Guard", lambda _: Scripted(requests, is_frozen=is_frozen, left=left))
    monkeypatch.setattr(guard_module, "_wake_on_signals", lambda: -1)
    monkeypatch.setattr(processes, "become_subreaper", lambda: None)
    read, write = os.pipe()
    if not has_reader:
        os.close(read)
    assert guard_main(write) == int(left)
    os.close(write)
    if has_reader:
        assert os.read(read, 100) == frame(ABANDONED if is_frozen else ENDED, b"3")
        os.close(read)


def test_a_process_that_cannot_be_killed_is_given_up_after_ten_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    clock, signalled = [0.0], []
    monkeypatch.setattr(time, "monotonic", lambda: clock[0])
    monkeypatch.setattr(time, "sleep", lambda _: clock.__setitem__(0, clock[0] + 1))
    monkeypatch.setattr(processes, "send_signal", lambda *arguments: signalled.append(arguments))
    guard = guard_module._Guard(-1)
    monkeypatch.setattr(guard, "_reap", lambda: False)
    monkeypatch.setattr(guard, "_remaining", lambda: ["stuck"])
    guard._kill_all()
    assert (guard.left_processes, clock[0]) == (True, 11)
    assert signalled == [("stuck", signal.SIGKILL)] * 11


def test_processes_that_end_when_they_are_killed_are_not_left(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "sleep", lambda _: None)
    monkeypatch.setattr(processes, "send_signal", lambda *_: None)
    for reaped, remaining in (([False, True], [["one"]]), ([False, False], [["one"], []])):
        guard = guard_module._Guard(-1)
        answers, tables = iter(reaped), iter(remaining)
        monkeypatch.setattr(guard, "_reap", lambda answers=answers: next(answers))
        monkeypatch.setattr(guard, "_remaining", lambda tables=tables: next(tables))
        guard._kill_all()
        assert (guard.left_processes, list(answers), list(tables)) == (False, [], [])


def test_a_machine_without_room_for_a_process_is_a_command_that_cannot_start(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def refuse() -> int:
        raise OSError(11, "Resource temporarily unavailable")

    monkeypatch.setattr(os, "fork", refuse)
    request = {"command": [b"make"], "grace": 1.0, "silence": 1.0, "secret": False}
    assert guard_module._Guard(-1).run(request) == CANNOT_START
    assert capfd.readouterr().out == "cannot start make: [Errno 11] Resource temporarily unavailable\n"
