"""Running commands: each attempt has a guard, each command its own session, and its output arrives while it runs."""

from __future__ import annotations

import os
import secrets
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Optional

from agent import processes
from agent.adoption import Adoption
from agent.cgroups import ControlGroups
from agent.guard import ABANDONED, CONFIRM, ENDED, STOP, Frames, frame, run_request
from agent.step_users import StepUser

_READ_BYTES = 65536
# The most bytes in a pipe, unless root has changed it.
_PIPE_BYTES = 1024 * 1024
# How long a guard may take to end after the grace period. Then the agent kills the guard itself.
_GUARD_LIMIT_SECONDS = 20.0
_TICK_SECONDS = 1.0
_KILLED = 128 + signal.SIGKILL
_GUARD = (
    "import sys; sys.path.insert(0, sys.argv[1]); from agent.guard import guard_main; "
    "sys.exit(guard_main(int(sys.argv[2])))"
)


@dataclass(frozen=True)
class Launcher:
    """How this agent starts guards.

    `program` is the folder of the guard's modules, `marker` marks the agent's processes, `grace` is the seconds between
    TERM and KILL, `frozen_limit` the seconds after which a guard ends the command of an agent that does not run.
    `groups` makes the control groups of guards, and `adoption` ends the processes of guards that were killed.
    """

    program: Path
    marker: str
    grace: float
    frozen_limit: float = 120.0
    groups: ControlGroups = field(default_factory=lambda: ControlGroups(None, ""))
    adoption: Adoption = field(default_factory=Adoption)

    def guard(self) -> Guard:
        """Start a guard for the commands of one attempt. Raises OSError if that fails."""
        return Guard(self)


class RunningCommand:
    """A command that runs, together with all processes that it has started."""

    def __init__(self, guard: Guard, output: Callable[[bytes], None], on_end: Callable[[], None]) -> None:
        self._guard = guard
        self._output = output
        self._on_end = on_end
        self._over = threading.Event()
        self._exit_code: Optional[int] = None
        # The exception that `output` raised, if any.
        self.failure: Optional[Exception] = None
        # Whether the guard killed the command since this process was frozen.
        self.is_abandoned = False

    @property
    def is_over(self) -> bool:
        """Whether the command and all its processes have ended and all output has been forwarded."""
        return self._over.is_set()

    @property
    def exit_code(self) -> int:
        """The exit code as in a shell: 128 plus the signal's number if a signal ended the command.

        Raises AssertionError while the command runs.
        """
        if self._exit_code is None:
            raise AssertionError("the command is not over")
        return self._exit_code

    def stop(self) -> None:
        """Ask the guard to stop all processes: TERM, and KILL after the grace period. Returns at once."""
        self._guard.stop(self)

    def forward(self, data: bytes) -> None:
        """Pass on output. If that fails, the command is stopped."""
        if self.failure is None:
            try:
                self._output(data)
            except Exception as error:  # noqa: BLE001 — after any failure the command must not run on
                self.failure = error
                self.stop()

    def end(self, exit_code: int, *, is_abandoned: bool = False) -> None:
        """Record that the command is over."""
        self._exit_code = exit_code
        self.is_abandoned = is_abandoned
        self._over.set()
        self._on_end()


class Guard:
    """A guard process and the commands that it runs, one after another."""

    def __init__(self, launcher: Launcher) -> None:
        """Start the guard. Raises OSError if that fails."""
        self._grace = launcher.grace
        self._frozen_limit = launcher.frozen_limit
        self._adoption = launcher.adoption
        self._marker = f"{launcher.marker}.{secrets.token_hex(4)}"
        self._own_env = {processes.MARKER_VARIABLE: self._marker}
        self._lock = threading.Lock()
        self._current: Optional[RunningCommand] = None
        self._kill_at: Optional[float] = None
        self._has_ended = False
        self._is_closed = False
        self._over = threading.Event()
        # Only the agent has the writing end of the guard's input, so the input ends when the agent ends.
        guard_input, self._control = os.pipe()
        self._printed, guard_output = os.pipe()
        self._reports, guard_reports = os.pipe()
        os.set_blocking(self._control, False)
        os.set_blocking(self._printed, False)
        try:
            self._process = self._adoption.start_guard(
                [sys.executable, "-I", "-S", "-c", _GUARD, str(launcher.program), str(guard_reports)],
                stdin=guard_input,
                stdout=guard_output,
                stderr=subprocess.STDOUT,
                pass_fds=[guard_reports],
                cwd="/",
                env=self._own_env,
            )
        except OSError:
            for descriptor in (self._control, self._printed, self._reports):
                os.close(descriptor)
            raise
        finally:
            for descriptor in (guard_input, guard_output, guard_reports):
                os.close(descriptor)
        self._group = launcher.groups.enclose(self._process.pid)
        self._thread = threading.Thread(target=self._serve, name=f"guard {self._process.pid}", daemon=True)
        self._thread.start()
        # A thread of its own: the other one waits while the spool is full, because the control plane is away.
        threading.Thread(target=self._confirm, name=f"confirmation to {self._process.pid}", daemon=True).start()

    def start(
        self,
        command: list[str],
        *,
        cwd: Path,
        env: dict[str, str],
        output: Callable[[bytes], None],
        on_end: Callable[[], None],
        user: Optional[StepUser] = None,
        secret: bool = False,
    ) -> RunningCommand:
        """Run `command` in the folder `cwd`; the command before it must be over. Raises OSError if the guard has ended.

        The command runs as `user`, or as the agent's own user if that is None.
        With `secret`, `env` has secret values, which nothing else can read from the guard.
        A thread calls `output` with all that the command prints, and `on_end` when the command is over.
        """
        request = run_request(
            command=command,
            cwd=str(cwd),
            env={**env, **self._own_env},
            grace=self._grace,
            silence=self._frozen_limit,
            user=None if user is None else (user.uid, user.gid, user.groups),
            secret=secret,
        )
        with self._lock:
            if self._current is not None:
                raise AssertionError("a guard runs one command at a time")
            if self._has_ended:
                raise ChildProcessError("another process ended the guard of this job's commands")
            running = self._current = RunningCommand(self, output, on_end)
            self._kill_at = None
            self._send(request)
        return running

    def stop(self, command: RunningCommand) -> None:
        """Ask the guard to stop the command, if it still runs. Returns at once."""
        with self._lock:
            if self._current is command and self._kill_at is None:
                self._kill_at = time.monotonic() + self._grace + _GUARD_LIMIT_SECONDS
                self._send(frame(STOP))

    def close(self) -> None:
        """End the guard and all processes of its commands."""
        with self._lock:
            self._is_closed = True
            self._kill_at = time.monotonic() + _GUARD_LIMIT_SECONDS
            os.close(self._control)
        self._over.set()
        self._thread.join()

    def _confirm(self) -> None:
        """Signal the guard regularly that this process runs, also while the control plane does not answer."""
        while not self._over.wait(self._frozen_limit / 8):
            with self._lock:
                if self._is_closed or self._has_ended:
                    return
                if self._current is not None:
                    self._send(frame(CONFIRM))

    def _send(self, request: bytes) -> None:
        """Write a request to the guard's standard input. A guard that does not read it in time is killed."""
        deadline = time.monotonic() + _GUARD_LIMIT_SECONDS
        view = memoryview(request)
        try:
            while view:
                left = deadline - time.monotonic()
                if left <= 0 or not select.select([], [self._control], [], left)[1]:
                    self._process.kill()
                    return
                view = view[os.write(self._control, view) :]
        except BrokenPipeError:
            # The guard has ended already.
            pass

    def _serve(self) -> None:
        """Pass on output and exit codes until the guard ends."""
        reports = Frames()
        try:
            while self._pass_on(reports):
                pass
        finally:
            self._process.kill()
            code = self._process.wait()
            self._adoption.forget_guard(self._process.pid)
            if self._group is not None:
                self._group.end()
            if code != 0 or not self._is_closed:
                # Another process killed the guard, or there are processes that it could not kill.
                processes.kill_marked(self._marker)
                self._adoption.end_orphans()
            with self._lock:
                self._has_ended = True
            self._drain()
            self._end_command(_KILLED)
            os.close(self._printed)
            os.close(self._reports)

    def _pass_on(self, reports: Frames) -> bool:
        """Wait for output and reports, and pass them on. Returns False if the guard has ended or must end."""
        if self._kill_at is not None and time.monotonic() > self._kill_at:
            return False
        ready, _, _ = select.select([self._printed, self._reports], [], [], _TICK_SECONDS)
        if self._reports not in ready:
            self._drain()
            return True
        data = os.read(self._reports, 4096)
        reports.add(data)
        try:
            while (report := reports.next()) is not None:
                if report[0] in (ENDED, ABANDONED):
                    # All processes of the command have ended, so the rest of their output is in the pipe.
                    self._drain()
                    self._end_command(int(report[1]), is_abandoned=report[0] == ABANDONED)
        except ValueError:
            # Another process has written to the pipe.
            return False
        return bool(data)

    def _drain(self) -> None:
        """Pass on the output that is in the pipe. A process that could not be killed may go on writing to it."""
        taken = 0
        while taken < _PIPE_BYTES:
            try:
                data = os.read(self._printed, _READ_BYTES)
            except BlockingIOError:
                return
            if not data:
                return
            taken += len(data)
            if self._current is not None:
                self._current.forward(data)

    def _end_command(self, exit_code: int, *, is_abandoned: bool = False) -> None:
        with self._lock:
            command, self._current, self._kill_at = self._current, None, None
        if command is not None:
            command.end(exit_code, is_abandoned=is_abandoned)
