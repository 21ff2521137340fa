"""Taking in what jobs print, a chunk at a time."""

from datetime import timedelta

from django.core.cache import cache

from apps.jobs.models import Job, LogChunk
from apps.jobs.policies import attempt_require
from apps.jobs.selectors.logs import log_stream
from controlplane.lib import clock
from controlplane.lib.error_codes import ErrorCode
from controlplane.lib.errors import InvalidInput, TooLarge

# The largest piece of a log, in bytes as printed. DynamoDB's own limit for an item is 400 KB.
CHUNK_LIMIT = 100_000

# Chunks stay this long; by then the log has long been copied to object storage.
_CHUNK_LIFETIME = timedelta(days=14)

# How long a process remembers that an attempt goes on: an agent that prints ten times a second costs one read a second,
# and gets a cancel request within that second.
_GATE_SECONDS = 1


def log_append(*, agent_id: str, job_id: str, attempt: int, sequence: int, data: bytes) -> str | None:
    """Keep one chunk of an attempt's log. Returns the command for the attempt (``cancel``) or None.

    Chunks are numbered from 0 without gaps, in the order in which they were printed; a repeated one does no harm.
    Raises TooLarge above `CHUNK_LIMIT` bytes, NotFound, or Conflict with code ``stale_attempt``.
    """
    if len(data) > CHUNK_LIMIT:
        raise TooLarge(f"A log chunk has at most {CHUNK_LIMIT} bytes.", code=ErrorCode.LOG_CHUNK_TOO_LARGE)
    if sequence < 0:
        raise InvalidInput.field("sequence", "must be a whole number from 0")
    gate = f"log-gate:{agent_id}:{job_id}:{attempt}"
    command = cache.get(gate)
    if command is None:
        job = attempt_require(
            Job.find(job_id, attributes=["job_id", "status", "attempt", "agent_id", "cancel_requested"]),
            agent_id=agent_id,
            attempt=attempt,
        )
        command = "cancel" if job.cancel_requested else ""
        cache.set(gate, command, _GATE_SECONDS)
    LogChunk(
        stream=log_stream(job_id, attempt),
        sequence=sequence,
        data=data,
        expires_at=clock.now() + _CHUNK_LIFETIME,
    ).save()
    return command or None
