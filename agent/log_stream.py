"""Cuts an attempt's log into chunks and writes them to the spool."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from typing import Any, Optional

from agent.added_masks import AddedMasks, StepOutput
from agent.log_tail import LogTail
from agent.masking import Masks
from agent.spool import SpooledAttempt

CHUNK_BYTES = 100_000
# How long output may wait for more output before it becomes a chunk.
DELAY_SECONDS = 0.3
# The limit of an attempt's log if the control plane, an older one, names none.
LIMIT_BYTES = 100_000_000
# Of a log that exceeds its limit, so many bytes at the end are kept, or a tenth of the limit if that is less.
TAIL_BYTES = 1_000_000
# The tail begins with a whole line, if one begins within so many bytes.
_LINE_BYTES = 4096
_NEWLINE = ord("\n")


class LogStream:
    """Takes output from the attempt's threads and gives the numbers of complete chunks to the delivery thread.

    It keeps no output in memory: what was written is in the spool, also if the agent is killed. Only what may be the
    beginning of a secret value waits, since no value shall reach the disk. Output becomes a chunk after at most
    `DELAY_SECONDS`. Above its limit the log goes on with its last bytes when it ends, and a line says how
    much was left out before them.
    """

    def __init__(self, spooled: SpooledAttempt, *, limit: int = LIMIT_BYTES) -> None:
        """`limit` is in bytes."""
        self._spooled = spooled
        self._limit = limit
        self.added = AddedMasks(Masks())
        self._output = StepOutput(self.added)
        # Since when output waits that would be put out if no more came.
        self._waits_since: Optional[float] = None
        self._changed = threading.Condition()
        # The bytes in the chunk that grows, and since when it has some.
        self._growing = 0
        self._since: Optional[float] = None
        self._chunks = 0
        self._over = False
        self._at_line_start = True
        self._tail = LogTail(spooled.path, min(TAIL_BYTES, max(1, limit // 10)))
        # How many bytes may still come before the tail.
        self._room = limit - self._tail.limit
        # Whether the chunks so far end with a whole line; `_at_line_start` is about all output.
        self._chunks_end_line = True
        # Set when output must no longer wait for room in the spool, since its command is being stopped.
        self.ignore_limit = threading.Event()

    def write(self, data: bytes) -> None:
        """Add output. Waits while the spool is full. Raises OSError if the disk does not take it."""
        if self._room:
            self._spooled.wait_for_room(self.ignore_limit)
        with self._changed:
            self._add(self._output.feed(data))
            self._waits_since = time.monotonic() if self._output.waits else None
            if self._waits_since is not None:
                self._changed.notify_all()

    def end_output(self) -> None:
        """The output of a step is over: add what waited. Raises OSError if the disk does not take it."""
        with self._changed:
            self._waits_since = None
            self._add(self._output.end())

    def say(self, text: str) -> None:
        """Add a line from the agent itself; it begins on a new line. Raises OSError if the disk does not take it."""
        with self._changed:
            data = self.added.masks.mask((text + "\n").encode(errors="replace"))
            self._add(data if self._at_line_start else b"\n" + data)

    def finish(self, report: dict[str, Any]) -> None:
        """End the log: write the last chunks, and the report with the number of chunks.

        If the disk takes no more, the rest of the log is lost, but not the report.
        """
        with self._changed:
            with suppress(OSError):
                self._add(self._output.end())
            with suppress(OSError):
                self._add_tail()
            with suppress(OSError):
                self._cut()
            self._spooled.write_report({**report, "log_chunks": self._chunks})
            self._tail.remove()
            self._over = True
            self._changed.notify_all()

    def keep_upload(self, document: dict[str, Any]) -> None:
        """Keep in the spool what the next run of the agent needs to go on with an upload, if this one is killed.

        The document gets the number of chunks so far. Raises OSError.
        """
        with self._changed:
            self._cut()
            self._spooled.write_upload({**document, "log_chunks": self._chunks})

    def abandon(self) -> None:
        """End the log without its rest. Threads that wait for a chunk or for room go on."""
        self.ignore_limit.set()
        with self._changed:
            self._tail.close()
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
                began = [moment for moment in (self._since, self._waits_since) if moment is not None]
                left = min(began) + DELAY_SECONDS - time.monotonic() if began else None
                if left is None or left > 0:
                    self._changed.wait(left)
                elif self._waits_since == min(began):
                    self._waits_since = None
                    with suppress(OSError):
                        self._add(self._output.release())
                else:
                    self._cut()
            return sequence < self._chunks

    def _add(self, data: bytes) -> None:
        if self._over:
            return
        view = memoryview(data)
        if self._room:
            kept = view[: self._room]
            self._append(kept)
            self._room -= len(kept)
            view = view[len(kept) :]
        while view:
            self._begin_tail()
            view = view[self._tail.add(view, self._chunks) :]
        if data:
            self._at_line_start = data.endswith(b"\n")

    def _append(self, view: memoryview) -> None:
        """Add bytes to the chunk that grows, and begin others as it gets full."""
        if view:
            self._chunks_end_line = view[-1] == _NEWLINE
        while view:
            part = view[: CHUNK_BYTES - self._growing]
            self._spooled.append(self._chunks, part)
            self._growing += len(part)
            view = view[len(part) :]
            if self._growing == CHUNK_BYTES:
                self._cut()
            elif self._since is None:
                self._since = time.monotonic()
                self._changed.notify_all()

    def _append_line(self, text: str) -> None:
        line = f"── {text}\n".encode()
        self._append(memoryview(line if self._chunks_end_line else b"\n" + line))

    def _cut(self) -> None:
        if self._growing:
            self._spooled.complete(self._chunks)
            self._chunks += 1
            self._growing = 0
            self._changed.notify_all()
        self._since = None

    # Above the limit

    def _begin_tail(self) -> None:
        """Before bytes go to the tail: complete the chunks before it, and say so when bytes begin to be left out."""
        if self._tail.size == self._tail.limit:
            self._append_line(
                f"the log has reached its limit of {_size(self._limit)}; its last lines follow when the job ends"
            )
        if self._growing:
            self._cut()

    def _add_tail(self) -> None:
        """Add the last bytes to the chunks and, if there were others before them, a line about those."""
        left_out = self._tail.size - self._tail.limit
        parts = self._tail.last()
        first = next(parts, b"")
        if left_out > 0:
            # Go on with a whole line, if one begins soon.
            skipped = first.find(b"\n", 0, _LINE_BYTES) + 1
            self._append_line(f"cut off here: {_size(left_out + skipped)} were left out")
            first = first[skipped:]
        self._append(memoryview(first))
        for part in parts:
            self._append(memoryview(part))

    @classmethod
    def recover(cls, spooled: SpooledAttempt) -> None:
        """Complete the chunks of an attempt whose agent was killed, from all that is on disk. Raises OSError."""
        spooled.complete_growing()
        tail, sequence = LogTail.found(spooled.path)
        if tail.size:
            stream = cls(spooled)
            stream._tail, stream._chunks = tail, sequence
            with stream._changed:
                stream._add_tail()
                stream._cut()
            tail.remove()

    @classmethod
    def resume(cls, spooled: SpooledAttempt, chunks: int) -> LogStream:
        """Go on with the log of an attempt whose agent was killed when it had so many chunks. Raises OSError."""
        cls.recover(spooled)
        stream = cls(spooled)
        stream._chunks = max([chunks, *(sequence + 1 for sequence in spooled.sequences())])
        return stream


def _size(size: int) -> str:
    return f"{size / 1_000_000:.1f} MB" if size >= CHUNK_BYTES else f"{size:,} bytes"
