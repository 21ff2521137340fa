"""The agent's check of its own machine. While it fails, the agent takes no jobs and says why."""

from __future__ import annotations

import logging
import os
import shutil
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Optional

from agent.machine import FAULT_CHARACTERS

logger = logging.getLogger(__name__)

# A checkout needs some room. The state directory needs room for an identity, a report and some log.
WORK_FREE_BYTES = 100 * 1024 * 1024
STATE_FREE_BYTES = 10 * 1024 * 1024
# How long the agent takes no jobs after the machine failed one: twice as long after each further one, up to a limit.
_PAUSE_SECONDS, _PAUSE_LIMIT_SECONDS = 30.0, 600.0
# Jobs that start at the same time, and the heartbeat, look at the same folders: one would remove the file of another.
_one_look = threading.Lock()


class Health:
    """What is wrong with this machine. Many threads may share one."""

    def __init__(
        self,
        *,
        work_dir: Path,
        state_dir: Path,
        search_path: Optional[str],
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """`search_path` is the PATH on which jobs find git."""
        self._work_dir = work_dir
        self._state_dir = state_dir
        self._search_path = search_path
        self._monotonic = monotonic
        self._lock = threading.Lock()
        self._failures = 0
        self._last_failure = ""
        self._unfit_until = 0.0
        self.fault: Optional[str] = None

    def check(self) -> Optional[str]:
        """Look at the machine, which takes less than a millisecond. Returns why it is unfit for jobs, or None."""
        found = self._look()
        with self._lock:
            paused = self._last_failure if self._monotonic() < self._unfit_until else None
            self._set(found or paused)
            return self.fault

    def note_failure(self, text: str) -> None:
        """A failure of the machine ended a job.

        If the check does not see it, the agent takes no others for a while, longer after each in a row. Jobs that fail
        at the same time count once.
        """
        found = self._look()
        with self._lock:
            if found is None and self._monotonic() >= self._unfit_until:
                pause = min(_PAUSE_SECONDS * 2 ** min(self._failures, 10), _PAUSE_LIMIT_SECONDS)
                self._failures += 1
                self._last_failure = f"the last job could not run: {text}"
                self._unfit_until = self._monotonic() + pause
                logger.error("this machine failed a job; the agent takes no others for %.0f s", pause)
            self._set(found or self._last_failure)

    def _set(self, fault: Optional[str]) -> None:
        """Record the present fault, and log it if it is another one than before."""
        fault = fault and fault[:FAULT_CHARACTERS]
        if fault != self.fault:
            if fault is None:
                logger.info("this machine is fit for jobs again")
            else:
                logger.error("this machine is unfit for jobs, so the agent takes none: %s", fault)
        self.fault = fault

    def note_success(self) -> None:
        """The machine ran a job to its end."""
        with self._lock:
            self._failures = 0

    def _look(self) -> Optional[str]:
        return (
            work_dir_fault(self._work_dir)
            or _folder_fault(self._state_dir, STATE_FREE_BYTES, "state directory")
            or (None if shutil.which("git", path=self._search_path) else "git is not on the PATH; install it")
        )


def work_dir_fault(path: Path) -> Optional[str]:
    """Why no job can use the work directory, or None."""
    return _folder_fault(path, WORK_FREE_BYTES, "work directory")


def _folder_fault(path: Path, least: int, name: str) -> Optional[str]:
    """Why nothing can be written to the folder, or None."""
    probe = path / ".probe"
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        free = disk_free(path)
        if free < least:
            return (
                f"the disk of the {name} {path} is full: {free // 2**20} MiB are free, {least // 2**20} MiB are needed"
            )
        with _one_look:
            with suppress(FileNotFoundError):
                probe.unlink()
            os.close(os.open(probe, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
            probe.unlink()
    except OSError as error:
        return f"the {name} {path} cannot be written: {error.strerror or error}"
    return None


def disk_free(path: Path) -> int:
    """The bytes that are free for this user on the disk of the path; 0 when it has no inode left."""
    figures = os.statvfs(path)
    if figures.f_files and not figures.f_favail:
        return 0
    return figures.f_bavail * figures.f_frsize
