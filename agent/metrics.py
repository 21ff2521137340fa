"""The load of this machine: processor, memory and disk, each in percent."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Optional

_STAT = Path("/proc/stat")
_MEMINFO = Path("/proc/meminfo")


class Metrics:
    """The metrics in heartbeats. `cpu_percent` is the mean since the previous call of `read`."""

    def __init__(self, folder: Path) -> None:
        """`disk_percent` is about the disk of `folder`."""
        self._folder = folder
        self._last = _processor_times()

    def read(self) -> dict[str, float]:
        """The current metrics, each from 0 to 100."""
        try:
            disk = shutil.disk_usage(self._folder)
            disk_used = disk.used / (disk.used + disk.free)
        except (OSError, ZeroDivisionError):
            # The agent's check of this machine says what is wrong with the folder.
            disk_used = 1.0
        return {
            "cpu_percent": self._processor(),
            "memory_percent": _percent(_memory_used()),
            "disk_percent": _percent(disk_used),
        }

    def _processor(self) -> float:
        now = _processor_times()
        if now is None or self._last is None:
            # Without /proc, the load average of the last minute is the best figure.
            return _percent(os.getloadavg()[0] / (os.cpu_count() or 1))
        busy, total = now[0] - self._last[0], now[1] - self._last[1]
        self._last = now
        return _percent(busy / total if total else 0.0)


def _percent(share: float) -> float:
    return round(100 * min(max(share, 0.0), 1.0), 1)


def _processor_times() -> Optional[tuple[int, int]]:
    """The busy ticks and all ticks of all processors since the machine started. None if /proc is missing."""
    try:
        line = _STAT.read_text().splitlines()[0]
    except OSError:
        return None
    # user nice system idle iowait irq softirq steal; guest times are part of user and nice.
    ticks = [int(tick) for tick in line.split()[1:9]]
    return sum(ticks) - sum(ticks[3:5]), sum(ticks)


def _memory_used() -> float:
    """The share of memory, from 0 to 1, that the system cannot give to a new process."""
    try:
        sizes = dict(re.findall(r"^(\w+):\s+(\d+)", _MEMINFO.read_text(), re.MULTILINE))
        return 1 - int(sizes["MemAvailable"]) / int(sizes["MemTotal"])
    except (OSError, KeyError):
        return _memory_used_by_vm_stat()


def _memory_used_by_vm_stat() -> float:
    """The share of used memory on macOS, from 0 to 1; 0 if `vm_stat` is missing or fails."""
    try:
        text = subprocess.run(["/usr/bin/vm_stat"], stdin=subprocess.DEVNULL, capture_output=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError):
        return 0.0
    return vm_stat_share(text.decode())


def vm_stat_share(text: str) -> float:
    """The share of used pages, from 0 to 1, in the output of macOS's `vm_stat`; 0 if it names no pages."""
    pages = {name: int(count) for name, count in re.findall(r"^Pages ([\w ]+):\s+(\d+)\.", text, re.MULTILINE)}
    free = sum(pages.get(name, 0) for name in ("free", "inactive", "speculative", "purgeable"))
    used = sum(pages.get(name, 0) for name in ("active", "wired down", "occupied by compressor"))
    return used / (used + free) if used + free else 0.0
