"""Ends the processes of `manage.py local`: in which order, and after how long by force."""

import os
import signal
import time
from collections.abc import Callable, Collection
from enum import IntEnum


class Stage(IntEnum):
    """The order of the end, lowest first: agents while they can still report, the database after all writers."""

    AGENT = 1
    SERVER = 2
    DATABASE = 3


# After each pause, a process that still runs gets the next SIGTERM, and after the last pause SIGKILL. An agent finishes
# its jobs on its first SIGTERM and stops them on its second.
_PAUSES = {Stage.AGENT: (4.0, 8.0), Stage.SERVER: (5.0,), Stage.DATABASE: (15.0,)}


def processes_end(processes: Collection[tuple[Stage, int]], running: Callable[[int], bool]) -> None:
    """End the processes, each the leader of its own group. SIGKILL goes to the whole group.

    `running` says whether a process still runs.
    """
    for stage in Stage:
        left = [process for of, process in processes if of == stage]
        for pause in _PAUSES[stage]:
            left = [process for process in left if running(process)]
            _signal(left, os.kill, signal.SIGTERM)
            _wait(left, running, pause)
        _signal([process for process in left if running(process)], os.killpg, signal.SIGKILL)
        _wait(left, running, 1)


def _signal(processes: Collection[int], send: Callable[[int, int], None], number: int) -> None:
    for process in processes:
        try:
            send(process, number)
        except (ProcessLookupError, PermissionError):
            continue


def _wait(processes: Collection[int], running: Callable[[int], bool], seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while any(running(process) for process in processes) and time.monotonic() < deadline:
        time.sleep(0.05)
