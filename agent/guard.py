"""The small process that supervises one command and all processes that the command starts.

The agent starts a guard for each command. On Linux the guard is a "child subreaper": a process that the command leaves
behind becomes the guard's child, even if it forked twice, called setsid or cleared its environment. So no process
escapes. When the command has ended, the guard kills the remaining processes and ends with the command's exit code.

The guard reads its standard input: first the request to run a command, later the request to stop it. The end of the
input means that the agent is gone, for example after kill -9. Then the guard kills all processes at once.
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
# The exit code of a command that cannot be started, as in a shell.
CANNOT_START = 126

_PR_SET_CHILD_SUBREAPER = 36
# How long the guard tries to kill processes; one in an uninterruptible call may never end.
_KILL_LIMIT_SECONDS = 10


def guard_request(*, command: list[str], cwd: str, env: dict[str, str], grace: float) -> bytes:
    """The request that the agent writes to a guard's standard input: a length in 8 hexadecimal digits, then JSON.

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
    """Run the command that standard input names and write its output to standard output. Returns its exit code."""
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
    code = _Supervisor(child, request["grace"], wake).wait()
    return code if code >= 0 else 128 - code


def _read_request() -> dict[str, Any]:
    def read(size: int) -> bytes:
        data = b""
        while len(data) < size:
            part = os.read(0, size - len(data))
            if not part:
                sys.exit(1)  # The agent ended before it sent the whole request.
            data += part
        return data

    request: dict[str, Any] = json.loads(read(int(read(8), 16)))
    return request


def _become_subreaper() -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def _wake_on_signals() -> int:
    """A descriptor that becomes readable when a child ends. TERM, INT and HUP do not end a guard; the agent does."""
    read, write = os.pipe()
    os.set_blocking(read, False)
    os.set_blocking(write, False)
    signal.set_wakeup_fd(write, warn_on_full_buffer=False)
    for number in (signal.SIGCHLD, signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        # The command would inherit SIG_IGN, so this is a handler that does nothing.
        signal.signal(number, lambda *_: None)
    return read


class _Supervisor:
    def __init__(self, child: subprocess.Popen[bytes], grace: float, wake: int) -> None:
        self._child = child
        self._grace = grace
        self._wake = wake
        self._code: Optional[int] = None
        self._kill_at: Optional[float] = None

    def wait(self) -> int:
        """Wait until the command has ended or must end, then kill the remaining processes.

        Returns the command's exit code, or the negative number of the signal that ended it.
        """
        while not self._is_over():
            timeout = None if self._kill_at is None else max(0.0, min(0.05, self._kill_at - time.monotonic()))
            ready, _, _ = select.select([0, self._wake], [], [], timeout)
            if self._wake in ready:
                os.read(self._wake, 4096)
            if 0 in ready and not self._read_stop():
                break
        self._kill_all()
        return -signal.SIGKILL if self._code is None else self._code

    def _is_over(self) -> bool:
        self._reap()
        if self._kill_at is None:
            return self._code is not None
        # After a stop request, the processes that the command has started get the grace period to clean up, too.
        return time.monotonic() >= self._kill_at or not self._remaining()

    def _read_stop(self) -> bool:
        """Read the agent's request to stop and send TERM. Returns False if the agent is gone."""
        if not os.read(0, 64):
            return False
        if self._kill_at is None:
            self._kill_at = time.monotonic() + self._grace
            for process in self._remaining():
                processes.send_signal(process, signal.SIGTERM)
        return True

    def _reap(self) -> None:
        """Reap all children that have ended, and keep the command's exit code."""
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
        deadline = time.monotonic() + _KILL_LIMIT_SECONDS
        while True:
            self._reap()
            remaining = self._remaining()
            if not remaining or time.monotonic() > deadline:
                break
            for process in remaining:
                processes.send_signal(process, signal.SIGKILL)
            time.sleep(0.005)
        self._reap()

    def _remaining(self) -> list[processes.Process]:
        table = processes.process_table()
        remaining = processes.descendants([os.getpid()], table)
        if sys.platform != "linux":
            # Without a subreaper, only the marker finds processes that are no longer descendants.
            remaining += processes.marked(os.environ[processes.MARKER_VARIABLE], table)
        return remaining
