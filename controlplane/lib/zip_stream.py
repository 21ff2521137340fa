"""A zip file that is made while it is sent."""

from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
from typing import NamedTuple
from zipfile import ZIP_STORED, ZipFile, ZipInfo


class ZipEntry(NamedTuple):
    """A file to be: its name, when it was changed, and its content."""

    name: str
    changed_at: datetime
    blocks: Iterable[bytes]


# What the format adds to each entry besides its name, twice, and to the file (APPNOTE.TXT, 4.3).
_ENTRY_BYTES = 30 + 20 + 24 + 46
_END_BYTES = 22


def zip_size(entries: Mapping[str, int]) -> int:
    """How many bytes `zip_blocks` makes of entries with these names and sizes, below 4 GB and 65,536 entries."""
    return _END_BYTES + sum(_ENTRY_BYTES + 2 * len(name.encode()) + size for name, size in entries.items())


class _Outgoing:
    """A file that can only be written, whose bytes are taken away as they come."""

    def __init__(self) -> None:
        self._written: list[bytes] = []

    def write(self, data: bytes) -> int:
        self._written.append(bytes(data))
        return len(data)

    def flush(self) -> None:
        """There is nothing to do."""

    def take(self) -> bytes:
        written, self._written = b"".join(self._written), []
        return written


def zip_blocks(entries: Iterable[ZipEntry]) -> Iterator[bytes]:
    """The zip file with these entries, without compression, with one block in memory. Raises what they raise."""
    outgoing = _Outgoing()
    with ZipFile(outgoing, "w", ZIP_STORED) as archive:  # type: ignore[call-overload]
        for entry in entries:
            # The format knows no year before 1980, which no clock of ours shows.
            info = ZipInfo(entry.name, entry.changed_at.timetuple()[:6])
            with archive.open(info, "w", force_zip64=True) as file:
                for block in entry.blocks:
                    file.write(block)
                    yield outgoing.take()
    yield outgoing.take()
