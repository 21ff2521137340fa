"""Atomic writes of private files, and reading files that others may have put there."""

from __future__ import annotations

import os
import secrets
import stat
from pathlib import Path
from typing import Optional, Union


def write_private(path: Path, data: bytes, *, durable: bool = True) -> None:
    """Replace the file with `data` in one step, readable by its owner only (mode 0600).

    With `durable` the file survives a power cut, without it only the end of this process. Raises OSError.
    """
    unfinished = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    descriptor = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            if durable:
                file.flush()
                os.fsync(file.fileno())
        unfinished.replace(path)
    except BaseException:
        unfinished.unlink()
        raise
    if durable:
        sync(path.parent)


def read_regular(path: Union[str, Path], most: int, *, folder: Optional[int] = None) -> Optional[bytes]:
    """At most so many bytes of the file. None if it is no regular file.

    A link is not followed, and a pipe does not block. `folder` is the descriptor that a relative path belongs to.
    Raises OSError.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=folder)
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            return None
        with os.fdopen(descriptor, "rb", closefd=False) as file:
            return file.read(most)
    finally:
        os.close(descriptor)


def sync(path: Path) -> None:
    """Flush a file or folder to the disk, so that it survives a power cut. Raises OSError."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
