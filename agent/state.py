"""The state directory: the files that an agent keeps between two starts, and the lock that admits one process."""

from __future__ import annotations

import fcntl
import os
import secrets
from pathlib import Path

from agent.errors import StateDirectoryInUse
from agent.files import write_private


class StateDirectory:
    """Names the files in the directory and holds its lock. The lock ends with the process, also after kill -9."""

    def __init__(self, path: Path) -> None:
        """Make the directory (mode 0700) if it is missing, and take its lock.

        Raises StateDirectoryInUse if another agent holds the lock.
        """
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.path = path.resolve()
        self.identity = self.path / "identity.json"
        self.enrolment = self.path / "enrolment.json"
        self.heartbeat = self.path / "heartbeat.json"
        self.spool = self.path / "spool"
        self.containers = self.path / "containers"
        self.program = self.path / "program"
        self._lock = os.open(self.path / "lock", os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(self._lock)
            raise StateDirectoryInUse(
                f"Another agent uses the state directory {self.path}. "
                "Stop that agent, or give this one its own directory with --state-dir."
            ) from error
        # A kill -9 in the middle of a write leaves such files.
        for unfinished in self.path.glob(".*.json.*"):
            unfinished.unlink()
        self.marker = self._read_marker()

    def close(self) -> None:
        """Release the lock."""
        os.close(self._lock)

    def _read_marker(self) -> str:
        """The random word in the environment of each of this agent's processes. The first start makes it."""
        path = self.path / "marker"
        if not path.exists():
            write_private(path, secrets.token_hex(16).encode())
        return path.read_text().strip()
