"""When the bytes of log chunks were printed, as the header Log-Times tells it."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Optional

# Bytes that are printed within this time, in seconds, count as printed together.
_SPACING_SECONDS = 0.01
# The times of later bytes may take a sixty-fourth of the log, and so many bytes more.
_SHARE = 64
_CREDIT = 1000
_MOST_PLACES = 100


@dataclass
class _Chunk:
    """The times of one chunk: when its first byte was printed, and the places of bytes that were printed later."""

    began: float
    last: float
    # The bytes since the last place, and the places as text.
    since: int = 0
    places: list[str] = field(default_factory=list)


class LogTimes:
    """The times of the chunks that are not delivered yet, by the monotonic clock."""

    def __init__(self) -> None:
        self._chunks: dict[int, _Chunk] = {}
        self._credit = _CREDIT * _SHARE

    def note(self, sequence: int, size: int) -> None:
        """The job has just printed the next `size` bytes of the chunk."""
        now = time.monotonic()
        chunk = self._chunks.setdefault(sequence, _Chunk(now, now))
        if chunk.since and now - chunk.last >= _SPACING_SECONDS and len(chunk.places) < _MOST_PLACES:
            # Milliseconds are counted from the beginning, so that fractions do not add up.
            after = int((now - chunk.began) * 1000) - int((chunk.last - chunk.began) * 1000)
            place = f" {chunk.since}:{after}"
            if self._credit >= len(place) * _SHARE:
                self._credit -= len(place) * _SHARE
                chunk.places.append(place)
                chunk.last, chunk.since = now, 0
        chunk.since += size
        self._credit += size

    def header(self, sequence: int) -> Optional[str]:
        """The header as of now, or None if nothing is known of the chunk."""
        chunk = self._chunks.get(sequence)
        if chunk is None:
            return None
        return f"{int((time.monotonic() - chunk.began) * 1000)}{''.join(chunk.places)}"

    def forget(self, sequence: int) -> None:
        """The chunk is delivered."""
        self._chunks.pop(sequence, None)
