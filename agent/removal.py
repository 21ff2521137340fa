"""Delete a folder that a hostile job has filled: never follow a link, never leave the folder, at any depth.

Each folder is opened without following links, and everything in it is named relative to that descriptor. A process that
still runs and swaps a folder for a link cannot lead the removal elsewhere. A subfolder is first moved to the top of the
folder that is deleted. So the depth does not matter, and no more than two folders are open at a time. The kernel
refuses to move a mount point, so nothing on a file system that a job has mounted is deleted.
"""

from __future__ import annotations

import errno
import os
import secrets
import stat
from contextlib import suppress
from pathlib import Path
from typing import Optional

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
# A process that still runs may add files while the folder is deleted. Then the removal gives up.
_PASSES = 3
_NO_FOLDER = (errno.ENOTDIR, errno.ELOOP, errno.EMLINK)


def remove_folder(path: Path) -> bool:
    """Delete the folder and everything in it, read-only files and folders included. Returns whether it is gone.

    What cannot be deleted stays: mount points, immutable files, folders of other users. If the path names a file or a
    link, it is deleted itself.
    """
    try:
        parent = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except FileNotFoundError:
        return True
    try:
        return _remove(parent, path.name)
    except FileNotFoundError:
        return True
    except OSError:
        return False
    finally:
        os.close(parent)


def _remove(parent: int, name: str) -> bool:
    os.stat(name, dir_fd=parent, follow_symlinks=False)
    if not _may_be_moved(parent, name):
        return False
    folder = _open(parent, name)
    if folder is None:
        return _unlink(parent, name)
    try:
        return any(_Emptying(folder).run() and _rmdir(parent, name) for _ in range(_PASSES))
    finally:
        os.close(folder)


class _Emptying:
    """One attempt to delete everything in the folder `top`."""

    def __init__(self, top: int) -> None:
        self._top = top
        self._prefix = f".{secrets.token_hex(4)}"
        self._count = 0
        # Subfolders that are entries of `top` now. Their random names cannot be taken by a job's process.
        self._moved: list[str] = []

    def run(self) -> bool:
        """Returns whether everything could be deleted."""
        complete = self._empty(self._top)
        while self._moved:
            name = self._moved.pop()
            try:
                folder = _open(self._top, name)
            except OSError:
                # An empty folder can be deleted even if another user owns it.
                complete = _rmdir(self._top, name) and complete
                continue
            if folder is None:
                complete = _unlink(self._top, name) and complete
                continue
            try:
                emptied = self._empty(folder)
            finally:
                os.close(folder)
            complete = _rmdir(self._top, name) and emptied and complete
        return complete

    def _empty(self, folder: int) -> bool:
        """Delete the files of the folder, and move its subfolders to the top. Returns whether all that succeeded."""
        with os.scandir(folder) as entries:
            found = [(entry.name, entry.is_dir(follow_symlinks=False)) for entry in entries]
        failed = [name for name, is_folder in found if not (self._move if is_folder else _unlink)(folder, name)]
        return not failed

    def _move(self, folder: int, name: str) -> bool:
        self._count += 1
        new = f"{self._prefix}.{self._count}"
        if not _rename(folder, name, self._top, new):
            # The entry ".." of a folder changes when the folder moves, so the folder must be writable. But a mount
            # point belongs to another file system, whose modes must stay as they are.
            if not _may_be_moved(folder, name) or not _make_accessible(folder, name):
                return False
            if not _rename(folder, name, self._top, new):
                return False
        self._moved.append(new)
        return True


def _open(parent: int, name: str) -> Optional[int]:
    """The folder, with all rights for its owner. None if the entry is no folder. Raises OSError if it stays closed."""
    try:
        folder = os.open(name, _FOLDER, dir_fd=parent)
    except PermissionError:
        _make_accessible(parent, name)
        folder = os.open(name, _FOLDER, dir_fd=parent)
    except OSError as error:
        if error.errno in _NO_FOLDER:
            return None
        raise
    mode = stat.S_IMODE(os.fstat(folder).st_mode)
    if mode & stat.S_IRWXU != stat.S_IRWXU:
        # If another user owns the folder, the next operations show whether this matters.
        with suppress(OSError):
            os.fchmod(folder, mode | stat.S_IRWXU)
    return folder


def _make_accessible(parent: int, name: str) -> bool:
    """Give the owner of a folder all rights. Never changes what a link points to. Returns whether it succeeded."""
    try:
        if not hasattr(os, "O_PATH"):
            os.chmod(name, stat.S_IRWXU, dir_fd=parent, follow_symlinks=False)
            return True
        # Such a descriptor needs no right to read, and the path under /proc names exactly the folder that is open.
        folder = os.open(name, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=parent)
        try:
            Path(f"/proc/self/fd/{folder}").chmod(stat.S_IRWXU)
        finally:
            os.close(folder)
    except OSError:
        return False
    return True


def _may_be_moved(parent: int, name: str) -> bool:
    """Whether the entry can be renamed. The kernel refuses this for a mount point, also of the same file system."""
    other = f".{secrets.token_hex(8)}"
    return _rename(parent, name, parent, other) and _rename(parent, other, parent, name)


def _rename(parent: int, name: str, new_parent: int, new: str) -> bool:
    try:
        os.rename(name, new, src_dir_fd=parent, dst_dir_fd=new_parent)
    except OSError:
        return False
    return True


def _unlink(parent: int, name: str) -> bool:
    try:
        os.unlink(name, dir_fd=parent)
    except FileNotFoundError:
        pass
    except OSError:
        return False
    return True


def _rmdir(parent: int, name: str) -> bool:
    try:
        os.rmdir(name, dir_fd=parent)
    except OSError:
        return False
    return True
