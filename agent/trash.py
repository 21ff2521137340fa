"""Workspaces that the agent cannot delete, because files of another user are in them.

`docker run -v` leaves files of root, for example. Such a workspace is moved out of the way, into a folder beside it.
Now and then the agent tries again to delete what is there.
"""

from __future__ import annotations

import logging
import secrets
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from agent.removal import remove_folder

logger = logging.getLogger(__name__)

TRASH = ".trash"
_AGAIN_SECONDS = 600.0


def discard(folder: Path) -> bool:
    """Delete the folder or, if it cannot be deleted, move it to the trash beside it, with a warning.

    Returns whether it is out of the way. Raises nothing.
    """
    if remove_folder(folder):
        return True
    trash = folder.parent / TRASH
    target = trash / f"{folder.name}.{secrets.token_hex(4)}"
    try:
        if trash.is_symlink():
            trash.unlink()
        trash.mkdir(mode=0o700, exist_ok=True)
        folder.rename(target)
    except OSError as error:
        logger.error("the agent can neither delete nor move %s: %s", folder, error)
        return False
    logger.warning(
        "the agent could not delete a workspace, most likely because files of another user are in it (docker run -v "
        "leaves such files). It was moved to %s; delete it as root",
        target,
    )
    return True


def empty_work_dir(work_dir: Path) -> None:
    """Make the folder if it is missing, and discard the workspaces that an earlier run left there. Raises nothing."""
    try:
        work_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        folders = [entry for entry in work_dir.iterdir() if entry.name != TRASH]
    except OSError as error:
        logger.error("the agent cannot use its work directory: %s", error)
        return
    for folder in folders:
        discard(folder)


class Trash:
    """The trash of one work directory."""

    def __init__(self, work_dir: Path, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._path = work_dir / TRASH
        self._monotonic = monotonic
        self._next = float("-inf")

    def clean_soon(self) -> None:
        """Try to delete what is in the trash, in a thread of its own. Most calls do nothing: it is tried rarely."""
        now = self._monotonic()
        if now < self._next:
            return
        self._next = now + _AGAIN_SECONDS
        if self._path.is_dir():
            threading.Thread(target=self.clean, name="trash", daemon=True).start()

    def clean(self) -> None:
        """Delete what can be deleted. Raises nothing."""
        with suppress(OSError):
            if self._path.is_symlink():
                return
            for folder in self._path.iterdir():
                if remove_folder(folder):
                    logger.info("the agent could now delete %s", folder)
