"""Commands as the agent sees them: each under its own guard, in its own session, its output as it comes."""

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
# A guard that has not ended this long after the end of the grace is killed itself.
_GUARD_PATIENCE_SECONDS = 20


@dataclass(frozen=True)
class Launcher:
    """How this agent starts commands: `bundle` is its zipapp, `marker` names its processes, `grace` is in seconds."""

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
    ) -> Command:
        """Start it. `output` gets what it prints, in a thread of the command's; `on_end` is called when all is over."""
        return Command(self, command, cwd=cwd, env=env, output=output, on_end=on_end)


class Command:
    """A command that runs, with everything that it has started."""

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
        # What went wrong with `output`, if anything did.
        self.failure: Optional[Exception] = None
        self._over = threading.Event()
        self._marker = f"{launcher.marker}.{secrets.token_hex(4)}"
        own = {processes.MARKER_VARIABLE: self._marker}
        request = guard_request(command=command, cwd=str(cwd), env={**env, **own}, grace=launcher.grace)
        # The guard's ends of the two pipes are closed here; that of its input ends when this process does.
        heard, self._control = os.pipe()
        self._printed, printing = os.pipe()
        try:
            self._guard = subprocess.Popen(
                [sys.executable, "-I", "-S", str(launcher.bundle), "guard"],
                stdin=heard,
                stdout=printing,
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
            os.close(heard)
            os.close(printing)
        self._tell(request)
        threading.Thread(target=self._pump, name=f"output of {self._guard.pid}", daemon=True).start()

    @property
    def is_over(self) -> bool:
        """Whether the command and all that it has started have ended and their output has been passed on."""
        return self._over.is_set()

    @property
    def exit_code(self) -> int:
        """As a shell has it: 128 and the signal's number for a command that a signal ended. Only once it is over."""
        code = self._guard.returncode
        if code is None:
            raise AssertionError("the command is not over")
        return code if code >= 0 else 128 - code

    def stop(self) -> None:
        """Ask everything to end (TERM), and make it end (KILL) after the grace. Returns at once."""
        with self._stop_lock:
            if self._kill_at is None and not self._over.is_set():
                self._kill_at = time.monotonic() + self._launcher.grace + _GUARD_PATIENCE_SECONDS
                self._tell(STOP)

    def _tell(self, word: bytes) -> None:
        try:
            view = memoryview(word)
            while view:
                view = view[os.write(self._control, view) :]
        except BrokenPipeError:
            # The guard has ended already.
            pass

    def _pump(self) -> None:
        try:
            while True:
                self._enforce()
                if not select.select([self._printed], [], [], 0.2)[0]:
                    if self._guard.poll() is not None:
                        # A process that could not be killed holds the pipe; it shall not hold the job.
                        break
                    continue
                data = os.read(self._printed, _READ_BYTES)
                if not data:
                    break
                self._pass_on(data)
            self._wait_for_guard()
        finally:
            with self._stop_lock:
                self._over.set()
                os.close(self._printed)
                os.close(self._control)
            self._on_end()

    def _pass_on(self, data: bytes) -> None:
        if self.failure is None:
            try:
                self._output(data)
            except Exception as error:  # noqa: BLE001 — whatever it is, the command must not run on unwatched
                self.failure = error
                self.stop()

    def _wait_for_guard(self) -> None:
        while True:
            try:
                self._guard.wait(0.5)
                break
            except subprocess.TimeoutExpired:
                self._enforce()
        if self._guard.returncode < 0:
            # Somebody killed the guard. What it stood over has lost its family, but not its marker.
            processes.kill_marked(self._marker)

    def _enforce(self) -> None:
        if self._kill_at is not None and time.monotonic() > self._kill_at:
            self._guard.kill()
