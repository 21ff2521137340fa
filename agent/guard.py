"""The small process that stands over one command and over everything that the command starts.

The agent starts a guard for each command. All that the command leaves behind becomes the guard's child (on Linux it is
a "child subreaper"), also what forked twice, called setsid or cleared its environment, so that nothing escapes it. The
guard ends when the command has ended and everything left of it is killed; its exit code is the command's.

It reads from its standard input: first what to run, later the word to stop. The end of the input means that the agent
is gone, kill -9 included: then everything is killed at once.
"""

from __future__ import annotations

import ctypes
import json
import os
import select
import signal
import subprocess
import sys
import time
from typing import Any, Optional

from agent import processes

STOP = b"stop\n"
# What a shell answers for a command that cannot be started.
CANNOT_START = 126

_PR_SET_CHILD_SUBREAPER = 36
_PATIENCE_SECONDS = 10


def guard_request(*, command: list[str], cwd: str, env: dict[str, str], grace: float) -> bytes:
    """What the agent writes to a guard's standard input: a length in 8 hexadecimal digits, then JSON.

    `grace` is the time in seconds between TERM and KILL.
    """
    document = {
        "command": command,
        "cwd": cwd,
        # Inherited values need not be UTF-8, and the guard may run under another locale.
        "env": {
            os.fsencode(name).decode("latin-1"): os.fsencode(value).decode("latin-1") for name, value in env.items()
        },
        "grace": grace,
    }
    data = json.dumps(document).encode()
    return b"%08x" % len(data) + data


def guard_main() -> int:
    """Run what standard input asks for, write its output to standard output, and return its exit code."""
    request = _read_request()
    _become_subreaper()
    wake = _wake_on_signals()
    try:
        child = subprocess.Popen(
            request["command"],
            cwd=request["cwd"],
            env={name.encode("latin-1"): value.encode("latin-1") for name, value in request["env"].items()},
            stdin=subprocess.DEVNULL,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    except (OSError, ValueError) as error:
        os.write(1, f"cannot start {request['command'][0]}: {error}\n".encode(errors="replace"))
        return CANNOT_START
    code = _Watch(child, request["grace"], wake).until_over()
    return code if code >= 0 else 128 - code


def _read_request() -> dict[str, Any]:
    def read(size: int) -> bytes:
        data = b""
        while len(data) < size:
            part = os.read(0, size - len(data))
            if not part:
                sys.exit(1)  # The agent ended before it had said what to run.
            data += part
        return data

    request: dict[str, Any] = json.loads(read(int(read(8), 16)))
    return request


def _become_subreaper() -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def _wake_on_signals() -> int:
    """A descriptor that becomes readable when a child ends. TERM and the like do not end a guard: the agent decides."""
    read, write = os.pipe()
    os.set_blocking(read, False)
    os.set_blocking(write, False)
    signal.set_wakeup_fd(write, warn_on_full_buffer=False)
    for number in (signal.SIGCHLD, signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        # A handler, not SIG_IGN, which the command would inherit.
        signal.signal(number, lambda *_: None)
    return read


class _Watch:
    def __init__(self, child: subprocess.Popen[bytes], grace: float, wake: int) -> None:
        self._child = child
        self._grace = grace
        self._wake = wake
        self._code: Optional[int] = None
        self._kill_at: Optional[float] = None

    def until_over(self) -> int:
        """Wait until the command has ended or must end, then kill what is left. Returns a code as Popen has it."""
        while not self._is_over():
            timeout = None if self._kill_at is None else max(0.0, min(0.05, self._kill_at - time.monotonic()))
            ready, _, _ = select.select([0, self._wake], [], [], timeout)
            if self._wake in ready:
                os.read(self._wake, 4096)
            if 0 in ready and not self._obey():
                break
        self._kill_all()
        return -signal.SIGKILL if self._code is None else self._code

    def _is_over(self) -> bool:
        self._collect()
        if self._kill_at is None:
            return self._code is not None
        # While stopping, what the command has started gets its time to tidy up, too.
        return time.monotonic() >= self._kill_at or not self._left()

    def _obey(self) -> bool:
        """Read a word from the agent. Returns False when there is no agent any more."""
        if not os.read(0, 64):
            return False
        if self._kill_at is None:
            self._kill_at = time.monotonic() + self._grace
            for process in self._left():
                processes.send_signal(process, signal.SIGTERM)
        return True

    def _collect(self) -> None:
        """Take the exit codes of all children that have ended."""
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            if pid == self._child.pid:
                self._code = self._child.returncode = os.waitstatus_to_exitcode(status)

    def _kill_all(self) -> None:
        deadline = time.monotonic() + _PATIENCE_SECONDS
        while True:
            self._collect()
            left = self._left()
            if not left or time.monotonic() > deadline:
                break
            for process in left:
                processes.send_signal(process, signal.SIGKILL)
            time.sleep(0.005)
        self._collect()

    def _left(self) -> list[processes.Process]:
        table = processes.process_table()
        left = processes.descendants([os.getpid()], table)
        if sys.platform != "linux":
            # Without subreapers, the marker finds what has left the family.
            left += processes.marked(os.environ[processes.MARKER_VARIABLE], table)
        return left
