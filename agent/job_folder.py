"""The folder of one attempt: the checkout, and a home and temporary folder that no other job sees.

Settings that a step writes to its home, such as `git config --global`, end with the attempt. The agent's own home
stays that of the checkout, so git finds the machine's keys and credential helpers there.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Optional

from agent.step_users import StepUser
from agent.trash import discard


class JobFolder:
    """Names the parts of the folder `path`, makes them, and gives them to the user `owner` that steps run as.

    Without `owner`, steps run as the agent's own user.
    """

    def __init__(self, path: Path, owner: Optional[StepUser] = None) -> None:
        self.path = path
        self.owner = owner
        self._is_owners = False
        self.workspace = path / "workspace"
        self.home = path / "home"
        self.temporary = path / "tmp"

    def create(self) -> None:
        """Make the folder and its parts, mode 0700. What an earlier attempt left there is discarded. Raises OSError."""
        discard(self.path)
        self.path.mkdir(mode=0o700, parents=True)
        for part in (self.workspace, self.home, self.temporary):
            part.mkdir(mode=0o700)

    def hand_over(self) -> None:
        """Give the checkout, the home and the temporary folder to the owner, if there is one. Raises OSError.

        The folder itself stays the agent's, so no step can put something where the agent writes scripts.
        """
        if self.owner is None:
            return
        _give(self.workspace, self.owner)
        for part in (self.home, self.temporary, self.workspace):
            os.chown(part, self.owner.uid, self.owner.gid)
        self.path.chmod(0o711)
        self._is_owners = True

    def environment(self) -> dict[str, str]:
        """The variables by which programs find the attempt's own home, temporary folder and git configuration."""
        return {
            "HOME": str(self.home),
            "TMPDIR": str(self.temporary),
            "GIT_CONFIG_GLOBAL": str(self.home / ".gitconfig"),
            **(self.owner.environment() if self.owner else {}),
        }

    def write_script(self, name: str, text: str) -> Path:
        """Write a step's script. Returns its path. Raises OSError, or UnicodeError if the text is no valid Unicode."""
        data = text.encode()
        path = self.path / name
        # An earlier step may have put a link there.
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            if self.owner is not None and self._is_owners:
                os.fchown(file.fileno(), self.owner.uid, self.owner.gid)
        return path


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
