"""Adopt the processes of a guard that another process has killed, and end them.

On Linux the agent is a "child subreaper", as each guard is. So when a guard is killed, the processes below it become
children of the agent: also those that forked twice, called setsid and cleared their environment. Only a process that
ends the agent itself can free them.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import suppress
from typing import Any

from agent import processes

# How long the agent tries to kill processes; one in an uninterruptible call may never end.
_KILL_LIMIT_SECONDS = 10.0


class Adoption:
    """Distinguishes this process's own children from the processes that it has adopted."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._is_on = False
        self._own: set[int] = set()

    def begin(self) -> None:
        """Adopt orphans from now on (Linux only). Must be called before the first guard starts."""
        if sys.platform == "linux":
            processes.become_subreaper()
            self._own = {one.pid for one in processes.process_table().values() if one.parent == os.getpid()}
            self._is_on = True

    def start_guard(self, command: list[str], **options: Any) -> subprocess.Popen[bytes]:
        """Start a guard in a session of its own. `options` are those of Popen. Raises OSError."""
        with self._lock:
            guard = subprocess.Popen(command, start_new_session=True, **options)
            self._own.add(guard.pid)
        return guard

    def forget_guard(self, pid: int) -> None:
        """A guard has ended and was reaped."""
        with self._lock:
            self._own.discard(pid)

    def end_orphans(self) -> None:
        """Kill and reap all adopted processes and their descendants, until none remains or ten seconds have passed."""
        deadline = time.monotonic() + _KILL_LIMIT_SECONDS
        while self._is_on and self._end_once() and time.monotonic() < deadline:
            time.sleep(0.01)

    def _end_once(self) -> bool:
        """Kill the adopted processes that are there now. Returns whether there were any."""
        with self._lock:
            table = processes.process_table(zombies=True)
            orphans = [one for one in table.values() if one.parent == os.getpid() and self._is_adopted(one.pid)]
        for process in [*orphans, *processes.descendants([one.pid for one in orphans], table)]:
            processes.send_signal(process, signal.SIGKILL)
        for process in orphans:
            with suppress(ChildProcessError):
                os.waitpid(process.pid, os.WNOHANG)
        return bool(orphans)

    def _is_adopted(self, pid: int) -> bool:
        """Whether this process did not start its child itself: it starts only guards in other sessions than its own."""
        try:
            return pid not in self._own and os.getsid(pid) != os.getsid(0)
        except ProcessLookupError:
            return False
