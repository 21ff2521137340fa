"""Find processes, and signal only those that certainly belong to this agent.

A process belongs to an agent if it descends from one of the agent's processes, or if its environment has the agent's
marker: a random word of the state directory, followed by a random word of the command. Linux shows both under /proc,
other systems by `ps`.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    # Each guard imports this module at its start, so it imports only what is cheap.
    from collections.abc import Iterable

# The environment variable that every process of an agent carries.
MARKER_VARIABLE = "HYBRID_CI_PROCESS_OF"

_HAS_PROC = os.access("/proc/self/stat", os.R_OK)
# How long the agent tries to kill processes; one in an uninterruptible call may never end.
_KILL_LIMIT_SECONDS = 10
_PR_SET_CHILD_SUBREAPER = 36


class Process:
    """A running process. `started` distinguishes it from a later process with the same number."""

    __slots__ = ("parent", "pid", "started")

    def __init__(self, pid: int, parent: int, started: str) -> None:
        self.pid = pid
        self.parent = parent
        self.started = started

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Process) and (self.pid, self.started) == (other.pid, other.started)

    def __hash__(self) -> int:
        return hash((self.pid, self.started))


def become_subreaper() -> None:
    """Make this process the parent of all its descendants whose own parent ends (Linux only)."""
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def process_table(*, zombies: bool = False) -> dict[int, Process]:
    """All visible processes by their numbers; on Linux `zombies` includes those that have ended and were not reaped."""
    return _proc_table(zombies=zombies) if _HAS_PROC else _ps_table()


def descendants(roots: Iterable[int], table: dict[int, Process]) -> list[Process]:
    """The children of `roots`, their children and so on, nearest first, without the roots themselves."""
    children: dict[int, list[Process]] = {}
    for process in table.values():
        children.setdefault(process.parent, []).append(process)
    found: list[Process] = []
    seen = set(roots)
    queue = list(seen)
    for pid in queue:
        for child in children.get(pid, []):
            if child.pid not in seen:
                seen.add(child.pid)
                queue.append(child.pid)
                found.append(child)
    return found


def marked(marker: str, table: dict[int, Process]) -> list[Process]:
    """The processes whose marker is `marker` or begins with it, without the calling process."""
    wanted = f"{MARKER_VARIABLE}={marker}".encode()
    pids = _proc_marked(wanted, table) if _HAS_PROC else _ps_marked(wanted)
    return [table[pid] for pid in pids if pid in table and pid != os.getpid()]


def kill_marked(marker: str) -> list[int]:
    """Kill every process with the marker and all its descendants, until none remains or ten seconds have passed.

    Returns the numbers of all processes that got the signal.
    """
    killed: set[int] = set()
    deadline = time.monotonic() + _KILL_LIMIT_SECONDS
    while time.monotonic() < deadline:
        table = process_table()
        ours = marked(marker, table)
        ours += [process for process in descendants([one.pid for one in ours], table) if process.pid != os.getpid()]
        if not ours:
            break
        for process in ours:
            send_signal(process, signal.SIGKILL)
            killed.add(process.pid)
        time.sleep(0.02)
    return sorted(killed)


def send_signal(process: Process, number: int) -> None:
    """Signal exactly this process. Nothing happens if it has ended or belongs to another user."""
    try:
        if hasattr(os, "pidfd_open") and hasattr(signal, "pidfd_send_signal"):
            descriptor = os.pidfd_open(process.pid)
            try:
                # The descriptor keeps pointing to one process; the start time proves that it is the right one.
                if _started(process.pid) == process.started:
                    signal.pidfd_send_signal(descriptor, number)
            finally:
                os.close(descriptor)
        elif process_table().get(process.pid) == process:
            os.kill(process.pid, number)
    except OSError:
        # The process has ended, or belongs to another user.
        pass


def owner(pid: int) -> int:
    """The number of the user whose rights the process has, or -1 if it has ended."""
    if not _HAS_PROC:
        lines = _ps("-o", "uid=", "-p", str(pid))
        return int(lines[0]) if lines else -1
    try:
        # The owner of the folder is root for processes that must not be inspected, so this reads the real one.
        for line in _read(f"/proc/{pid}/status").splitlines():
            if line.startswith(b"Uid:"):
                return int(line.split()[1])
    except OSError:
        pass
    return -1


def _proc_table(*, zombies: bool) -> dict[int, Process]:
    table = {}
    for name in os.listdir("/proc"):
        if name.isdigit():
            fields = _stat(int(name))
            if fields and (zombies or fields[0] not in (b"Z", b"X")):
                table[int(name)] = Process(int(name), int(fields[1]), fields[19].decode())
    return table


def _stat(pid: int) -> list[bytes]:
    """The fields of /proc/<pid>/stat from the state on; empty if the process has ended."""
    try:
        text = _read(f"/proc/{pid}/stat")
    except OSError:
        return []
    # The process name before these fields is in brackets and may itself contain brackets and spaces.
    return text[text.rindex(b")") + 2 :].split()


def _read(path: str) -> bytes:
    with open(path, "rb", buffering=0) as file:
        return file.readall()


def _started(pid: int) -> str:
    fields = _stat(pid)
    return fields[19].decode() if fields else ""


def _proc_marked(wanted: bytes, table: dict[int, Process]) -> list[int]:
    found = []
    for pid in table:
        try:
            environment = _read(f"/proc/{pid}/environ")
        except OSError:
            # The process has ended, or belongs to another user and so not to this agent.
            continue
        if any(entry.startswith(wanted) for entry in environment.split(b"\0")):
            found.append(pid)
    return found


def _ps_table() -> dict[int, Process]:
    table = {}
    for line in _ps("-A", "-o", "pid=,ppid=,stat=,lstart="):
        pid, parent, state, started = line.split(None, 3)
        if not state.startswith(b"Z"):
            table[int(pid)] = Process(int(pid), int(parent), started.decode().strip())
    return table


def _ps_marked(wanted: bytes) -> list[int]:
    """With -E, `ps` on macOS appends the environment of the user's own processes to their commands."""
    return [int(line.split(None, 1)[0]) for line in _ps("-A", "-E", "-ww", "-o", "pid=,command=") if wanted in line]


def _ps(*arguments: str) -> list[bytes]:
    # Only systems without /proc need it.
    import subprocess

    result = subprocess.run(["/bin/ps", *arguments], stdin=subprocess.DEVNULL, capture_output=True, check=False)
    return [line for line in result.stdout.splitlines() if line.strip()]
