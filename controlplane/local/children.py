"""The processes that `manage.py local` starts: their output, their end, and what becomes of them without it."""

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

# A log that is longer when its process starts makes room and is kept once more as NAME.log.1.
_LOG_LIMIT_BYTES = 10_000_000
_TAIL_LINES = 12
# A process that ends so often in so long a time is not started again.
_MOST_ENDS = 3
_ENDS_WITHIN_SECONDS = 60.0


@dataclass(frozen=True)
class Program:
    """What to run. `lasting`: its end is the end of all, since nothing can take its place."""

    name: str
    command: Sequence[str]
    stage: Stage
    environment: Mapping[str, str]
    descriptors: Collection[int] = ()
    lasting: bool = False


@dataclass(eq=False)
class Child:
    """A program as it runs now, or ran."""

    program: Program
    process: "subprocess.Popen[bytes]"
    ends: list[float] = field(default_factory=list)

    @property
    def ended(self) -> bool:
        return self.process.poll() is not None

    def describe_end(self) -> str:
        """How it ended, in words."""
        code = self.process.returncode
        if code < 0:
            return f"was ended by {signal.Signals(-code).name}"
        return f"ended with exit code {code}"

    def note_end(self) -> bool:
        """Remember that it ended now; True when it may be started again."""
        now = time.monotonic()
        self.ends = [*(end for end in self.ends if now - end < _ENDS_WITHIN_SECONDS), now]
        return not self.program.lasting and len(self.ends) < _MOST_ENDS


class Children:
    """All of them. None outlives this process, not even its `kill -9`: a watchdog sees to that."""

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
        """Run it in a process group of its own, so that Ctrl-C reaches only us. Raises LocalError."""
        child = Child(program, self._run(program))
        self._children.append(child)
        return child

    def restart(self, child: Child) -> None:
        """Run it again after its end. Raises LocalError."""
        self._clear(child)
        child.process = self._run(child.program)

    def ended(self) -> list[Child]:
        """Those that ended by themselves."""
        return [child for child in self._children if child.ended]

    def forget(self, child: Child) -> None:
        """Its end was wanted."""
        self._clear(child)
        self._children.remove(child)

    def end_all(self) -> None:
        """End all of them in order."""
        running = {child.process.pid: child for child in self._children}
        processes_end(
            [(child.program.stage, pid) for pid, child in running.items()], lambda pid: not running[pid].ended
        )
        for child in running.values():
            self.forget(child)
        os.close(self._pipe)
        self._watchdog.wait()

    def log(self, program: Program) -> Path:
        """The file that takes its output."""
        return self._output / f"{program.name}.log"

    def last_lines(self, child: Child) -> list[str]:
        """The end of its output."""
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
        self._tell_watchdog(f"+{program.stage} {process.pid}")
        return process

    def _clear(self, child: Child) -> None:
        """After its end: what it started itself must not outlive it, and its number may be somebody else's soon."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(child.process.pid, signal.SIGKILL)
        self._tell_watchdog(f"-{child.program.stage} {child.process.pid}")

    def _tell_watchdog(self, line: str) -> None:
        # A watchdog that was killed is no reason to stop, nor to fail in stopping.
        with contextlib.suppress(BrokenPipeError):
            os.write(self._pipe, f"{line}\n".encode())
