"""The folders of one attempt: the checkout, and a home and temporary folder that no other job sees.

A second one is on a tmpfs where there is one: what steps get or hand over in it reaches no disk.

Settings that a step writes to its home, such as `git config --global`, end with the attempt. The agent's own home
stays that of the checkout, so git finds the machine's keys and credential helpers there.
"""

from __future__ import annotations

import logging
import os
import stat
import sys
import zipfile
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from typing import Optional

from agent.bundle import agent_bundle
from agent.job_outputs import NAME as OUTPUT_NAME
from agent.job_outputs import VARIABLE as OUTPUT_VARIABLE
from agent.removal import remove_folder
from agent.step_users import StepUser
from agent.trash import discard

logger = logging.getLogger(__name__)

# The path of the agent's program.
PROGRAM_VARIABLE = "HYBRID_CI_AGENT"


class JobFolder:
    """Names the parts of the folder `path`, makes them, and gives them to the user `owner` that steps run as.

    Without `owner`, steps run as the agent's own user.
    """

    def __init__(
        self,
        path: Path,
        owner: Optional[StepUser] = None,
        *,
        private: Optional[Path] = None,
        workspace: Optional[Path] = None,
    ) -> None:
        """`private` is the folder on a tmpfs. `workspace` is a checkout that exists already, outside of the folder."""
        self.path = path
        self.owner = owner
        self._private = private or path / "private"
        self._is_owners = False
        self.workspace = workspace or path / "workspace"
        self.home = path / "home"
        self.temporary = path / "tmp"
        # The agent's program, if steps get it.
        self.program: Optional[Path] = None
        # What steps hand to the agent.
        self.exchange = self._private / "exchange"
        # Secrets that they get as files.
        self.secrets = self._private / "secrets"
        self._fetch_key = self._private / "fetch-key"

    @property
    def outputs(self) -> Path:
        """The file that steps write the job's outputs to."""
        return self.exchange / OUTPUT_NAME

    def create(self) -> None:
        """Make the folders and their parts, mode 0700. What an earlier attempt left is discarded. Raises OSError."""
        self.remove()
        self.path.mkdir(mode=0o700, parents=True)
        self._private.mkdir(mode=0o700)
        for part in (self.path / "workspace", self.home, self.temporary, self.exchange, self.secrets):
            part.mkdir(mode=0o700)

    def remove(self) -> None:
        """Remove the folders, or move what cannot be removed out of the way. Raises nothing."""
        self.remove_secrets()
        remove_folder(self._private)
        discard(self.path)

    def write_fetch_key(self, text: str) -> Path:
        """Write the private key with which git fetches, for the agent's own user. Returns its path. Raises OSError."""
        # ssh wants lines that end as on Unix, the last one, too.
        return self._write(self._fetch_key, ("\n".join(text.split("\r\n")).rstrip("\n") + "\n").encode())

    def remove_fetch_key(self) -> None:
        """Remove that private key, if there is one. Raises nothing."""
        try:
            self._fetch_key.unlink(missing_ok=True)
        except OSError:
            logger.exception("the agent cannot remove %s, which has a private key", self._fetch_key)

    def remove_secrets(self) -> None:
        """Remove what steps got as files. Raises nothing."""
        if not remove_folder(self.secrets):
            logger.error("the agent cannot remove %s, which has secrets of a job", self.secrets)

    def hand_over(self) -> None:
        """Give the checkout, the home and the temporary folder to the owner, if there is one. Raises OSError.

        The folder itself stays the agent's, so no step can put something where the agent writes scripts.
        """
        if self.owner is None:
            return
        _give(self.workspace, self.owner)
        for part in (self.home, self.temporary, self.exchange, self.workspace):
            os.chown(part, self.owner.uid, self.owner.gid)
        for folder in (self.path, self._private, self.secrets):
            folder.chmod(0o711)
        self._is_owners = True

    def add_program(self) -> None:
        """Put the agent's program there, for steps that upload. Raises OSError."""
        path = self.path / "agent.pyz"
        with suppress(ModuleNotFoundError):
            path.write_bytes(own_program())
            path.chmod(0o644)
            self.program = path

    def environment(self) -> dict[str, str]:
        """The variables by which programs find the attempt's own home, temporary folder, git settings and outputs."""
        return {
            "HOME": str(self.home),
            "TMPDIR": str(self.temporary),
            "GIT_CONFIG_GLOBAL": str(self.home / ".gitconfig"),
            OUTPUT_VARIABLE: str(self.outputs),
            **({PROGRAM_VARIABLE: str(self.program)} if self.program else {}),
            **(self.owner.environment() if self.owner else {}),
        }

    def write_script(self, name: str, text: str) -> Path:
        """Write a step's script. Returns its path. Raises OSError, or UnicodeError if the text is no valid Unicode."""
        return self._write(self.path / name, text.encode())

    def write_secret(self, name: str, value: str) -> Path:
        """Write a secret that steps get as a file. Returns its path. Raises OSError and UnicodeError."""
        return self._write(self.secrets / name, value.encode())

    def _write(self, path: Path, data: bytes) -> Path:
        """Write a new file, mode 0600, for the steps' user."""
        # An earlier step may have put a link there.
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            if self.owner is not None and self._is_owners:
                os.fchown(file.fileno(), self.owner.uid, self.owner.gid)
        return path


@lru_cache
def own_program() -> bytes:
    """The program as one file, whether it runs as one or from its sources. It is read once, before an update.

    Raises OSError, and ModuleNotFoundError where the sources are without PyYAML.
    """
    own = Path(sys.argv[0])
    return own.read_bytes() if zipfile.is_zipfile(own) else agent_bundle()


def _give(folder: Path, owner: StepUser) -> None:
    """Give everything in the folder to the owner. Links are given, too, but not what they point to."""
    top = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        pending = ["."]
        while pending:
            name = pending.pop()
            # Relative to the folder, git can make no path that is too long.
            current = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=top)
            try:
                with os.scandir(current) as entries:
                    for entry in entries:
                        is_folder = entry.is_dir(follow_symlinks=False)
                        found = os.stat(entry.name, dir_fd=current, follow_symlinks=False)
                        # Another name of such a file may be outside, in a repository that jobs share.
                        if stat.S_ISREG(found.st_mode) and found.st_nlink > 1:
                            continue
                        os.chown(entry.name, owner.uid, owner.gid, dir_fd=current, follow_symlinks=False)
                        if is_folder:
                            pending.append(f"{name}/{entry.name}")
            finally:
                os.close(current)
    finally:
        os.close(top)
