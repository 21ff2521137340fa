"""Logs and results that are not delivered yet, on disk: one folder for each attempt.

A folder has log chunks and the finish report. Output goes to the chunk that grows. The agent sends a chunk when it is
complete, and deletes it when the control plane has it. The report comes last; the agent removes the folder when the
report is delivered. The spool has a limit. If it is full because the control plane does not answer, writers wait, and
so do the steps that print. So no output is lost and the disk does not fill up. Besides the chunks, a folder may contain
the end of a log above its limit (`agent.log_tail`).
"""

from __future__ import annotations

import json
import logging
import os
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, Optional

from agent.files import sync, write_private
from agent.log_times import LogTimes
from agent.protocol import Assignment
from agent.removal import remove_folder

logger = logging.getLogger(__name__)

_REPORT = "finish.json"
_UPLOAD = "upload.json"
_CHUNK_SUFFIX = ".chunk"
_GROWING_SUFFIX = ".growing"


class Spool:
    """The folders of all attempts under one path, and the bytes of log in them."""

    def __init__(self, path: Path, limit: int) -> None:
        """`limit` is in bytes. Each attempt may exceed it by one chunk."""
        path.mkdir(mode=0o700, exist_ok=True)
        self._path = path
        self._limit = limit
        self._used = 0
        self._room = threading.Condition()

    def recover(self) -> list[SpooledAttempt]:
        """The attempts that an earlier run of the agent did not deliver, also those that it did not finish.

        The other folders are removed.
        """
        recovered = []
        for path in sorted(self._path.iterdir()):
            attempt = self._read(path)
            if attempt is None:
                remove_folder(path)
            else:
                recovered.append(attempt)
        return recovered

    def open(self, job: Assignment) -> SpooledAttempt:
        """Make an empty folder for an attempt that begins. Raises OSError."""
        path = self._path / f"{job.job_id}.{job.attempt}"
        remove_folder(path)
        path.mkdir(mode=0o700)
        return SpooledAttempt(self, path, job)

    def wait_for_room(self, ignore_limit: threading.Event) -> None:
        """Wait while the spool is full, or until `ignore_limit` is set."""
        with self._room:
            while self._used >= self._limit and not ignore_limit.is_set():
                self._room.wait(0.2)

    def add_used(self, difference: int) -> None:
        """Record that the chunks in the spool grew by `difference` bytes, which may be negative."""
        with self._room:
            self._used += difference
            self._room.notify_all()

    def _read(self, path: Path) -> Optional[SpooledAttempt]:
        job_id, _, attempt = path.name.rpartition(".")
        if not job_id or not attempt.isdigit():
            return None
        spooled = SpooledAttempt(self, path, Assignment(job_id, int(attempt)))
        if not spooled.is_finished and not any(path.iterdir()):
            # The control plane has all that it had printed.
            return None
        self.add_used(spooled.size())
        return spooled


class SpooledAttempt:
    """The spool's folder of one attempt. Its methods raise OSError if the disk fails."""

    def __init__(self, spool: Spool, path: Path, job: Assignment) -> None:
        self._spool = spool
        self.path = path
        self.job = job
        # A report that the disk did not take.
        self._kept_report: Optional[dict[str, Any]] = None
        # The file of the chunk that grows.
        self._growing: Optional[int] = None
        self._times = LogTimes()

    @property
    def is_finished(self) -> bool:
        """Whether the attempt has ended, so that its log is complete and there is a report."""
        return (self.path / _REPORT).exists()

    def wait_for_room(self, ignore_limit: threading.Event) -> None:
        """Wait while the spool is full, or until `ignore_limit` is set."""
        self._spool.wait_for_room(ignore_limit)

    def append(self, sequence: int, data: memoryview) -> None:
        """Add bytes to the chunk that grows. If the disk does not take them, the chunk stays as it was."""
        if self._growing is None:
            flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND
            self._growing = os.open(self._file(sequence, _GROWING_SUFFIX), flags, 0o600)
        written = 0
        try:
            while written < len(data):
                written += os.write(self._growing, data[written:])
        except OSError:
            os.ftruncate(self._growing, os.fstat(self._growing).st_size - written)
            raise
        self._times.note(sequence, len(data))
        self._spool.add_used(written)

    def complete(self, sequence: int) -> None:
        """The chunk that grows is complete. The spool keeps it until it is delivered."""
        self._close()
        self._file(sequence, _GROWING_SUFFIX).replace(self._chunk(sequence))

    def complete_growing(self) -> None:
        """Complete the chunk that grew when an earlier run of the agent was killed."""
        for path in self.path.glob(f"*{_GROWING_SUFFIX}"):
            path.replace(path.with_suffix(_CHUNK_SUFFIX))

    def read_chunk(self, sequence: int) -> bytes:
        """The bytes of a chunk in the spool."""
        return self._chunk(sequence).read_bytes()

    def chunk_times(self, sequence: int) -> str:
        """When the bytes of a chunk were printed, as of now, as the header Log-Times has it.

        Of a chunk that an earlier run of the agent has left, only the time of its end is known.
        """
        times = self._times.header(sequence)
        if times is None:
            age = time.time() - self._chunk(sequence).stat().st_mtime  # noqa: TID251 — the clock that files go by
            times = str(max(0, int(age * 1000)))
        return times

    def delete_chunk(self, sequence: int) -> None:
        """Delete a chunk that the control plane has."""
        self._times.forget(sequence)
        path = self._chunk(sequence)
        size = path.stat().st_size
        path.unlink()
        self._spool.add_used(-size)

    def sequences(self) -> Iterator[int]:
        """The numbers of the chunks in the spool, in order."""
        yield from sorted(int(path.stem) for path in self._chunks())

    @property
    def has_upload(self) -> bool:
        """Whether the steps have ended, so that only an upload is missing before the report."""
        return (self.path / _UPLOAD).exists()

    def write_upload(self, document: dict[str, Any]) -> None:
        """Keep what is needed to go on with an upload after this process was killed."""
        write_private(self.path / _UPLOAD, json.dumps(document).encode(), durable=False)

    def read_upload(self) -> dict[str, Any]:
        """What `write_upload` kept. Raises ValueError if it is damaged."""
        document = json.loads((self.path / _UPLOAD).read_bytes())
        if not isinstance(document, dict):
            raise ValueError("no object")
        return document

    def write_report(self, report: dict[str, Any]) -> None:
        """Keep the finish report. From now on the attempt's log and result survive even a power cut.

        If the disk does not take the report, it survives only as long as this process.
        """
        try:
            for path in self._chunks():
                # The delivery thread may have deleted the chunk meanwhile.
                with suppress(FileNotFoundError):
                    sync(path)
            write_private(self.path / _REPORT, json.dumps(report).encode())
        except OSError as error:
            logger.warning("the agent keeps the result of %s in memory: the disk fails (%s)", self.job, error)
            self._kept_report = report

    def read_report(self) -> dict[str, Any]:
        """The finish report that `write_report` kept."""
        if self._kept_report is not None:
            return self._kept_report
        report: dict[str, Any] = json.loads((self.path / _REPORT).read_bytes())
        return report

    def remove(self) -> None:
        """Remove the folder, since everything is delivered or the attempt is abandoned."""
        self._close()
        size = self.size()
        remove_folder(self.path)
        self._spool.add_used(-size)

    def size(self) -> int:
        """The bytes of log in the folder."""
        growing = self.path.glob(f"*{_GROWING_SUFFIX}")
        return sum(path.stat().st_size for path in (*self._chunks(), *growing))

    def _chunks(self) -> list[Path]:
        return [path for path in self.path.glob(f"*{_CHUNK_SUFFIX}") if path.stem.isdigit()]

    def _chunk(self, sequence: int) -> Path:
        return self._file(sequence, _CHUNK_SUFFIX)

    def _file(self, sequence: int, suffix: str) -> Path:
        return self.path / f"{sequence:08d}{suffix}"

    def _close(self) -> None:
        if self._growing is not None:
            os.close(self._growing)
            self._growing = None
