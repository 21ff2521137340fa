"""Archives of tar as no agent makes them, for what unpacks them."""

import io
import tarfile
from pathlib import Path


def made(*entries: tarfile.TarInfo, data: bytes = b"data", target: Path) -> Path:
    """An archive with these entries, each with the data."""
    with tarfile.open(target, "w:gz") as tar:
        for entry in entries:
            if entry.isreg():
                entry.size = len(data)
            tar.addfile(entry, io.BytesIO(data) if entry.isreg() else None)
    return target


def entry(name: str, kind: bytes = tarfile.REGTYPE, link: str = "") -> tarfile.TarInfo:
    """A member of an archive: a file, or what `kind` says."""
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, link
    return info
