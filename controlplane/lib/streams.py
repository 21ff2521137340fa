"""Files that are made while they are read."""

from collections.abc import Iterable


class ChunkReader:
    """A file, for reading only and without seeking, whose content are the chunks one after the other.

    It keeps what `read` asks for and one chunk more in memory.
    """

    def __init__(self, chunks: Iterable[bytes]) -> None:
        self._chunks = iter(chunks)
        self._rest = b""

    def read(self, amount: int = -1) -> bytes:
        """The next `amount` bytes, and fewer only at the end; all the rest if `amount` is negative."""
        found = bytearray(self._rest)
        while amount < 0 or len(found) < amount:
            chunk = next(self._chunks, None)
            if chunk is None:
                break
            found += chunk
        data = bytes(found) if amount < 0 else bytes(memoryview(found)[:amount])
        self._rest = bytes(memoryview(found)[len(data) :])
        return data
