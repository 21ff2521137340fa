"""Taking in what jobs print, and putting whole logs away."""

import hashlib
import tempfile
from datetime import timedelta

from django.core.cache import cache
from django.core.files import File
from django.core.files.storage import storages

from apps.jobs.models import Job, LogChunk
from apps.jobs.policies import attempt_require
from apps.jobs.selectors.logs import log_stream, stream_chunks
from apps.jobs.states import FINAL
from controlplane.lib import clock
from controlplane.lib.errors import InvalidInput, TooLarge
from controlplane.nosql.connection import ConditionFailed

# The largest piece of a log, in bytes as printed. DynamoDB's own limit for an item is 400 KB.
CHUNK_LIMIT = 100_000

# Chunks stay this long; by then the log has long been copied to object storage.
_CHUNK_LIFETIME = timedelta(days=14)

# How long a process believes that an attempt goes on: an agent that prints ten times a second costs one read a second,
# and learns of a cancellation within that second.
_GATE_SECONDS = 1


def log_append(*, agent_id: str, job_id: str, attempt: int, sequence: int, data: bytes) -> str | None:
    """Keep one piece of an attempt's log. Returns the command for the job (``cancel``) or None.

    Pieces are numbered from 0 without gaps, in the order in which they were printed; sending one again does no harm.
    Raises TooLarge above `CHUNK_LIMIT` bytes, NotFound, or Conflict with code ``stale_attempt``.
    """
    if len(data) > CHUNK_LIMIT:
        raise TooLarge(f"A log chunk has at most {CHUNK_LIMIT} bytes.", code="log_chunk_too_large")
    if sequence < 0:
        raise InvalidInput.field("sequence", "is a number from 0")
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


def log_archive(*, job: Job) -> None:
    """Copy the whole log of an ended job to object storage, after which nothing is left to do for it.

    May be repeated, also by two at once: a file bears the digest of its content, and the job names the one that counts.
    """
    if job.status not in FINAL:
        return
    name = _whole_log_save(job) if int(job.attempt) > 0 else None
    try:
        job.update(
            actions=[*([Job.log_stored.set(name)] if name else []), Job.open.remove()],
            condition=Job.status.is_in(*FINAL) & Job.open.exists(),
        )
    except ConditionFailed:
        # Either our own write, whose response was lost, or another process has stored the log a moment ago.
        standing = Job.find(job.job_id)
        if name and (standing is None or standing.log_stored != name):
            storages["logs"].delete(name)


def _whole_log_save(job: Job) -> str:
    """Write all attempts' chunks into one file, unless it is there already; returns its name."""
    storage, digest = storages["logs"], hashlib.sha256()
    with tempfile.TemporaryFile() as whole:
        for attempt in range(1, int(job.attempt) + 1):
            for chunk in stream_chunks(log_stream(job.job_id, attempt)):
                whole.write(chunk.data)
                digest.update(chunk.data)
        name, size = f"{job.job_id}-{digest.hexdigest()[:16]}.log", whole.tell()
        if storage.exists(name):
            if storage.size(name) == size:
                return name
            # A storing that broke off has left a part of it.
            storage.delete(name)
        whole.seek(0)
        return storage.save(name, File(whole))
