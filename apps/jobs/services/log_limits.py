"""The limit of an attempt's log, against agents that do not keep it themselves.

Agents get the limit in the answer to `start` and cut their logs themselves, so that the end of the log stays. Here
nothing is counted for a log below a megabyte. Above, each process writes down after each megabyte how much it has
stored for the attempt, and adds up what all processes have stored. It writes totals, so a repeated write does no harm.
"""

import secrets
import threading
from dataclasses import replace
from datetime import datetime

from django.conf import settings
from django.core.cache import cache

from apps.jobs.models import LogChunk
from apps.jobs.selectors.logs import counts_read
from controlplane.lib.frozen import frozen

# After so many bytes or chunks a process writes down what it has stored. All processes together may exceed the limit by
# as much for each process.
_COUNTED_BYTES = 1_000_000
_COUNTED_CHUNKS = 1_000
# The first chunk before which a process may have written down something.
_FIRST_COUNTED = 10
# What an agent adds to a log that it has cut, and what the counting may be off by.
_ROOM_BYTES = 1_000_000
# An agent that sends its output every 0.3 s for 24 hours, the longest time limit of a job, sends 288,000 chunks.
CHUNKS_MAX = 500_000
# The sequence of the last line of a log that was cut here. It is greater than any in an address.
CUT_SEQUENCE = 10**9

# As long as an attempt may take.
_REMEMBERED_SECONDS = 24 * 3600

_lock = threading.Lock()


@frozen
class _Count:
    """What this process has stored for an attempt, and how much of that it has written down. `row` is its row's key."""

    row: int
    size: int = 0
    chunks: int = 0
    saved_size: int = 0
    saved_chunks: int = 0


def log_limit() -> int:
    """The most bytes of output that are kept of one attempt, before compression."""
    return max(1, int(settings.ATTEMPT_LOG_LIMIT_MB)) * 1_000_000


def log_is_full(stream: str, sequence: int, *, expires_at: datetime) -> bool:
    """Whether the attempt's log has reached the limit, as far as this process knows; `sequence` is the next chunk's."""
    if cache.get(_full_key(stream)):
        return True
    # A process that has stored nothing of this log yet looks what others have, unless that is less than a count.
    if sequence < _FIRST_COUNTED or cache.get(_count_key(stream)) is not None:
        return False
    return _full_note(stream, expires_at)


def log_count(stream: str, size: int, *, expires_at: datetime) -> None:
    """Count a chunk of `size` bytes that was stored. At the limit, the log gets its last line and counts as full."""
    key = _count_key(stream)
    with _lock:
        count: _Count = cache.get(key) or _Count(row=-1 - secrets.randbits(62))
        count = replace(count, size=count.size + size, chunks=count.chunks + 1)
        is_due = count.size - count.saved_size >= _COUNTED_BYTES or count.chunks - count.saved_chunks >= _COUNTED_CHUNKS
        if is_due:
            count = replace(count, saved_size=count.size, saved_chunks=count.chunks)
        cache.set(key, count, _REMEMBERED_SECONDS)
    if is_due:
        LogChunk(stream=stream, sequence=count.row, size=count.size, chunks=count.chunks, expires_at=expires_at).save()
        _full_note(stream, expires_at)


def _full_note(stream: str, expires_at: datetime) -> bool:
    """Whether the attempt's log has reached the limit. If so, write its last line and remember that it is full."""
    limit = log_limit()
    rows = counts_read(stream)
    size, chunks = (sum(int(getattr(row, name) or 0) for row in rows) for name in ("size", "chunks"))
    if size <= limit + _ROOM_BYTES and chunks <= CHUNKS_MAX:
        return False
    line = f"\n── cut off here: the log has reached its limit of {limit // 1_000_000} MB, and the agent sent more\n"
    LogChunk(stream=stream, sequence=CUT_SEQUENCE, data=line.encode(), expires_at=expires_at).save()
    cache.set(_full_key(stream), True, _REMEMBERED_SECONDS)
    return True


def _full_key(stream: str) -> str:
    return f"log-full:{stream}"


def _count_key(stream: str) -> str:
    return f"log-count:{stream}"
