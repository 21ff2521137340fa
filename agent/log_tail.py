"""The end of a log that has reached its limit: its last bytes, on disk."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Optional

_SUFFIX = ".tail"
_READ_BYTES = 65536


class LogTail:
    """Keeps the last bytes of what is added, in at most two files of `limit` bytes each.

    The file of the newest bytes grows. When it is full, the one before it is deleted, so that the disk has little to
    write even for a job that prints a gigabyte a second. Each name contains the number of the log's next chunk and how
    many bytes came before the file. So a later run of the agent can go on with the log. Its methods raise OSError.
    """

    def __init__(self, folder: Path, limit: int) -> None:
        self._folder = folder
        self.limit = limit
        # The files and the number of bytes before each, in order.
        self._files: list[tuple[int, Path]] = []
        self._file: Optional[int] = None
        # All bytes that were added, also those that are deleted.
        self.size = 0

    @classmethod
    def found(cls, folder: Path) -> tuple[LogTail, int]:
        """What an earlier run of the agent has left in the folder, and the number of the log's next chunk."""
        tail, sequence = cls(folder, 0), 0
        for path in sorted(folder.glob(f"*{_SUFFIX}")):
            first, _, before = path.stem.partition("-")
            size = path.stat().st_size
            tail._files.append((int(before), path))
            tail.size = int(before) + size
            # The file before the newest is full.
            tail.limit = max(tail.limit, size)
            sequence = int(first)
        return tail, sequence

    def add(self, data: memoryview, sequence: int) -> int:
        """Add as many of the bytes as fit into the current file. Returns their number."""
        if self._file is None or self.size == self._files[-1][0] + self.limit:
            self._file = self._begin_file(sequence)
        written = os.write(self._file, data[: self._files[-1][0] + self.limit - self.size])
        self.size += written
        return written

    def last(self) -> Iterator[bytes]:
        """The last `limit` bytes, or all if there are fewer."""
        skip = max(0, self.size - self.limit)
        for before, path in self._files:
            with path.open("rb") as file:
                file.seek(max(0, skip - before))
                while data := file.read(_READ_BYTES):
                    yield data

    def remove(self) -> None:
        """Delete the files."""
        self.close()
        for _, path in self._files:
            path.unlink()
        self._files.clear()

    def close(self) -> None:
        """Add nothing more. The files stay."""
        if self._file is not None:
            os.close(self._file)
            self._file = None

    def _begin_file(self, sequence: int) -> int:
        self.close()
        while len(self._files) > 1:
            self._files.pop(0)[1].unlink()
        path = self._folder / f"{sequence:08d}-{self.size:015d}{_SUFFIX}"
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        self._files.append((self.size, path))
        return descriptor
