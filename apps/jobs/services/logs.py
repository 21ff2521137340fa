"""Storing the output of jobs in chunks."""

from datetime import timedelta

from django.core.cache import cache

from apps.jobs.models import Job, LogChunk
from apps.jobs.policies import attempt_require, is_lost_attempt_of
from apps.jobs.selectors.logs import log_stream
from controlplane.lib import clock
from controlplane.lib.error_codes import ErrorCode
from controlplane.lib.errors import InvalidInput, TooLarge

# The largest log chunk, in decompressed bytes. DynamoDB's own limit for an item is 400 KB.
CHUNK_LIMIT = 100_000

# The lifetime of a chunk. The log is archived long before its chunks expire.
_CHUNK_LIFETIME = timedelta(days=14)

# How long a process caches the state of an attempt. An agent that sends ten chunks a second then costs one read a
# second, and gets a cancel request within that second.
_GATE_SECONDS = 1
_GATE_ATTRIBUTES = ["job_id", "status", "attempt", "agent_id", "lost_agent_id", "cancel_requested"]


def log_append(*, agent_id: str, job_id: str, attempt: int, sequence: int, data: bytes) -> str | None:
    """Store one chunk of an attempt's log. Returns the command for the attempt (``cancel``) or None.

    Agents number the chunks from 0 without gaps, in the order of the output. Repeating a chunk does no harm.
    Raises TooLarge above `CHUNK_LIMIT` bytes, NotFound, or Conflict with code ``stale_attempt``.
    """
    if len(data) > CHUNK_LIMIT:
        raise TooLarge(
            f"The log chunk has more than {CHUNK_LIMIT} bytes. Send smaller chunks.", code=ErrorCode.LOG_CHUNK_TOO_LARGE
        )
    if sequence < 0:
        raise InvalidInput.field("sequence", "must be a whole number from 0")
    gate = f"log-gate:{agent_id}:{job_id}:{attempt}"
    command = cache.get(gate)
    if command is None:
        job = Job.find(job_id, attributes=_GATE_ATTRIBUTES)
        if job is None or not is_lost_attempt_of(job, agent_id=agent_id, attempt=attempt):
            job = attempt_require(job, agent_id=agent_id, attempt=attempt)
        command = "cancel" if job.cancel_requested else ""
        cache.set(gate, command, _GATE_SECONDS)
    LogChunk(
        stream=log_stream(job_id, attempt),
        sequence=sequence,
        data=data,
        expires_at=clock.now() + _CHUNK_LIFETIME,
    ).save()
    return command or None
