"""How a job gets into the queue: its entry, and the registry of label sets in which agents look."""

from collections.abc import Sequence

from django.core.cache import cache

from apps.jobs.label_sets import queue_position, set_id
from apps.jobs.models import SETS, Job, QueueEntry, QueueSet

# How long a process remembers that a set is in the registry. The sweep waits longer than this before it prunes one.
_SET_KNOWN_SECONDS = 20


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
