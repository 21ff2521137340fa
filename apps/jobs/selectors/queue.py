"""Reads of the queue. All reads for claims are consistent."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from django.core.cache import cache

from apps.jobs.label_sets import agent_may_take, position_moment
from apps.jobs.models import LEASES, SETS, QueueEntry, QueueSet
from controlplane.lib import clock

# How many entries a poll reads without contention: they fit into one read unit.
HEAD = 20

# How many label sets a poll reads at most.
FRONTS = 4

# How many label sets, and how many entries of each, the queue's depth is measured from. The entries of a set fit into
# one answer and cost 16 read units.
FIGURED_SETS = 50
FIGURED_ENTRIES = 1_000

# How long a process caches the head of each label set, so that it can choose sets without reading all of them.
_HEAD_KNOWN_SECONDS = 2
_EMPTY = "~"
_UNKNOWN = ""


@dataclass(frozen=True)
class Registry:
    """The label sets in which jobs may wait, and the row about searches for expired leases (None: never searched)."""

    sets: list[QueueSet]
    looks: QueueSet | None

    def sets_for(self, labels: Collection[str]) -> list[str]:
        """The ids of the label sets whose jobs an agent with these labels may run."""
        return [queue_set.position for queue_set in self.sets if agent_may_take(queue_set.labels, labels)]


def queue_registry() -> Registry:
    """The whole registry. One call."""
    rows = list(QueueSet.query(SETS, consistent_read=True))
    return Registry(
        sets=[row for row in rows if row.position != LEASES],
        looks=next((row for row in rows if row.position == LEASES), None),
    )


def looks_row() -> QueueSet | None:
    """The row about searches for expired leases, or None before the first search. One call."""
    return next(iter(QueueSet.query(SETS, QueueSet.position == LEASES, consistent_read=True)), None)


def queue_head(set_id: str, *, limit: int = HEAD) -> list[QueueEntry]:
    """The most urgent entries of a label set, the most urgent first. One call."""
    entries = list(QueueEntry.query(set_id, limit=limit, page_size=limit, consistent_read=True))
    cache.set(_known(set_id), entries[0].position if entries else _EMPTY, _HEAD_KNOWN_SECONDS)
    return entries


def queue_head_forget(set_id: str) -> None:
    """Called after an entry was added to the set, so that the next poll of this process reads the set's head again."""
    cache.set(_known(set_id), _UNKNOWN, _HEAD_KNOWN_SECONDS)


def queue_front(set_ids: Sequence[str], *, limit: int = HEAD) -> list[QueueEntry]:
    """The heads of these label sets as one list, the most urgent entry first. One call for each set, at most four.

    Of more than four sets, it reads those whose head is not cached, then those with the most urgent cached heads.
    """
    known = {set_id: cache.get(_known(set_id), _UNKNOWN) for set_id in set_ids}
    if len(set_ids) > 1:
        known = {set_id: head for set_id, head in known.items() if head != _EMPTY}
    chosen = sorted(known, key=known.__getitem__)[:FRONTS]
    entries = (entry for set_id in chosen for entry in queue_head(set_id, limit=limit))
    return sorted(entries, key=lambda entry: entry.position)


@dataclass(frozen=True)
class QueueFigures:
    """How many jobs are queued, and for how many seconds the oldest has waited (0 if no job is queued).

    If `is_lower_bound`, the queue has more entries than were read.
    """

    depth: int
    oldest_wait_seconds: float
    is_lower_bound: bool


def queue_figures() -> QueueFigures:
    """Depth and age of the whole queue, which may lag. One call, and one for each of at most `FIGURED_SETS` label sets.

    It reads the `FIGURED_ENTRIES` most urgent entries of each set.
    """
    sets = queue_registry().sets
    depth, oldest, more = 0, 0.0, len(sets) > FIGURED_SETS
    for queue_set in sets[:FIGURED_SETS]:
        entries = list(QueueEntry.query(queue_set.position, limit=FIGURED_ENTRIES, page_size=FIGURED_ENTRIES))
        depth += len(entries)
        oldest = max([oldest, *map(waited_seconds, entries)])
        more = more or len(entries) == FIGURED_ENTRIES
    return QueueFigures(depth=depth, oldest_wait_seconds=oldest, is_lower_bound=more)


def entry_avoids(entry: QueueEntry, agent_id: str) -> bool:
    """Whether the agent does not get the entry's job yet, since it has just failed to run there."""
    if agent_id not in (entry.avoid or ()):
        return False
    return entry.avoid_until is not None and clock.now() < clock.parse_timestamp(entry.avoid_until)


def waited_seconds(entry: QueueEntry) -> float:
    """The seconds for which the entry's job has waited until now."""
    since = clock.parse_timestamp(entry.since) if entry.since else position_moment(entry.position)
    return max(0.0, (clock.now() - since).total_seconds())


def _known(set_id: str) -> str:
    return f"queue-head:{set_id}"
