"""Storing the output of jobs in chunks."""

from datetime import timedelta

from django.core.cache import cache

from apps.jobs.models import CHUNK_LIMIT, Job, LogChunk
from apps.jobs.policies import attempt_require, is_lost_attempt_of
from apps.jobs.selectors.logs import chunk_get, log_stream
from apps.jobs.services.log_limits import log_count, log_is_full
from controlplane.lib import clock
from controlplane.lib.error_codes import ErrorCode
from controlplane.lib.errors import Conflict, InvalidInput, TooLarge
from controlplane.nosql.connection import ConditionFailed

# The lifetime of a chunk. The log is archived long before its chunks expire.
_CHUNK_LIFETIME = timedelta(days=14)

# How long a process caches the state of an attempt. An agent that sends ten chunks a second then costs one read a
# second, and gets a cancel request within that second.
_GATE_SECONDS = 1
_GATE_ATTRIBUTES = ["job_id", "status", "attempt", "agent_id", "lost_agent_id", "cancel_requested"]


def log_append(
    *,
    agent_id: str,
    job_id: str,
    attempt: int,
    sequence: int,
    data: bytes,
    packed: bytes | None = None,
    age: int = 0,
    times: str | None = None,
) -> str | None:
    """Store one chunk of an attempt's log. Returns the command for the attempt (``cancel``) or None.

    `packed` is `data` as the agent compressed it with gzip. `age` says how many milliseconds ago the first byte was
    printed, and `times` is about later bytes (`LogChunk.times`), so that the agent's clock does not matter. Agents
    number the chunks from 0 without gaps, in the order of the output. Repeating a chunk does no harm. Chunks above the
    limit of the attempt's log are dropped, which is no error: the attempt must not fail for its log, and the agent must
    not send the chunk again.

    Raises TooLarge above `CHUNK_LIMIT` bytes, NotFound, and Conflict with code ``stale_attempt``, or
    ``log_chunk_conflict`` when the chunk is stored already and has other content.
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
    stream, expires_at = log_stream(job_id, attempt), clock.now() + _CHUNK_LIFETIME
    if not log_is_full(stream, sequence, expires_at=expires_at) and _chunk_add(
        LogChunk(stream=stream, sequence=sequence, at=_printed_at(age), times=times, expires_at=expires_at),
        data,
        packed,
    ):
        log_count(stream, len(data), expires_at=expires_at)
    return command or None


def _printed_at(age: int) -> float:
    return round(clock.now().timestamp() - age / 1000, 3)


def _chunk_add(chunk: LogChunk, data: bytes, packed: bytes | None) -> bool:
    """Write the chunk, compressed if that is smaller. Returns whether it is new."""
    if packed is not None and len(packed) < len(data):
        chunk.packed, chunk.size = packed, len(data)
    else:
        chunk.data = data
    try:
        chunk.save(condition=LogChunk.stream.does_not_exist())
    except ConditionFailed:
        # The agent or DynamoDB's client sent the chunk again after a lost response.
        stored = chunk_get(chunk.stream, int(chunk.sequence))
        if stored is not None and stored.output != data:
            raise Conflict(
                f"Chunk {int(chunk.sequence)} is stored with other content. Go on with the next chunk.",
                code=ErrorCode.LOG_CHUNK_CONFLICT,
            ) from None
        return False
    return True
