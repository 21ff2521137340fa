"""Parts of a job's log that are read as logs of their own: of all attempts, of one attempt, or of one step of it."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial

from apps.jobs.models import Job
from apps.jobs.selectors.log_lines import AttemptLog, attempt_log, attempt_require, log_attempt_newest, step_require
from apps.jobs.selectors.logs import LogSlice, job_log_read, log_stream, stream_slice, whole_characters
from apps.jobs.states import FINAL
from controlplane.lib.frozen import frozen

# The most bytes that one step of a search backwards, or of a download, reads at once.
_BLOCK_BYTES = 256 * 1024
# An offset beyond the end of any log.
_BEYOND = 10**15
# The most lines that get their times at once, so that the times of a log of empty lines are bounded.
STAMPED_LINES = 100_000


@frozen
class LogPart:
    """A log to read. Offsets count from its beginning.

    `read` gives at most so many bytes (the second argument) from an offset (the first), as `job_log_read` does. `tag`
    identifies the content once it cannot change any more, and is None before.
    """

    read: Callable[[int, int], LogSlice]
    tag: str | None
    # The attempts that the part is from, with the offset in each at which it begins and, if it ends earlier, where.
    _places: Callable[[], Iterator[tuple[AttemptLog, int, int]]]

    def stamped(self, found: LogSlice) -> LogSlice:
        """The slice with the time of each line before it, in RFC 3339, or ``-`` if that is not known.

        Of a slice of many lines, it has the first STAMPED_LINES. Raises what `read` raises.
        """
        cut = _lines_end(found.data, STAMPED_LINES)
        if cut < len(found.data):
            found = LogSlice(found.data[:cut], found.offset + cut, complete=False)
        texts, before = [], 0
        for log, begin, end in self._places():
            first = max(0, found.offset - before)
            data = found.data[max(0, before - found.offset) : max(0, before + end - begin - found.offset)]
            if data:
                texts.append(_stamped(log, begin + first, data))
            before += end - begin
        return replace(found, data=b"".join(texts))


def log_part(*, job: Job, attempt: int | None = None, step: int | None = None) -> LogPart:
    """The log of all attempts, one after the other; or of one; or a step of one, else of the newest that has begun.

    A step is identified by its number from 1. It begins with the line of its title and ends before that of the next
    one; a step that has not begun has an empty log. Raises NotFound ``log_not_found``, which names the field, and
    Unavailable.
    """
    if attempt is None and step is None:
        return LogPart(
            lambda offset, limit: job_log_read(job=job, offset=offset, limit=limit),
            _tag(job),
            lambda: (
                (log, 0, log.index.size) for log in map(partial(attempt_log, job), range(1, int(job.attempt) + 1))
            ),
        )
    attempt = attempt or log_attempt_newest(job)
    attempt_require(job, attempt)
    if step is not None:
        return _step_part(job, attempt, step)

    def places() -> Iterator[tuple[AttemptLog, int, int]]:
        log = attempt_log(job, attempt)
        yield log, 0, log.index.size

    if job.log_stored:
        log = attempt_log(job, attempt)
        return LogPart(partial(_range, log, 0, log.index.size, log.complete), _tag(job, attempt), places)
    goes_on = attempt == job.attempt and job.status not in FINAL
    stream = log_stream(job.job_id, attempt)
    return LogPart(partial(stream_slice, stream, goes_on=goes_on), None, places)


def _step_part(job: Job, attempt: int, step: int) -> LogPart:
    log = attempt_log(job, attempt)
    lines = log.step_lines(step)
    if lines is None:
        step_require(job, step)
        begin = end = log.index.size
        complete = log.complete
    else:
        first, after = lines
        begin = log.line_offset(first)
        end = log.index.size if after is None else log.line_offset(after)
        complete = log.complete or after is not None
    return LogPart(
        partial(_range, log, begin, end, complete), _tag(job, attempt, step), lambda: iter([(log, begin, end)])
    )


def part_lines(part: LogPart, *, offset: int, limit: int) -> tuple[LogSlice, bool]:
    """At most `limit` bytes from the offset, but only whole lines where the part has more; and whether it has more.

    A line of more than `limit` bytes is cut, though not within a character of UTF-8. Raises what `read` raises.
    """
    # A byte more says whether there is more.
    found = part.read(offset, limit + 1)
    if len(found.data) <= limit:
        return found, False
    data = found.data[:limit]
    end = data.rfind(b"\n") + 1 or whole_characters(data) or limit
    return LogSlice(data[:end], found.offset + end, complete=False), True


def part_tail(part: LogPart, *, lines: int, limit: int) -> LogSlice:
    """The last `lines` lines of the part as it is now, or its last `limit` bytes if those are fewer.

    It costs a call for each 256 KiB of an archived log. Raises what `read` raises.
    """
    end = part.read(_BEYOND, 1)
    start, data = end.next_offset, b""
    # The line end at the very end belongs to the last line.
    while start > 0 and len(data) < limit and data.count(b"\n", 0, -1) < lines:
        wanted = min(_BLOCK_BYTES, limit - len(data), start)
        start -= wanted
        data = part.read(start, wanted).data + data
    begin = len(data) - 1
    for _ in range(lines):
        begin = data.rfind(b"\n", 0, begin)
        if begin < 0:
            break
    return LogSlice(data[begin + 1 :] if begin >= 0 else data, end.next_offset, end.complete)


def part_blocks(part: LogPart, *, offset: int = 0, end: int = _BEYOND) -> Iterator[bytes]:
    """The part as it is now from the offset up to `end`, block by block, with no more than one of 256 KiB in memory.

    Raises what `read` raises.
    """
    while offset < end and (data := part.read(offset, min(_BLOCK_BYTES, end - offset)).data):
        yield data
        offset += len(data)


def part_size(part: LogPart) -> int:
    """The size of the part as it is now, in bytes. Raises what `read` raises."""
    return part.read(_BEYOND, 1).next_offset


def _range(log: AttemptLog, begin: int, end: int, complete: bool, offset: int, limit: int) -> LogSlice:
    """Bytes of an attempt between two offsets, counted from the first of them."""
    size = end - begin
    data = log.read(begin + offset, min(limit, size - offset)) if offset < size else b""
    after = min(offset, size) + len(data)
    return LogSlice(data, after, complete and after >= size)


def _tag(job: Job, *numbers: int) -> str | None:
    """The name of an archived file is that of its content."""
    if not job.log_stored:
        return None
    return "-".join([str(job.log_stored).removesuffix(".log"), *map(str, numbers)])


def _lines_end(data: bytes, count: int) -> int:
    """Where the first `count` lines end."""
    end = 0
    for _ in range(count):
        end = data.find(b"\n", end) + 1
        if not end:
            return len(data)
    return end


def _stamped(log: AttemptLog, offset: int, data: bytes) -> bytes:
    number, begins = log.line_at(offset)
    *lines, rest = data.split(b"\n")
    lines = [line + b"\n" for line in lines] + ([rest] if rest else [])
    # The rest of a line that began before has no time.
    texts = [] if begins else [lines.pop(0)]
    first = number + len(texts)
    return b"".join([*texts, *(_time(log, place) + line for place, line in enumerate(lines, first))])


def _time(log: AttemptLog, number: int) -> bytes:
    at = log.index.times.at(number)
    if not at:
        return b"- "
    return datetime.fromtimestamp(at / 1000, UTC).strftime(f"%Y-%m-%dT%H:%M:%S.{at % 1000:03}Z ").encode()
