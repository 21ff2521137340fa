"""The folder of one attempt: the checkout, and a home and temporary folder that no other job sees.

Settings that a step writes to its home, such as `git config --global`, end with the attempt. The agent's own home
stays that of the checkout, so git finds the machine's keys and credential helpers there.
"""

from __future__ import annotations

import os
from pathlib import Path

from agent.removal import remove_folder


class JobFolder:
    """Names the parts of the folder `path`, and makes and removes them."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.workspace = path / "workspace"
        self._home = path / "home"
        self._temporary = path / "tmp"

    def create(self) -> None:
        """Make the folder and its parts, mode 0700. What an earlier attempt left there is removed. Raises OSError."""
        remove_folder(self.path)
        self.path.mkdir(mode=0o700, parents=True)
        for part in (self.workspace, self._home, self._temporary):
            part.mkdir(mode=0o700)

    def environment(self) -> dict[str, str]:
        """The variables by which programs find the attempt's own home, temporary folder and git configuration."""
        return {
            "HOME": str(self._home),
            "TMPDIR": str(self._temporary),
            "GIT_CONFIG_GLOBAL": str(self._home / ".gitconfig"),
        }

    def write_script(self, name: str, text: str) -> Path:
        """Write a step's script. Returns its path. Raises OSError, or UnicodeError if the text is no valid Unicode."""
        data = text.encode()
        path = self.path / name
        # An earlier step may have put a link there.
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
        return path
