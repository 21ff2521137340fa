"""Files that are made while they are read."""

from collections.abc import Iterable


class PieceReader:
    """A file, for reading only and without seeking, whose content are the pieces one after the other.

    It holds what it is asked for and one piece more.
    """

    def __init__(self, pieces: Iterable[bytes]) -> None:
        self._pieces = iter(pieces)
        self._rest = b""

    def read(self, amount: int = -1) -> bytes:
        """The next `amount` bytes, and fewer only at the end; all the rest if `amount` is negative."""
        found = bytearray(self._rest)
        while amount < 0 or len(found) < amount:
            piece = next(self._pieces, None)
            if piece is None:
                break
            found += piece
        data = bytes(found) if amount < 0 else bytes(memoryview(found)[:amount])
        self._rest = bytes(memoryview(found)[len(data) :])
        return data
