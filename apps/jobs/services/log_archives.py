"""Archiving the logs of jobs that have ended: from chunks in the database to one file in object storage."""

import hashlib
import tempfile
import time
from collections.abc import Iterator
from datetime import timedelta
from itertools import islice

from django.core.files import File
from django.core.files.storage import storages

from apps.jobs.models import OPEN, Job
from apps.jobs.selectors.logs import log_stream, stream_chunks
from apps.jobs.states import FINAL
from controlplane.lib import clock
from controlplane.nosql.connection import ConditionFailed

# How many logs one sweep archives, and how many open jobs it examines. The next sweep continues.
_LOGS_AT_ONCE = 100
_LOOK_AT_MOST = 5_000
# After this time the sweep begins no other log, since Lambda ends it after 29 seconds.
_LOGS_SECONDS = 10

# A process may accept chunks of a lost attempt for up to a second (`services.logs._GATE_SECONDS`).
_SETTLED_AFTER = timedelta(seconds=5)


def logs_archive() -> int:
    """Archive the logs of jobs that have ended. Returns their number.

    Raises Unavailable when object storage fails. Earlier logs are archived then, and all other chunks stay.
    """
    stored = 0
    began = time.monotonic()
    for job in islice(_ended_and_open(), _LOGS_AT_ONCE):
        log_archive(job=job)
        stored += 1
        if time.monotonic() - began > _LOGS_SECONDS:
            break
    return stored


def _ended_and_open() -> Iterator[Job]:
    """Jobs that have ended and whose log is not archived yet, newest first."""
    newest = Job.by_open.query(OPEN, scan_index_forward=False, limit=_LOOK_AT_MOST)
    while keys := [job.job_id for job in islice(newest, 100)]:
        yield from filter(_is_settled, Job.find_many(keys))


def _is_settled(job: Job) -> bool:
    """Whether the job has ended and its log is complete."""
    if job.status not in FINAL:
        return False
    # An agent sends every chunk before it reports the end of an attempt.
    if "log_chunks" in job.attribute_values:
        return True
    return clock.now() - clock.parse_timestamp(job.completed_at) > _SETTLED_AFTER


def log_archive(*, job: Job) -> None:
    """Copy the whole log of an ended job to object storage. After that, the job is no longer open.

    It may be repeated, also by two processes in parallel: a file's name contains the digest of its content, and the job
    names the valid file.
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
        # This single write was repeated after a lost response, or another process archived the log first.
        current = Job.find(job.job_id)
        if name and (current is None or current.log_stored != name):
            storages["logs"].delete(name)


def _whole_log_save(job: Job) -> str:
    """Write the chunks of all attempts into one file, unless it exists already. Returns its name."""
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
            # An interrupted upload has left an incomplete file.
            storage.delete(name)
        whole.seek(0)
        return storage.save(name, File(whole))
