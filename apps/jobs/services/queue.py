"""How a job gets into the queue: its entry, and the registry of label sets in which agents look."""

from collections.abc import Sequence
from datetime import timedelta

from django.core.cache import cache

from apps.jobs.label_sets import queue_position, set_id
from apps.jobs.models import SETS, Job, QueueEntry, QueueSet
from apps.jobs.selectors.queue import queue_head, queue_registry
from controlplane.lib import clock
from controlplane.nosql.connection import ConditionFailed

# How long a process remembers that a set is in the registry. The sweep waits longer than this before it prunes one.
_SET_KNOWN_SECONDS = 20
_PRUNE_AFTER = timedelta(seconds=60)


def entry_of(job: Job, *, attempt: int, since: str | None = None) -> QueueEntry:
    """The queue's entry for `attempt` of the job, which waits since then, or since its creation."""
    return QueueEntry(
        set_id=set_id(job.labels),
        position=queue_position(priority=int(job.priority), created_at=job.created_at, job_id=job.job_id),
        attempt=attempt,
        since=since,
    )


def set_register(*, labels: Sequence[str]) -> None:
    """Name the label set in the registry, so that agents look there. Call it before an entry of the set is written.

    A set too many does no harm; a set too few would leave its jobs waiting for ever. So the sweep (`sets_prune`)
    prunes only a set that it marked longer ago than any process remembers the registry.
    """
    name = set_id(labels)
    known = f"queue-set:{name}"
    if cache.get(known):
        return
    QueueSet(set_id=SETS, position=name).update(
        actions=[QueueSet.labels.set(sorted(set(labels))), QueueSet.retiring_at.remove()]
    )
    cache.set(known, True, _SET_KNOWN_SECONDS)


def sets_prune() -> int:
    """Take label sets out of the registry in which no job has waited for a while. Returns how many.

    In two steps, since a job may be on its way into the set: mark it, and a minute later delete it if it is still
    marked and still empty. `set_register` removes the mark before a job enters.
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
        # A job uses the set again, or another sweep was faster.
        return False
    return False
