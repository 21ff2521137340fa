"""One guard for all commands of an attempt: what it costs, what it promises and what a hostile command can do to it."""

from __future__ import annotations

import marshal
import os
import re
import secrets
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent import process, processes
from agent.bundle import GUARD_MODULES, write_guard_program
from agent.guard import ENDED, Frames, frame
from agent.process import Guard, Launcher, RunningCommand
from tests.agent.conftest import eventually


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


def test_a_command_is_not_started_with_signals_ignored(guard: Guard) -> None:
    _, text = Shell(guard, "grep SigIgn /proc/self/status").wait()
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
