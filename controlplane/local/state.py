"""The state directory: everything that one `manage.py local` keeps, and the lock that makes it one."""

import fcntl
import os
import secrets
import shutil
import time
from collections.abc import Callable
from pathlib import Path

from controlplane.local.errors import LocalError

# As long as what an earlier `local` left behind may take to stop.
_WAIT_FOR_LEFTOVERS_SECONDS = 40


def write_private(path: Path, text: str) -> None:
    """Write a file that only its owner may read, whole or not at all."""
    temporary = path.with_name(f"{path.name}.new")
    temporary.unlink(missing_ok=True)
    with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(text)
    temporary.replace(path)


class StateDirectory:
    """Names the files in it. Made with mode 0700 when it is missing."""

    def __init__(self, path: Path) -> None:
        """Raises LocalError when it can't be made or written."""
        self.path = path.resolve()
        self.database = self.path / "dynamodb.sqlite3"
        self.credentials = self.path / "credentials.json"
        self.environment = self.path / "environment"
        self.encryption_key = self.path / "sealing.key"
        self.job_logs = self.path / "job-logs"
        self.output = self.path / "log"
        self.agents = self.path / "agents"
        try:
            self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
            self.output.mkdir(exist_ok=True)
            self.lock_fd = os.open(self.path / "lock", os.O_RDWR | os.O_CREAT, 0o600)
        except OSError as error:
            raise LocalError(f"The state directory {self.path} cannot be used: {error.strerror}.") from error

    def lock(self, say: Callable[[str], None]) -> None:
        """Take the directory for this process, and for those that inherit `lock_fd`.

        Raises LocalError at once when another `local` uses it, and after a while when the processes of one that was
        killed do not end.
        """
        deadline = time.monotonic() + _WAIT_FOR_LEFTOVERS_SECONDS
        told = False
        while not self._try_lock():
            owner = self._owner()
            if owner is not None:
                raise LocalError(
                    f"The state directory {self.path} is in use by another `manage.py local`, process {owner}. "
                    "Stop it, or give another --state-dir."
                )
            if time.monotonic() > deadline:
                raise LocalError(
                    f"Processes of an earlier `manage.py local` still use {self.path}; see its log folder."
                )
            if not told:
                say("Waiting for the processes of an earlier start, which was killed, to end")
                told = True
            time.sleep(0.1)
        os.ftruncate(self.lock_fd, 0)
        os.pwrite(self.lock_fd, str(os.getpid()).encode(), 0)

    def forget_without_database(self) -> None:
        """Drop what means nothing once its database is gone: credentials, agents' identities, stored logs."""
        if not self.database.exists():
            self.credentials.unlink(missing_ok=True)
            for folder in (self.agents, self.job_logs):
                if folder.exists():
                    shutil.rmtree(folder)

    def secret_key(self) -> str:
        """Django's secret key, made at the first call."""
        path = self.path / "secret.key"
        if not path.exists():
            write_private(path, secrets.token_urlsafe(48))
        return path.read_text()

    def _try_lock(self) -> bool:
        try:
            fcntl.flock(self.lock_fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def _owner(self) -> int | None:
        """The process that took the lock, or None when it is gone and only its children hold on to it."""
        try:
            owner = int(os.pread(self.lock_fd, 20, 0))
            os.kill(owner, 0)
        except (ValueError, ProcessLookupError):
            return None
        except PermissionError:
            pass
        return owner
