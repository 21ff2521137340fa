"""Reading logs by byte offset: from chunks while a job runs, from object storage afterwards."""

from collections.abc import Iterator
from typing import Any

from django.core.cache import cache
from django.core.files.storage import storages

from apps.jobs.models import Job, LogChunk
from apps.jobs.states import FINAL
from controlplane.lib.error_codes import ErrorCode
from controlplane.lib.errors import NotFound
from controlplane.lib.frozen import frozen

# How long a process caches the sizes of a log's chunks after it last read the log.
_SIZES_SECONDS = 600

# So many failures to archive a log are no matter of users, since the sweep tries again soon.
_PROBLEM_AFTER = 3


@frozen
class LogSlice:
    """Some bytes of a log. `complete` says that the log has ended and nothing comes after `next_offset`."""

    data: bytes
    next_offset: int
    complete: bool

    @property
    def offset(self) -> int:
        """The offset of the first byte."""
        return self.next_offset - len(self.data)


def log_stream(job_id: str, attempt: int) -> str:
    """The partition with the chunks of one attempt."""
    return f"{job_id}#{attempt}"


def index_name(stored: str) -> str:
    """The name of the file with the index of an archived log's lines."""
    return f"{stored}.index"


def job_log_problem(job: Job) -> str | None:
    """Why the log of an ended job is still not archived, once that was tried several times; else None."""
    failures = int(job.log_failures or 0)
    if failures < _PROBLEM_AFTER:
        return None
    return (
        f"The log could not be archived {failures} times: {job.log_problem}. The next try is at {job.log_retry_at}. "
        "The log is kept for 14 days until then."
    )


def job_log_read(*, job: Job, offset: int, limit: int) -> LogSlice:
    """Up to `limit` bytes of the job's log from `offset`: all attempts, one after the other. Consistent.

    An offset after the end returns no bytes. While an attempt goes on, reading stops at a gap in its sequence, since
    the missing chunk may still arrive. After the attempt has ended, reading skips gaps.

    Raises NotFound with code ``log_not_found`` when the file of an archived log was deleted, and Unavailable.
    """
    if job.log_stored:
        return _read_stored(job.log_stored, offset, limit)
    data = bytearray()
    start = 0
    for attempt in range(1, int(job.attempt) + 1):
        room = limit - len(data)
        position = offset + len(data) - start
        goes_on = attempt == job.attempt and job.status not in FINAL
        part, size = _read_stream(log_stream(job.job_id, attempt), position, room, goes_on=goes_on)
        data += part
        if len(data) >= limit or size is None:
            break
        start += size
    else:
        # Every attempt has been read to its end.
        end = start
        return LogSlice(bytes(data), min(offset, end) + len(data) if offset < end else end, job.status in FINAL)
    return LogSlice(bytes(data), offset + len(data), complete=False)


def job_log_link(*, job: Job, filename: str) -> str | None:
    """A URL that needs no credentials, from which the archived log can be downloaded for some minutes, or None."""
    storage: Any = storages["logs"]
    return storage.link(job.log_stored, filename=filename) if job.log_stored else None


def whole_characters(data: bytes) -> int:
    """How many bytes come before a character of UTF-8 that the end cuts off."""
    for back in range(1, min(4, len(data)) + 1):
        byte = data[-back]
        if byte >= 0xC0:
            length = 2 if byte < 0xE0 else 3 if byte < 0xF0 else 4
            return len(data) - back if length > back else len(data)
        if byte < 0x80:
            break
    return len(data)


def stored_range(name: str, offset: int, limit: int) -> bytes:
    """At most `limit` bytes of an archived log. Raises NotFound ``log_not_found``, and Unavailable."""
    return _read_stored(name, offset, limit).data


def stream_slice(stream: str, offset: int, limit: int, *, goes_on: bool) -> LogSlice:
    """At most `limit` bytes of an attempt's chunks, as `job_log_read` reads those of all. Raises Unavailable."""
    data, size = _read_stream(stream, offset, limit, goes_on=goes_on)
    if size is None:
        return LogSlice(data, offset + len(data), complete=False)
    return LogSlice(data, min(offset, size) + len(data), complete=not goes_on)


def stream_range(stream: str, offset: int, limit: int, *, goes_on: bool) -> bytes:
    """At most `limit` bytes of an attempt's chunks, up to a gap if the attempt `goes_on`. Raises Unavailable."""
    return _read_stream(stream, offset, limit, goes_on=goes_on)[0]


def _read_stored(name: str, offset: int, limit: int) -> LogSlice:
    storage: Any = storages["logs"]
    try:
        data, size = storage.read_range(name, offset, limit)
    except FileNotFoundError as error:
        raise NotFound("The job's log is no longer in storage.", code=ErrorCode.LOG_NOT_FOUND) from error
    after = min(offset, size) + len(data)
    return LogSlice(data, after, complete=after >= size)


def _read_stream(stream: str, position: int, room: int, *, goes_on: bool) -> tuple[bytes, int | None]:
    """At most `room` bytes of one attempt from `position`; and the attempt's size, or None when more bytes may follow.

    Chunks differ in size, so only their sizes give their offsets. Each process caches the sizes that it has read.
    Chunks never change, so a client that follows a log causes one read of each chunk.
    """
    counted: list[tuple[int, int]] = cache.get(f"log-sizes:{stream}", [])
    first, before = _chunk_at(counted, position)
    data = bytearray()
    known = len(counted)
    complete = True
    for chunk in stream_chunks(stream, first):
        sequence = int(chunk.sequence)
        if sequence != first and goes_on:
            # The chunk in between may still arrive.
            break
        size = chunk.length
        if not counted or sequence > counted[-1][0]:
            counted.append((sequence, size))
        if before + size > position:
            data += chunk.output[max(0, position - before) :]
        before += size
        first = sequence + 1
        if len(data) > room:
            complete = False
            break
    if len(counted) != known:
        cache.set(f"log-sizes:{stream}", counted, _SIZES_SECONDS)
    return bytes(data[:room]), before if complete else None


def _chunk_at(counted: list[tuple[int, int]], position: int) -> tuple[int, int]:
    """The sequence of the chunk with the byte at `position`, and the offset at which that chunk begins.

    `counted` has the sequence and the size of each known chunk, from the first chunk on.
    """
    before = 0
    for sequence, size in counted:
        if before + size > position:
            return sequence, before
        before += size
    return (counted[-1][0] + 1 if counted else 0), before


def chunk_get(stream: str, sequence: int) -> LogChunk | None:
    """One chunk, read consistently, or None."""
    return next(iter(LogChunk.query(stream, LogChunk.sequence == sequence, consistent_read=True)), None)


def counts_read(stream: str) -> list[LogChunk]:
    """What each process has written down about the size of an attempt's log. Consistent."""
    return list(LogChunk.query(stream, LogChunk.sequence < 0, consistent_read=True))


def stream_chunks(stream: str, first: int = 0) -> Iterator[LogChunk]:
    """The chunks of an attempt from sequence `first` on, in their order. Consistent; one call for each megabyte."""
    return iter(LogChunk.query(stream, LogChunk.sequence >= first, consistent_read=True))
