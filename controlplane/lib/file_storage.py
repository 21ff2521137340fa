"""A storage for Django's setting STORAGES that keeps files in a directory. On AWS, `ObjectStorage` replaces it."""

import os
import tempfile
from collections.abc import Iterable
from pathlib import Path

from django.core.files.storage import FileSystemStorage


class FileStorage(FileSystemStorage):
    """Django's file storage with three more methods, which `ObjectStorage` has too."""

    def save_stream(self, name: str, chunks: Iterable[bytes]) -> None:
        """Write the file whose content are the chunks, with one chunk in memory.

        The file appears as a whole. If anything fails, an earlier file of this name stays. Raises OSError, and what the
        chunks raise.
        """
        path = Path(self.path(name))
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor, unfinished = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        try:
            with os.fdopen(descriptor, "wb") as file:
                for chunk in chunks:
                    file.write(chunk)
                if self.file_permissions_mode is not None:
                    os.fchmod(file.fileno(), self.file_permissions_mode)
                file.flush()
                os.fsync(file.fileno())
            Path(unfinished).replace(path)
        except BaseException:
            Path(unfinished).unlink()
            raise

    def read_range(self, name: str, offset: int, limit: int) -> tuple[bytes, int]:
        """At most `limit` bytes from `offset`, and the size of the whole file. Raises FileNotFoundError."""
        with self.open(name) as file:
            size = int(file.size)
            # A file system rejects an offset that is too large, and a read takes as much memory as it asks for.
            offset = min(offset, size)
            file.seek(offset)
            return file.read(min(limit, size - offset)), size

    def link(self, name: str, *, filename: str) -> str | None:  # noqa: ARG002 — as of `ObjectStorage`
        """None: only the control plane itself reads these files."""
        return None
