"""Reading the log of an attempt by its lines."""

import zlib
from collections.abc import Iterator
from typing import Any

from django.core.cache import cache
from django.core.files.storage import storages

from apps.jobs.log_index import LogIndex, indexes_dump, indexes_load
from apps.jobs.models import Job
from apps.jobs.selectors.logs import index_name, log_stream, stored_range, stream_chunks, stream_range, whole_characters
from apps.jobs.states import FINAL, Status
from controlplane.lib.error_codes import ErrorCode
from controlplane.lib.errors import NotFound
from controlplane.lib.frozen import frozen
from controlplane.lib.sgr import Style, style_after

# How long a process caches where the lines of a log are, after it last read the log.
_INDEX_SECONDS = 600
# Of a longer line, only its beginning is read, or its end if the line has carriage returns, as a progress bar has.
LINE_BYTES = 16 * 1024
# The most bytes that one page of lines is read from.
_PAGE_BYTES = 1024 * 1024
_BLOCK_BYTES = 128 * 1024


@frozen
class Line:
    """A line of an attempt's log: its number from 1, its text without the line feed, and the style it begins in.

    `cut` says that more follows. Of a line with carriage returns, `text` may be what a terminal shows in the end. `at`
    is when it was printed, in seconds since 1970, and `milliseconds` the same more exactly; both are 0 if that is not
    known.
    """

    number: int
    text: bytes
    style: Style
    cut: bool
    at: int
    milliseconds: int = 0


@frozen
class LogLines:
    """Some lines of an attempt's log. The log has `total` lines so far; `complete` says that it has ended.

    The last line of a log that goes on may have no line feed yet: then it will change.
    """

    lines: list[Line]
    total: int
    complete: bool


@frozen
class AttemptLog:
    """The log of one attempt as it is now. `complete` says that the attempt has ended and all of its log is known."""

    job: Job
    attempt: int
    index: LogIndex
    # Where the attempt begins in the archived file; None while the log is in chunks.
    begins: int | None
    complete: bool

    def read(self, offset: int, limit: int) -> bytes:
        """At most `limit` bytes from the offset. Raises NotFound ``log_not_found``, and Unavailable."""
        limit = min(limit, self.index.size - offset)
        if limit <= 0:
            return b""
        if self.begins is not None:
            return stored_range(str(self.job.log_stored), self.begins + offset, limit)
        stream = log_stream(self.job.job_id, self.attempt)
        return stream_range(stream, offset, limit, goes_on=not self.complete)

    def line_offset(self, number: int) -> int:
        """Where line `number` begins, which the log must have. Raises what `read` raises."""
        mark = self.index.mark_of_line(number)
        # Between two marks are at most BLOCK_BYTES, and fewer than an escape sequence that the first one is before.
        return mark.offset + _line_start(self.read(mark.offset, _BLOCK_BYTES), number - 1 - mark.lines)

    def line_at(self, offset: int) -> tuple[int, bool]:
        """The number of the line that the byte at `offset` belongs to, and whether it begins there."""
        mark = self.index.mark_of_offset(offset)
        before = self.read(mark.offset, offset - mark.offset)
        last = before[-1:] or (self.read(offset - 1, 1) if offset else b"\n")
        return mark.lines + before.count(b"\n") + 1, last == b"\n"

    def step_lines(self, step: int) -> tuple[int, int | None] | None:
        """The first line of a step, by its number from 1, and the first line after it, or None while it is the last.

        None for a step that has not begun.
        """
        first = self.index.steps.get(step)
        if first is None:
            return None
        return first, min((line for line in self.index.steps.values() if line > first), default=None)


def log_attempts(job: Job) -> list[int]:
    """The attempts of a job that have a log, as `attempt_log` takes them: those that an agent has begun."""
    return list(range(1, int(job.attempt) + (job.status != Status.ASSIGNED)))


def log_attempt_newest(job: Job) -> int:
    """The newest attempt that has begun, or the first one while none has, or 0 if there is none."""
    return max(log_attempts(job), default=int(job.attempt))


def attempt_require(job: Job, attempt: int) -> None:
    """Raises NotFound ``log_not_found`` (field "attempt") unless the job has this attempt."""
    if not 1 <= attempt <= int(job.attempt):
        message = f"must be an attempt of the job, which has {int(job.attempt) or 'none yet'}"
        errors = [{"field": "attempt", "message": message}]
        raise NotFound(f"attempt: {message}", code=ErrorCode.LOG_NOT_FOUND, errors=errors)


def step_require(job: Job, step: int) -> None:
    """Raises NotFound ``log_not_found`` (field "step") if the job has no step of this number, as far as is known.

    An agent may not have read the definition yet.
    """
    steps = len((job.definition or {}).get("steps", []))
    if step > steps and (steps or job.status in FINAL):
        message = f"must be the number of a step of the job, which has {steps or 'none'}"
        errors = [{"field": "step", "message": message}]
        raise NotFound(f"step: {message}", code=ErrorCode.LOG_NOT_FOUND, errors=errors)


def attempt_log(job: Job, attempt: int) -> AttemptLog:
    """The log of an attempt. Raises NotFound ``log_not_found`` if there is no such attempt, and Unavailable.

    While the log is in chunks, a process reads those that it does not know yet.
    """
    attempt_require(job, attempt)
    if job.log_stored:
        indexes = _stored_indexes(str(job.log_stored))
        if attempt > len(indexes):
            raise NotFound("The job's log does not tell its attempts apart.", code=ErrorCode.LOG_NOT_FOUND)
        begins = sum(index.size for index in indexes[: attempt - 1])
        return AttemptLog(job, attempt, indexes[attempt - 1], begins, complete=True)
    goes_on = attempt == job.attempt and job.status not in FINAL
    index = _stream_index(log_stream(job.job_id, attempt), goes_on=goes_on)
    return AttemptLog(job, attempt, index, None, complete=not goes_on)


def log_lines(log: AttemptLog, *, first: int, count: int) -> LogLines:
    """The lines from number `first` on, at most `count` of them, and fewer where they are long.

    Raises NotFound ``log_not_found`` and Unavailable.
    """
    total = log.index.total
    lines = list(_lines(log, first, min(count, total - first + 1))) if first <= total else []
    return LogLines(lines, total, log.complete)


def log_line_range(log: AttemptLog, *, step: int | None) -> tuple[int, int]:
    """The first and the last line of a step, or of the whole log. Without lines, the last one is before the first one.

    Raises NotFound ``log_not_found`` (field "step").
    """
    if step is None:
        return 1, log.index.total
    lines = log.step_lines(step)
    if lines is None:
        step_require(log.job, step)
        return log.index.total + 1, log.index.total
    first, after = lines
    return first, log.index.total if after is None else after - 1


def _lines(log: AttemptLog, first: int, count: int) -> Iterator[Line]:
    """Lines that exist, as far as they are within _PAGE_BYTES."""
    budget = _PAGE_BYTES
    number = first
    while number < first + count and budget > 0:
        mark = log.index.mark_of_line(number)
        data = log.read(mark.offset, _BLOCK_BYTES)
        budget -= len(data)
        start = _line_start(data, number - 1 - mark.lines)
        style = style_after(data[:start], Style.parse(mark.style))
        offset = mark.offset
        while number < first + count:
            end = data.find(b"\n", start)
            whole = end >= 0 or offset + len(data) >= log.index.size
            if not whole and len(data) - start < LINE_BYTES and start:
                # The rest of the line is in the next block.
                offset, data, start = offset + start, log.read(offset + start, _BLOCK_BYTES), 0
                budget -= len(data)
                continue
            text = data[start : end if end >= 0 else len(data)]
            if end < 0 and not log.complete:
                text = text[: whole_characters(text)]
            yield _line(log, number, text, style, offset + start, whole=whole)
            number += 1
            if end < 0:
                # The line is long. The index knows where the next one begins.
                break
            style = style_after(text, style)
            start = end + 1
            if start == len(data) or budget <= 0:
                break


def _line(log: AttemptLog, number: int, text: bytes, style: Style, offset: int, *, whole: bool) -> Line:
    """The line at the offset, of which `text` is known: all of it if it is `whole`."""
    at = log.index.times.at(number)
    cut = len(text) > LINE_BYTES or not whole
    if cut and b"\r" in text[:LINE_BYTES]:
        end = text[-LINE_BYTES:] if whole else _line_end(log, number, offset)
        _, returned, shown = end.rstrip(b"\r").partition(b"\r")
        if returned:
            return Line(number, shown, style_after(text[:-LINE_BYTES], style), False, at // 1000, at)
    return Line(number, text[:LINE_BYTES], style, cut, at // 1000, at)


def _line_end(log: AttemptLog, number: int, offset: int) -> bytes:
    """The last LINE_BYTES of a long line that begins at the offset."""
    ends = log.line_offset(number + 1) - 1 if number < log.index.total else log.index.size
    begins = max(offset, ends - LINE_BYTES)
    return log.read(begins, ends - begins)


def _line_start(data: bytes, skipped: int) -> int:
    """Where the line begins that comes after `skipped` line feeds."""
    start = 0
    for _ in range(skipped):
        start = data.index(b"\n", start) + 1
    return start


def _stream_index(stream: str, *, goes_on: bool) -> LogIndex:
    """The index of an attempt's chunks, which the process brings up to date."""
    key = f"log-index:{stream}"
    index, following = cache.get(key, (None, 0))
    index = index or LogIndex()
    known = following
    for chunk in stream_chunks(stream, following):
        if chunk.sequence != following and goes_on:
            # The chunk in between may still arrive.
            break
        index.add(chunk.output, chunk.moments)
        following = int(chunk.sequence) + 1
    if following != known:
        cache.set(key, (index, following), _INDEX_SECONDS)
    return index


def _stored_indexes(stored: str) -> list[LogIndex]:
    """The indexes of an archived log's attempts. Of a log that an earlier version archived, one index of all of it."""
    key = f"log-index:{stored}"
    packed = cache.get(key)
    if packed is not None:
        return indexes_load(zlib.decompress(packed))
    storage: Any = storages["logs"]
    try:
        text, _ = storage.read_range(index_name(stored), 0, 10**9)
        indexes = indexes_load(text)
    except FileNotFoundError:
        index = LogIndex()
        while data := stored_range(stored, index.size, _PAGE_BYTES):
            index.add(data)
        indexes = [index]
    cache.set(key, zlib.compress(indexes_dump(indexes), 1), _INDEX_SECONDS)
    return indexes
