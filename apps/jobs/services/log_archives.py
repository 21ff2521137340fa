"""Archiving the logs of jobs that have ended: from chunks in the database to one file in object storage."""

import logging
import random
import time
from collections.abc import Iterator
from contextlib import suppress
from datetime import timedelta
from itertools import islice
from typing import Any

from django.core.files.storage import storages

from apps.jobs.log_index import LogIndex, indexes_dump
from apps.jobs.models import OPEN, Job
from apps.jobs.selectors.logs import index_name, log_stream, stream_chunks
from apps.jobs.states import FINAL
from controlplane.lib import clock, metric_names
from controlplane.lib.errors import Unavailable
from controlplane.lib.work import measure
from controlplane.nosql.connection import ConditionFailed

logger = logging.getLogger(__name__)

# How many logs one sweep archives, and how many open jobs it examines. The next sweep continues.
_LOGS_AT_ONCE = 100
_LOOK_AT_MOST = 5_000
# After this time the sweep begins no other log, and it gives up the one that it archives after the second time: Lambda
# ends it after 29 seconds.
_LOGS_SECONDS = 10
_GIVE_UP_SECONDS = 22
# After so many failures one after the other, object storage is taken to be out.
_OUT_AFTER = 3
# A log that could not be archived is tried again by the next sweep, then after 2, 4, 8, … minutes.
_LONGEST_PAUSE = timedelta(hours=1)

# A process may accept chunks of a lost attempt for up to a second (`services.logs._GATE_SECONDS`).
_SETTLED_AFTER = timedelta(seconds=5)


class TookTooLong(Exception):
    """A log was not archived in the time of one sweep."""


def logs_archive() -> int:
    """Archive the logs of jobs that have ended. Returns their number.

    A log that cannot be archived does not hold up the others: it is recorded at its job and tried again later. Raises
    Unavailable when object storage takes no log at all. All chunks stay then.
    """
    began = time.monotonic()
    stored = in_a_row = 0
    outage: Unavailable | None = None
    for job in islice(_due(), _LOGS_AT_ONCE):
        try:
            log_archive(job=job, until=began + _GIVE_UP_SECONDS)
        except Exception as failure:  # noqa: BLE001 — whatever is wrong with one log, the others are archived
            _failure_note(job, failure)
            if isinstance(failure, Unavailable):
                outage = outage or failure
                in_a_row += 1
        else:
            stored += 1
            in_a_row = 0
        if in_a_row >= _OUT_AFTER or time.monotonic() - began > _LOGS_SECONDS:
            break
    if outage is not None and not stored:
        raise outage
    return stored


def _due() -> Iterator[Job]:
    """Jobs that have ended and whose log is not archived yet: the newest hundred, then the next, each in any order.

    A log whose archiving ends the process cannot leave a note. In any order, it does not come first each time.
    """
    newest = Job.by_open.query(OPEN, scan_index_forward=False, limit=_LOOK_AT_MOST)
    while keys := [job.job_id for job in islice(newest, 100)]:
        jobs = Job.find_many(keys)
        random.shuffle(jobs)
        yield from filter(_is_due, jobs)


def _is_due(job: Job) -> bool:
    """Whether the job has ended, its log is complete, and there is no pause after a failure."""
    if job.status not in FINAL:
        return False
    if job.log_retry_at and clock.parse_timestamp(job.log_retry_at) > clock.now():
        return False
    # An agent sends every chunk before it reports the end of an attempt.
    if "log_chunks" in job.attribute_values:
        return True
    return clock.now() - clock.parse_timestamp(job.completed_at) > _SETTLED_AFTER


def log_archive(*, job: Job, until: float | None = None) -> None:
    """Copy the whole log of an ended job to object storage. After that, the job is no longer open.

    It may be repeated, also by two processes in parallel: each writes the same content under the same name. The name
    holds the time of the job's end, so that the log of an earlier end never replaces that of a later one. `until` is a
    moment of the monotonic clock. Raises TookTooLong after it, ValueError for a damaged chunk, OSError, Unavailable.
    """
    if job.status not in FINAL:
        return
    storage: Any = storages["logs"]
    end = "".join(filter(str.isdigit, job.completed_at))
    name = f"{job.job_id}-{end}.log" if int(job.attempt) > 0 else None
    if name:
        indexes: list[LogIndex] = []
        storage.save_stream(name, _whole_log(job, until, indexes))
        storage.save_stream(index_name(name), [indexes_dump(indexes)])
    try:
        job.update(
            actions=[
                *([Job.log_stored.set(name)] if name else []),
                Job.open.remove(),
                Job.log_failures.remove(),
                Job.log_retry_at.remove(),
                Job.log_problem.remove(),
            ],
            condition=Job.status.is_in(*FINAL) & (Job.completed_at == job.completed_at) & Job.open.exists(),
        )
    except ConditionFailed:
        # This single write was repeated after a lost response, another process archived the log first, or the job has
        # got another end meanwhile.
        current = Job.find(job.job_id)
        if name and (current is None or current.log_stored != name):
            storage.delete(name)
            storage.delete(index_name(name))


def _whole_log(job: Job, until: float | None, indexes: list[LogIndex]) -> Iterator[bytes]:
    """The output of all attempts, chunk by chunk. It adds an index of each attempt's lines to `indexes`."""
    for attempt in range(1, int(job.attempt) + 1):
        index = LogIndex()
        indexes.append(index)
        for chunk in stream_chunks(log_stream(job.job_id, attempt)):
            if until is not None and time.monotonic() > until:
                raise TookTooLong("the log is too long to be archived in the time of one sweep")
            index.add(chunk.output, chunk.moments)
            yield chunk.output


def _failure_note(job: Job, failure: Exception) -> None:
    """Log and count that a log was not archived, and note at its job why and when it is tried again."""
    failures = int(job.log_failures or 0) + 1
    logger.warning(
        "the log of job %s was not archived (failure %d); a later sweep tries again",
        job.job_id,
        failures,
        exc_info=failure,
        extra={"job_id": job.job_id},
    )
    measure(metric_names.LOG_ARCHIVE_FAILURES, 1)
    pause = timedelta() if failures == 1 else min(timedelta(minutes=2 ** min(failures - 1, 10)), _LONGEST_PAUSE)
    # Another process may have archived it meanwhile.
    with suppress(ConditionFailed):
        job.update(
            actions=[
                Job.log_failures.set(failures),
                Job.log_retry_at.set(clock.timestamp(clock.now() + pause)),
                Job.log_problem.set(_reason(failure)),
            ],
            condition=Job.open.exists(),
        )


def _reason(failure: Exception) -> str:
    """Why a log was not archived, in words for the users of the job."""
    if isinstance(failure, Unavailable):
        return "the storage of logs is not available"
    if isinstance(failure, TookTooLong):
        return str(failure)
    if isinstance(failure, OSError):
        return f"the storage of logs failed ({failure.strerror or type(failure).__name__})"
    return f"an unexpected error occurred ({type(failure).__name__}); the control plane's own log has the details"
