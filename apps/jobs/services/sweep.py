"""What is to be done whether or not anybody asks: each part looks for work left behind and may be run at any time."""

from collections.abc import Iterable
from datetime import timedelta

from apps.jobs.models import OPEN, Job, QueueSet
from apps.jobs.selectors.queue import queue_head, queue_registry
from apps.jobs.services.logs import log_store
from apps.jobs.states import FINAL
from controlplane.lib import clock
from controlplane.nosql.connection import ConditionFailed

# Longer than any process believes that a set is registered (`services.queue._SET_KNOWN_SECONDS`).
_PRUNE_AFTER = timedelta(seconds=60)

# How many logs one sweep puts away; the next one goes on.
_LOGS_AT_ONCE = 100


def sets_prune() -> int:
    """Take requirement sets out of the registry in which nothing has waited for a while. Returns how many.

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


def logs_store() -> int:
    """Put away the logs of jobs that have ended. Returns how many."""
    stored = 0
    for job in _ended_and_open():
        log_store(job=job)
        stored += 1
    return stored


def _ended_and_open() -> Iterable[Job]:
    """Jobs that have ended but whose log still stands in chunks, oldest first."""
    keys = [job.job_id for job in Job.by_open.query(OPEN, limit=_LOGS_AT_ONCE * 10)]
    for start in range(0, len(keys), 100):
        yield from (job for job in Job.find_many(keys[start : start + 100]) if job.status in FINAL)
