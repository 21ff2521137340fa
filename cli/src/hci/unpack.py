"""Unpacks an artifact. A job made it, so that a member may try to get out of the folder.

The filters of `tarfile` are not used: Python has none before 3.11.4, and before 3.11.13 symbolic links with long paths
get past them (CVE-2025-4517). Here links are made last, so that no member is ever written through one.
"""

from __future__ import annotations

import os
import shutil
import tarfile
import tempfile
import zlib
from pathlib import Path, PurePosixPath

from hci.errors import HciError, UsageProblem

# Without sparse files, of which a small archive makes large ones.
_FILES = (tarfile.REGTYPE, tarfile.AREGTYPE)


def unpack(archive: Path, folder: Path) -> None:
    """Unpack a .tar.gz into a new folder, whole or not at all: files, folders, and relative links that stay inside.

    Of a file's rights it keeps whether the file may be executed. Raises UsageProblem when the folder exists or the
    archive is of another kind, and HciError when it is broken, or when a member is of another kind or would be outside.
    """
    if not archive.name.endswith(".tar.gz"):
        raise UsageProblem(f"Only .tar.gz is unpacked here. For others: tar -xf {archive}")
    if os.path.lexists(folder):
        raise UsageProblem(f"{folder} exists already. Delete it first.")
    try:
        with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".unpack-") as temporary:
            made = Path(temporary, "members")
            made.mkdir()
            with tarfile.open(archive, "r:gz") as opened:
                _members_unpack(opened, made)
            made.rename(folder)
    except (tarfile.TarError, zlib.error, EOFError, ValueError) as error:
        raise HciError(f"{archive.name} is not unpacked: {error}") from error
    except OSError as error:
        raise HciError(f"{archive.name} is not unpacked: {error.strerror or error}.") from error


def _members_unpack(opened: tarfile.TarFile, folder: Path) -> None:
    links: list[tuple[Path, str]] = []
    for member in opened:
        path = folder / _inside(member.name)
        if member.isdir():
            path.mkdir(parents=True, exist_ok=True)
        elif member.type in _FILES and member.sparse is None:
            path.parent.mkdir(parents=True, exist_ok=True)
            _file_unpack(opened, member, path)
        elif member.issym():
            links.append((path, member.linkname))
        else:
            raise ValueError(f"{member.name!r} is no file, folder or symbolic link.")
    for path, target in links:
        _link_make(folder, path, target)


def _inside(name: str) -> PurePosixPath:
    """The path of a member below the folder. Raises ValueError when it leads out of it."""
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts:
        raise ValueError(f"{name!r} would be outside of the folder.")
    return path


def _file_unpack(opened: tarfile.TarFile, member: tarfile.TarInfo, path: Path) -> None:
    with path.open("xb") as target:
        if source := opened.extractfile(member):
            shutil.copyfileobj(source, target)
    if member.mode & 0o100:
        mode = path.stat().st_mode
        path.chmod(mode | (mode & 0o444) >> 2)


def _link_make(folder: Path, path: Path, target: str) -> None:
    """Make a link. Raises ValueError when it leads out of the folder, or is itself behind another link.

    ".." may only begin a target. After a name, which may be a link, it would mean the parent of where that one leads.
    """
    place = path.relative_to(folder)
    parts = PurePosixPath(target).parts
    up = next((number for number, part in enumerate(parts) if part != ".."), len(parts))
    if PurePosixPath(target).is_absolute() or ".." in parts[up:] or up >= len(place.parts):
        raise ValueError(f"The link {str(place)!r} leads out of the folder, to {target!r}.")
    if any((folder / parent).is_symlink() for parent in place.parents):
        raise ValueError(f"The link {str(place)!r} is behind another link.")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.symlink_to(target)
