"""The processes that `manage.py local` starts: their output, their restart, and their end."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from controlplane.local.ending import Stage, processes_end
from controlplane.local.errors import LocalError

# When a process starts and its log is longer than this, the log moves to NAME.log.1, which is replaced.
_LOG_LIMIT_BYTES = 10_000_000
_TAIL_LINES = 12
# A process that ends so often in so many seconds is not started again.
_MOST_ENDS = 3
_ENDS_WITHIN_SECONDS = 60.0


@dataclass(frozen=True)
class Program:
    """The program to run. `lasting`: the end of this program ends everything, because it cannot be restarted."""

    name: str
    command: Sequence[str]
    stage: Stage
    environment: Mapping[str, str]
    descriptors: Collection[int] = ()
    lasting: bool = False


@dataclass(eq=False)
class Child:
    """A program with its current or last process."""

    program: Program
    process: "subprocess.Popen[bytes]"
    ends: list[float] = field(default_factory=list)

    @property
    def ended(self) -> bool:
        return self.process.poll() is not None

    def describe_end(self) -> str:
        """How the process ended, in words."""
        code = self.process.returncode
        if code < 0:
            return f"was ended by {signal.Signals(-code).name}"
        return f"ended with exit code {code}"

    def note_end(self) -> bool:
        """Record that the process has ended. Returns whether it may be started again."""
        now = time.monotonic()
        self.ends = [*(end for end in self.ends if now - end < _ENDS_WITHIN_SECONDS), now]
        return not self.program.lasting and len(self.ends) < _MOST_ENDS


class Children:
    """All children. None outlives this process, even after `kill -9`: a watchdog ends them."""

    def __init__(self, *, output: Path, folder: Path, lock_fd: int) -> None:
        self._output = output
        self._folder = folder
        self._children: list[Child] = []
        ours_ends, self._pipe = os.pipe()
        self._watchdog = subprocess.Popen(
            [sys.executable, "-m", "controlplane.local.watchdog"],
            cwd=folder,
            stdin=ours_ends,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
            pass_fds=[lock_fd],
        )
        os.close(ours_ends)

    def start(self, program: Program) -> Child:
        """Run a program in a process group of its own, so that Ctrl-C reaches only us. Raises LocalError."""
        child = Child(program, self._run(program))
        self._children.append(child)
        return child

    def restart(self, child: Child) -> None:
        """Run the program again after its end. Raises LocalError."""
        self._clear(child)
        child.process = self._run(child.program)

    def ended(self) -> list[Child]:
        """The children that have ended without a request."""
        return [child for child in self._children if child.ended]

    def forget(self, child: Child) -> None:
        """Stop to watch a child whose end is expected."""
        self._clear(child)
        self._children.remove(child)

    def end_all(self) -> None:
        """End all children in order."""
        running = {child.process.pid: child for child in self._children}
        processes_end(
            [(child.program.stage, pid) for pid, child in running.items()], lambda pid: not running[pid].ended
        )
        for child in running.values():
            self.forget(child)
        os.close(self._pipe)
        self._watchdog.wait()

    def log(self, program: Program) -> Path:
        """The file with the program's output."""
        return self._output / f"{program.name}.log"

    def last_lines(self, child: Child) -> list[str]:
        """The last lines of its output."""
        with self.log(child.program).open("rb") as file:
            file.seek(0, os.SEEK_END)
            file.seek(max(0, file.tell() - 8192))
            return file.read().decode(errors="replace").splitlines()[-_TAIL_LINES:]

    def _run(self, program: Program) -> "subprocess.Popen[bytes]":
        log = self.log(program)
        if log.exists() and log.stat().st_size > _LOG_LIMIT_BYTES:
            log.replace(log.with_name(f"{log.name}.1"))
        with log.open("ab") as output:
            try:
                process = subprocess.Popen(
                    program.command,
                    cwd=self._folder,
                    env=dict(program.environment),
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,
                    pass_fds=program.descriptors,
                )
            except OSError as error:
                raise LocalError(f"{program.name} cannot be started: {error}") from error
        self._notify_watchdog(f"+{program.stage} {process.pid}")
        return process

    def _clear(self, child: Child) -> None:
        """Clean up after its end: kill its own children, and remove its process id, which may be reused soon."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(child.process.pid, signal.SIGKILL)
        self._notify_watchdog(f"-{child.program.stage} {child.process.pid}")

    def _notify_watchdog(self, line: str) -> None:
        # A missing watchdog must stop neither the run nor its end.
        with contextlib.suppress(BrokenPipeError):
            os.write(self._pipe, f"{line}\n".encode())
