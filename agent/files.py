"""Files that are there whole or not at all, and folders that go away."""

from __future__ import annotations

import os
import secrets
import shutil
import stat
from pathlib import Path


def write_private(path: Path, data: bytes, *, durable: bool = True) -> None:
    """Replace the file with `data` in one step, readable by its owner only (mode 0600).

    `durable` makes it outlive a power cut; without, it outlives only the end of this process.
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


def sync(path: Path) -> None:
    """Make what was written to a file or folder outlive a power cut."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def remove_folder(path: Path) -> bool:
    """Delete the folder with all in it, also what was made read-only. Returns whether it is gone."""
    shutil.rmtree(path, ignore_errors=True)
    if path.exists():
        for folder, folders, _ in os.walk(path):
            for name in [".", *folders]:
                _open_to_owner(Path(folder, name))
        shutil.rmtree(path, ignore_errors=True)
    return not path.exists()


def _open_to_owner(path: Path) -> None:
    if not path.is_symlink():
        path.chmod(path.stat().st_mode | stat.S_IRWXU)
