"""Where an agent keeps what must not reach a disk: secrets that steps get as files, and what steps ask of the agent.

That is a folder of its own on a tmpfs, where the machine has one that serves: files there are in memory alone.
"""

from __future__ import annotations

import logging
import os
import stat
from pathlib import Path
from typing import Optional

from agent.removal import remove_folder

logger = logging.getLogger(__name__)

_SHARED_MEMORY = "/dev/shm"  # noqa: S108 — a folder of its own in it, which only its owner can enter
_IN_MEMORY = (b"tmpfs", b"ramfs")


def private_folder(name: str, *, others_enter: bool) -> Optional[Path]:
    """The folder of this name on a tmpfs, or None if the machine has none that serves.

    With `others_enter`, other users may enter folders in it whose names they know. What is in it stays.
    """
    # Other users cannot enter the folder of the session.
    session = "" if others_enter else os.environ.get("XDG_RUNTIME_DIR", "")
    for parent in filter(None, (_SHARED_MEMORY, session)):
        if not _is_in_memory(parent) or not os.access(parent, os.W_OK | os.X_OK):
            continue
        path = Path(parent) / name
        if _make(path, 0o711 if others_enter else 0o700):
            return path
        logger.warning("the agent does not use %s: it is another user's", path)
    return None


def left_overs_remove(folder: Path) -> None:
    """Remove what an earlier run of the agent has left in its folder."""
    for entry in list(folder.iterdir()):
        if not remove_folder(entry):
            logger.warning("the agent cannot remove %s, which its previous run left behind", entry)


def _make(path: Path, mode: int) -> bool:
    """Make the folder, unless it is there. Returns whether it is this user's own."""
    try:
        path.mkdir(mode=0o700)
    except FileExistsError:
        pass
    except OSError:
        return False
    found = path.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid():
        return False
    path.chmod(mode)
    return True


def _is_in_memory(path: str) -> bool:
    """Whether a tmpfs is mounted there, or at a folder above."""
    try:
        lines = Path("/proc/self/mounts").read_bytes().splitlines()
        wanted = Path(path).resolve()
    except OSError:
        return False
    # The last mount at the deepest place counts.
    found = (b"", b"")
    for line in lines:
        _, place, kind, *_ = line.split(b" ")
        top = Path(os.fsdecode(place))
        if (wanted == top or top in wanted.parents) and len(place) >= len(found[0]):
            found = (place, kind)
    return found[1] in _IN_MEMORY
