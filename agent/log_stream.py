"""Cuts an attempt's log into chunks and writes them to the spool."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from typing import Any, Optional

from agent.spool import SpooledAttempt

CHUNK_BYTES = 100_000
# How long output may wait for more output before it becomes a chunk.
DELAY_SECONDS = 0.3


class LogStream:
    """Takes output from the attempt's threads and gives the numbers of complete chunks to the delivery thread.

    It holds less than one chunk in memory. Output becomes a chunk after at most `DELAY_SECONDS`.
    """

    def __init__(self, spooled: SpooledAttempt) -> None:
        self._spooled = spooled
        self._changed = threading.Condition()
        self._buffer = bytearray()
        self._since: Optional[float] = None
        self._chunks = 0
        self._over = False
        self._at_line_start = True
        # Set when output must no longer wait for room in the spool, since its command is being stopped.
        self.ignore_limit = threading.Event()

    def write(self, data: bytes) -> None:
        """Add output. Waits while the spool is full. Raises OSError if the disk does not take it."""
        self._spooled.wait_for_room(self.ignore_limit)
        with self._changed:
            self._add(data)
            self._changed.notify_all()

    def say(self, text: str) -> None:
        """Add a line from the agent itself; it begins on a new line. Raises OSError if the disk does not take it."""
        with self._changed:
            data = (text + "\n").encode(errors="replace")
            self._add(data if self._at_line_start else b"\n" + data)
            self._changed.notify_all()

    def finish(self, report: dict[str, Any]) -> None:
        """End the log: write the last chunk, and the report with the number of chunks.

        If the disk takes no more, the rest of the log is lost, but not the report.
        """
        with self._changed:
            with suppress(OSError):
                self._cut()
            self._spooled.write_report({**report, "log_chunks": self._chunks})
            self._over = True
            self._changed.notify_all()

    def abandon(self) -> None:
        """End the log without its rest. Threads that wait for a chunk or for room go on."""
        self.ignore_limit.set()
        with self._changed:
            self._over = True
            self._changed.notify_all()

    def sequences(self) -> Iterator[int]:
        """The numbers of the chunks, each when it is complete. Ends with the log."""
        sequence = 0
        while self._wait_for(sequence):
            yield sequence
            sequence += 1

    def _wait_for(self, sequence: int) -> bool:
        with self._changed:
            while sequence >= self._chunks and not self._over:
                left = None if self._since is None else self._since + DELAY_SECONDS - time.monotonic()
                if left is not None and left <= 0:
                    self._cut()
                else:
                    self._changed.wait(left)
            return sequence < self._chunks

    def _add(self, data: bytes) -> None:
        view = memoryview(data)
        while view:
            if self._since is None:
                self._since = time.monotonic()
            room = CHUNK_BYTES - len(self._buffer)
            self._buffer += view[:room]
            view = view[room:]
            if len(self._buffer) == CHUNK_BYTES:
                self._cut()
        if data:
            self._at_line_start = data.endswith(b"\n")

    def _cut(self) -> None:
        if self._buffer:
            self._spooled.write_chunk(self._chunks, bytes(self._buffer))
            self._chunks += 1
            self._buffer.clear()
        self._since = None
