"""What is not delivered yet, on disk: one folder for each attempt, with its log chunks and its finish report.

A chunk is written before it is sent and deleted when the control plane has it; the report comes last, and the folder
goes when the report is delivered. The spool has a limit: when the control plane is away for so long that it is reached,
writers wait, and with them the steps that print. So nothing is lost and the disk does not fill up.
"""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, Optional

from agent.files import remove_folder, sync, write_private
from agent.protocol import Assignment

logger = logging.getLogger(__name__)

_REPORT = "finish.json"
_CHUNK_SUFFIX = ".chunk"


class Spool:
    """All attempts' folders under one path, and how many bytes of log they hold."""

    def __init__(self, path: Path, limit: int) -> None:
        """`limit` is in bytes; it may be exceeded by one chunk for each attempt."""
        path.mkdir(mode=0o700, exist_ok=True)
        self._path = path
        self._limit = limit
        self._used = 0
        self._room = threading.Condition()

    def recover(self) -> list[SpooledAttempt]:
        """The attempts of an earlier life whose end is known. What is left of the others is removed.

        Those were cut short: the control plane gives them out again when heartbeats do not name them.
        """
        recovered = []
        for path in sorted(self._path.iterdir()):
            attempt = self._read(path)
            if attempt is None:
                logger.info("dropping %s, which an earlier run of this agent left unfinished", path.name)
                remove_folder(path)
            else:
                recovered.append(attempt)
        return recovered

    def open(self, job: Assignment) -> SpooledAttempt:
        """An empty folder for an attempt that begins."""
        path = self._path / f"{job.job_id}.{job.attempt}"
        remove_folder(path)
        path.mkdir(mode=0o700)
        return SpooledAttempt(self, path, job)

    def wait_for_room(self, lifted: threading.Event) -> None:
        """Wait while the spool is full, or until `lifted` is set."""
        with self._room:
            while self._used >= self._limit and not lifted.is_set():
                self._room.wait(0.2)

    def count(self, difference: int) -> None:
        """Chunks were added or deleted."""
        with self._room:
            self._used += difference
            self._room.notify_all()

    def _read(self, path: Path) -> Optional[SpooledAttempt]:
        job_id, _, attempt = path.name.rpartition(".")
        if not (path / _REPORT).exists() or not attempt.isdigit():
            return None
        spooled = SpooledAttempt(self, path, Assignment(job_id, int(attempt)))
        self.count(spooled.size())
        return spooled


class SpooledAttempt:
    """One attempt's folder."""

    def __init__(self, spool: Spool, path: Path, job: Assignment) -> None:
        self._spool = spool
        self._path = path
        self.job = job

    def wait_for_room(self, lifted: threading.Event) -> None:
        """Wait while the spool is full, or until `lifted` is set."""
        self._spool.wait_for_room(lifted)

    def write_chunk(self, sequence: int, data: bytes) -> None:
        """Keep a chunk until it is delivered."""
        write_private(self._chunk(sequence), data, durable=False)
        self._spool.count(len(data))

    def read_chunk(self, sequence: int) -> bytes:
        """A chunk that is kept."""
        return self._chunk(sequence).read_bytes()

    def delete_chunk(self, sequence: int) -> None:
        """The control plane has it."""
        path = self._chunk(sequence)
        size = path.stat().st_size
        path.unlink()
        self._spool.count(-size)

    def sequences(self) -> Iterator[int]:
        """The numbers of the chunks that are kept, in order."""
        yield from sorted(int(path.stem) for path in self._chunks())

    def write_report(self, report: dict[str, Any]) -> None:
        """Keep the finish report. From here on the attempt's end is known and outlives also a power cut."""
        for path in self._chunks():
            # One that was delivered just now needs to outlive nothing.
            with suppress(FileNotFoundError):
                sync(path)
        write_private(self._path / _REPORT, json.dumps(report).encode())

    def read_report(self) -> dict[str, Any]:
        """The finish report that is kept."""
        report: dict[str, Any] = json.loads((self._path / _REPORT).read_bytes())
        return report

    def remove(self) -> None:
        """Everything is delivered, or nobody wants it any more."""
        size = self.size()
        remove_folder(self._path)
        self._spool.count(-size)

    def size(self) -> int:
        """The bytes of log that are kept."""
        return sum(path.stat().st_size for path in self._chunks())

    def _chunks(self) -> list[Path]:
        return [path for path in self._path.glob(f"*{_CHUNK_SUFFIX}") if path.stem.isdigit()]

    def _chunk(self, sequence: int) -> Path:
        return self._path / f"{sequence:08d}{_CHUNK_SUFFIX}"
