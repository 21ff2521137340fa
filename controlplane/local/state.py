"""The state directory of `manage.py local`: its files, and the lock that allows only one process to use it."""

import fcntl
import os
import secrets
import shutil
import time
from collections.abc import Callable
from pathlib import Path

from controlplane.local.errors import LocalError

# The processes of an earlier `local` may take so long to stop.
_WAIT_FOR_LEFTOVERS_SECONDS = 40


def write_private(path: Path, text: str) -> None:
    """Write a file that only its owner may read. The file is complete or missing."""
    temporary = path.with_name(f"{path.name}.new")
    temporary.unlink(missing_ok=True)
    with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(text)
    temporary.replace(path)


class StateDirectory:
    """The paths of its files. The directory is created with mode 0700."""

    def __init__(self, path: Path) -> None:
        """Raises LocalError when the directory cannot be created or written."""
        self.path = path.resolve()
        self.database = self.path / "dynamodb.sqlite3"
        self.credentials = self.path / "credentials.json"
        self.environment = self.path / "environment"
        self.encryption_key = self.path / "sealing.key"
        self.job_logs = self.path / "job-logs"
        self.artifacts = self.path / "artifacts"
        self.output = self.path / "log"
        self.agents = self.path / "agents"
        try:
            self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
            self.output.mkdir(exist_ok=True)
            self.lock_fd = os.open(self.path / "lock", os.O_RDWR | os.O_CREAT, 0o600)
        except OSError as error:
            raise LocalError(f"The state directory {self.path} cannot be used: {error.strerror}.") from error

    def lock(self, say: Callable[[str], None]) -> None:
        """Lock the directory for this process and for those that inherit `lock_fd`.

        Raises LocalError at once when another `local` uses it, and after a timeout when processes of a killed one do
        not end.
        """
        deadline = time.monotonic() + _WAIT_FOR_LEFTOVERS_SECONDS
        announced = False
        while not self._try_lock():
            owner = self._owner()
            if owner is not None:
                raise LocalError(
                    f"The state directory {self.path} is in use by another `manage.py local`, process {owner}. "
                    "Stop it, or give another --state-dir."
                )
            if time.monotonic() > deadline:
                raise LocalError(
                    f"Processes of an earlier `manage.py local` still use {self.path}. End them; see its log folder."
                )
            if not announced:
                say("Waiting for the processes of an earlier `manage.py local`, which was killed, to end")
                announced = True
            time.sleep(0.1)
        os.ftruncate(self.lock_fd, 0)
        os.pwrite(self.lock_fd, str(os.getpid()).encode(), 0)

    def forget_without_database(self) -> None:
        """Delete what is useless without its database: credentials, identities of agents, archived logs, artifacts."""
        if not self.database.exists():
            self.credentials.unlink(missing_ok=True)
            for folder in (self.agents, self.job_logs, self.artifacts):
                if folder.exists():
                    shutil.rmtree(folder)

    def secret_key(self) -> str:
        """Django's secret key, created at the first call."""
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
        """The process that holds the lock. None when it has ended and only its children hold the lock."""
        try:
            owner = int(os.pread(self.lock_fd, 20, 0))
            os.kill(owner, 0)
        except (ValueError, ProcessLookupError):
            return None
        except PermissionError:
            pass
        return owner
