"""A control group for each guard and the processes of its commands, where the agent may make groups (cgroup v2).

The kernel kills all processes of a group at once. So a process cannot escape by forking faster than the agent looks. As
root, under systemd with Delegate=yes and in many containers, the agent may make groups below its own.
"""

from __future__ import annotations

import os
import re
import secrets
import time
from contextlib import suppress
from pathlib import Path
from typing import Optional

_PREFIX = "hybrid-ci-"
# How long the agent waits for killed processes; one in an uninterruptible call may never end.
_KILL_LIMIT_SECONDS = 10.0


class ControlGroup:
    """One group, for one guard."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def size(self) -> int:
        """How many processes the group has, without those of groups below it."""
        try:
            return len((self._path / "cgroup.procs").read_text().split())
        except OSError:
            return 0

    def end(self) -> None:
        """Kill all processes of the group and remove it."""
        with suppress(OSError):
            (self._path / "cgroup.kill").write_text("1")
        deadline = time.monotonic() + _KILL_LIMIT_SECONDS
        while not self._remove() and time.monotonic() < deadline:
            time.sleep(0.01)

    def _remove(self) -> bool:
        """Remove the group and the groups that a command has made below it. Returns whether it is gone."""
        try:
            for folder, _, _ in os.walk(self._path, topdown=False):
                Path(folder).rmdir()
        except OSError:
            # The kernel has not ended all processes yet.
            return False
        return True


class ControlGroups:
    """Makes groups with the agent's marker in their names."""

    def __init__(self, parent: Optional[Path], marker: str) -> None:
        """`parent` is the group below which the agent may make others, or None."""
        self._parent = parent
        self._prefix = f"{_PREFIX}{marker[:12]}."

    @classmethod
    def find(cls, marker: str) -> ControlGroups:
        """Makes groups below that of this process; makes none where that is impossible."""
        return cls(_own_group(), marker)

    def end_all(self) -> int:
        """Kill the processes in all groups with this marker, which an earlier run has left. Returns how many."""
        count = 0
        if self._parent is not None:
            for path in self._parent.glob(f"{self._prefix}*"):
                group = ControlGroup(path)
                count += group.size()
                group.end()
        return count

    def enclose(self, pid: int) -> Optional[ControlGroup]:
        """Move the process into a new group; its later children follow. Returns None if that is impossible."""
        if self._parent is None:
            return None
        path = self._parent / f"{self._prefix}{secrets.token_hex(4)}"
        try:
            path.mkdir()
        except OSError:
            return None
        group = ControlGroup(path)
        try:
            # Older kernels cannot kill a group.
            (path / "cgroup.kill").stat()
            (path / "cgroup.procs").write_text(str(pid))
        except OSError:
            group.end()
            return None
        return group


def _own_group() -> Optional[Path]:
    """The folder of this process's group, or None where there is no cgroup v2."""
    try:
        mounts = Path("/proc/self/mountinfo").read_text()
        groups = Path("/proc/self/cgroup").read_text()
    except OSError:
        return None
    mount = re.search(r"^\S+ \S+ \S+ (\S+) (\S+) .*? - cgroup2 ", mounts, re.MULTILINE)
    group = re.search(r"^0::(/.*)$", groups, re.MULTILINE)
    if mount is None or group is None:
        return None
    root, folder = mount.groups()
    relative = group[1][len(root) :] if root != "/" and group[1].startswith(root) else group[1]
    return Path(folder) / relative.lstrip("/")
