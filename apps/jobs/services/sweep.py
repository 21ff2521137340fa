"""What is to be done whether or not anybody asks: each part looks for work left behind and may be run at any time."""

import time
from collections.abc import Iterator
from datetime import timedelta
from itertools import islice

from apps.jobs.models import OPEN, Job, QueueSet
from apps.jobs.selectors.queue import queue_head, queue_registry
from apps.jobs.services.logs import log_archive
from apps.jobs.states import FINAL
from controlplane.lib import clock
from controlplane.nosql.connection import ConditionFailed

# Longer than any process believes that a set is registered (`services.queue._SET_KNOWN_SECONDS`).
_PRUNE_AFTER = timedelta(seconds=60)

# How many logs one sweep puts away, and how many open jobs it looks at for them; the next one goes on.
_LOGS_AT_ONCE = 100
_LOOK_AT_MOST = 5_000
# No other log is begun after so many seconds: Lambda ends the sweep after 29.
_LOGS_SECONDS = 10

# A process may take a chunk of an attempt that was lost less than a second ago (`services.logs._GATE_SECONDS`).
_SETTLED_AFTER = timedelta(seconds=5)


def sets_prune() -> int:
    """Take label sets out of the registry in which nothing has waited for a while. Returns how many.

    In two steps, since a job may be on its way into the set: mark it, and a minute later delete it if it is still
    marked and still empty. Whoever enqueues takes the mark away first.
    """
    return sum(_set_prune(queue_set) for queue_set in queue_registry().sets)


def _set_prune(queue_set: QueueSet) -> bool:
    marked = queue_set.retiring_at
    still_marked = QueueSet.retiring_at == marked if marked else QueueSet.position.exists()
    try:
        if queue_head(queue_set.position, limit=1):
            if marked:
                queue_set.update(actions=[QueueSet.retiring_at.remove()], condition=still_marked)
        elif not marked:
            queue_set.update(actions=[QueueSet.retiring_at.set(clock.timestamp(clock.now()))], condition=still_marked)
        elif clock.now() - clock.parse_timestamp(marked) > _PRUNE_AFTER:
            queue_set.delete(condition=still_marked)
            return True
    except ConditionFailed:
        # Somebody uses the set again, or another sweep was faster.
        return False
    return False


def logs_archive() -> int:
    """Put away the logs of jobs that have ended. Returns how many.

    Raises Unavailable when one cannot be put away just now. Those before it are, and it stands in its chunks as before.
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
    """Jobs that have ended but whose log still stands in chunks, newest first."""
    newest = Job.by_open.query(OPEN, scan_index_forward=False, limit=_LOOK_AT_MOST)
    while keys := [job.job_id for job in islice(newest, 100)]:
        yield from filter(_is_settled, Job.find_many(keys))


def _is_settled(job: Job) -> bool:
    """Whether the job has ended and nothing can be added to its log any more."""
    if job.status not in FINAL:
        return False
    # When its agent has told how it ended, every chunk had come.
    if "log_chunks" in job.attribute_values:
        return True
    return clock.now() - clock.parse_timestamp(job.completed_at) > _SETTLED_AFTER
