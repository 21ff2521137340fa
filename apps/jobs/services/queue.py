"""Writing the queue: the entries of jobs, and the registry of label sets from which agents claim jobs."""

from collections.abc import Sequence
from datetime import timedelta

from django.core.cache import cache

from apps.jobs.label_sets import queue_position, set_id
from apps.jobs.models import SETS, Job, QueueEntry, QueueSet
from apps.jobs.selectors.queue import queue_head, queue_registry
from controlplane.lib import clock
from controlplane.nosql.connection import ConditionFailed

# How long a process caches that a label set is registered. The sweep waits longer than this before it prunes a set.
_SET_KNOWN_SECONDS = 20
_PRUNE_AFTER = timedelta(seconds=60)


def entry_of(job: Job, *, attempt: int, since: str | None = None) -> QueueEntry:
    """The queue entry for `attempt` of the job. `since` is when the job began to wait; None means its creation."""
    return QueueEntry(
        set_id=set_id(job.labels),
        position=queue_position(priority=int(job.priority), created_at=job.created_at, job_id=job.job_id),
        attempt=attempt,
        since=since,
    )


def set_register(*, labels: Sequence[str]) -> None:
    """Add the label set to the registry, so that agents read it. Call this before writing an entry of the set.

    An unused set does no harm, but jobs of a missing set would wait for ever. So the sweep (`sets_prune`) prunes a set
    only if it marked the set longer ago than any process caches the registry.
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
    """Prune label sets in which no job has waited for a while from the registry. Returns their number.

    It takes two sweeps, since a request may be about to add a job to the set: the first one marks the set, and a later
    one deletes it if it is still marked and empty after a minute. `set_register` removes the mark before it adds a job.
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
