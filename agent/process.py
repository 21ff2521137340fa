"""Running commands: each has its own guard and its own session, and its output arrives while it runs."""

from __future__ import annotations

import os
import secrets
import select
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Optional

from agent import processes
from agent.guard import STOP, guard_request

_READ_BYTES = 65536
# How long a guard may take to end after the grace period. Then the agent kills the guard itself.
_GUARD_LIMIT_SECONDS = 20


@dataclass(frozen=True)
class Launcher:
    """How this agent starts commands.

    `bundle` is the agent's zipapp, `marker` marks its processes, `grace` is the seconds between TERM and KILL.
    """

    bundle: Path
    marker: str
    grace: float

    def start(
        self,
        command: list[str],
        *,
        cwd: Path,
        env: dict[str, str],
        output: Callable[[bytes], None],
        on_end: Callable[[], None],
    ) -> RunningCommand:
        """Start `command` under a guard in the folder `cwd`. Raises OSError if the guard cannot be started.

        A thread calls `output` with all that the command prints, and `on_end` when the command is over.
        """
        return RunningCommand(self, command, cwd=cwd, env=env, output=output, on_end=on_end)


class RunningCommand:
    """A command that runs, together with all processes that it has started."""

    def __init__(
        self,
        launcher: Launcher,
        command: list[str],
        *,
        cwd: Path,
        env: dict[str, str],
        output: Callable[[bytes], None],
        on_end: Callable[[], None],
    ) -> None:
        self._launcher = launcher
        self._output = output
        self._on_end = on_end
        self._stop_lock = threading.Lock()
        self._kill_at: Optional[float] = None
        # The exception that `output` raised, if any.
        self.failure: Optional[Exception] = None
        self._over = threading.Event()
        self._marker = f"{launcher.marker}.{secrets.token_hex(4)}"
        own = {processes.MARKER_VARIABLE: self._marker}
        request = guard_request(command=command, cwd=str(cwd), env={**env, **own}, grace=launcher.grace)
        # Only the agent holds the writing end of the guard's input, so the input ends when the agent ends.
        guard_input, self._control = os.pipe()
        self._printed, guard_output = os.pipe()
        try:
            self._guard = subprocess.Popen(
                [sys.executable, "-I", "-S", str(launcher.bundle), "guard"],
                stdin=guard_input,
                stdout=guard_output,
                stderr=subprocess.STDOUT,
                cwd="/",
                env=own,
                start_new_session=True,
            )
        except OSError:
            os.close(self._control)
            os.close(self._printed)
            raise
        finally:
            os.close(guard_input)
            os.close(guard_output)
        self._send(request)
        threading.Thread(target=self._forward_output, name=f"output of {self._guard.pid}", daemon=True).start()

    @property
    def is_over(self) -> bool:
        """Whether the command and all its processes have ended and all output has been forwarded."""
        return self._over.is_set()

    @property
    def exit_code(self) -> int:
        """The exit code as in a shell: 128 plus the signal's number if a signal ended the command.

        Raises AssertionError while the command runs.
        """
        code = self._guard.returncode
        if code is None:
            raise AssertionError("the command is not over")
        return code if code >= 0 else 128 - code

    def stop(self) -> None:
        """Ask the guard to stop all processes: TERM, and KILL after the grace period. Returns at once."""
        with self._stop_lock:
            if self._kill_at is None and not self._over.is_set():
                self._kill_at = time.monotonic() + self._launcher.grace + _GUARD_LIMIT_SECONDS
                self._send(STOP)

    def _send(self, request: bytes) -> None:
        """Write a request to the guard's standard input."""
        try:
            view = memoryview(request)
            while view:
                view = view[os.write(self._control, view) :]
        except BrokenPipeError:
            # The guard has ended already.
            pass

    def _forward_output(self) -> None:
        try:
            while True:
                self._kill_late_guard()
                if not select.select([self._printed], [], [], 0.2)[0]:
                    if self._guard.poll() is not None:
                        # A process that could not be killed keeps the pipe open. The job does not wait for it.
                        break
                    continue
                data = os.read(self._printed, _READ_BYTES)
                if not data:
                    break
                self._forward(data)
            self._wait_for_guard()
        finally:
            with self._stop_lock:
                self._over.set()
                os.close(self._printed)
                os.close(self._control)
            self._on_end()

    def _forward(self, data: bytes) -> None:
        if self.failure is None:
            try:
                self._output(data)
            except Exception as error:  # noqa: BLE001 — after any failure the command must not run on
                self.failure = error
                self.stop()

    def _wait_for_guard(self) -> None:
        while True:
            try:
                self._guard.wait(0.5)
                break
            except subprocess.TimeoutExpired:
                self._kill_late_guard()
        if self._guard.returncode < 0:
            # Another process killed the guard. The command's processes are no longer descendants but keep their marker.
            processes.kill_marked(self._marker)

    def _kill_late_guard(self) -> None:
        if self._kill_at is not None and time.monotonic() > self._kill_at:
            self._guard.kill()
