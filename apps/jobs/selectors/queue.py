"""Reads of the queue. All reads for claims are consistent."""

import random
from collections import deque
from collections.abc import Collection, Iterator, Sequence
from heapq import heappop, heappush
from itertools import count

from apps.jobs.label_sets import agent_may_take, position_moment
from apps.jobs.models import EMPTY, LEASES, SETS, QueueEntry, QueueSet
from controlplane.lib import clock
from controlplane.lib.frozen import frozen

# How many entries a poll reads without contention: they fit into one read unit.
HEAD = 20

# How many label sets a poll reads at most. It reads more than two only where hints are too urgent.
FRONTS = 8

# How many label sets, and how many entries of each, the queue is measured from. The entries of a set fit into one
# answer and cost 16 read units.
FIGURED_SETS = 50
FIGURED_ENTRIES = 1_000

# The turn of the set that a poll reads whatever its hint. Each process begins somewhere else.
_rotation = count(random.randrange(1_000))  # noqa: S311


@frozen
class Registry:
    """The label sets in which jobs may wait, and the row about searches for expired leases (None: never searched)."""

    sets: list[QueueSet]
    looks: QueueSet | None

    def sets_for(self, labels: Collection[str]) -> list[QueueSet]:
        """The label sets whose jobs an agent with these labels may run."""
        return [queue_set for queue_set in self.sets if agent_may_take(queue_set.labels, labels)]


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
    return list(QueueEntry.query(set_id, limit=limit, page_size=limit, consistent_read=True))


class QueueFront:
    """The entries of these label sets, the most urgent first, over all sets. Iterate over it once.

    It reads a set only when the set's hint in the registry (`QueueSet.first`) says that its turn has come: one call for
    each set. A hint may be too urgent, which costs a call for nothing. So it reads at most `FRONTS` sets, and ends
    rather than yield an entry when a set that it has not read may have a more urgent one.

    A hint that is not urgent enough would hide a set. So each front also reads one set out of its turn.
    """

    def __init__(self, sets: Sequence[QueueSet], *, limit: int = HEAD) -> None:
        """`limit` is the number of entries to read of each set."""
        self.sets = sets
        # The entries that were read of each set, by the set's id.
        self.heads: dict[str, list[QueueEntry]] = {}
        self.limit = limit
        self._waiting: list[tuple[str, str, QueueEntry]] = []

    def __iter__(self) -> Iterator[QueueEntry]:
        unread = deque(sorted((found.hint, found.position) for found in self.sets if found.hint != EMPTY))
        self._read_out_of_turn(due=unread[0][1] if unread else None)
        while True:
            while unread and (not self._waiting or unread[0][0] <= self._waiting[0][0]):
                set_id = unread.popleft()[1]
                if set_id not in self.heads:
                    if len(self.heads) == FRONTS:
                        return
                    self._read(set_id)
            if not self._waiting:
                return
            yield heappop(self._waiting)[2]

    def _read(self, set_id: str) -> None:
        self.heads[set_id] = queue_head(set_id, limit=self.limit)
        for entry in self.heads[set_id]:
            heappush(self._waiting, (entry.position, set_id, entry))

    def _read_out_of_turn(self, due: str | None) -> None:
        """Read the next set of all in rotation, but not the one that is `due` anyway."""
        others = [queue_set.position for queue_set in self.sets if queue_set.position != due]
        if others:
            self._read(others[next(_rotation) % len(others)])


@frozen
class SetFigures:
    """How many jobs wait in a label set, and for how many seconds the oldest has waited.

    If `is_lower_bound`, the set has more entries than were read.
    """

    labels: frozenset[str]
    waiting: int
    oldest_wait_seconds: float
    is_lower_bound: bool


@frozen
class QueueFigures:
    """The figures of each label set in which jobs wait, those that have waited longest first.

    If `is_lower_bound`, more jobs wait than were read.
    """

    sets: tuple[SetFigures, ...]
    is_lower_bound: bool

    @property
    def depth(self) -> int:
        """How many jobs wait in these sets."""
        return sum(figures.waiting for figures in self.sets)

    @property
    def oldest_wait_seconds(self) -> float:
        """For how many seconds the oldest of these jobs has waited; 0 if none waits."""
        return max((figures.oldest_wait_seconds for figures in self.sets), default=0.0)


def queue_figures() -> QueueFigures:
    """Depth and age of the queue, which may lag by moments. One call, and one for each of at most `FIGURED_SETS` sets.

    It reads the `FIGURED_ENTRIES` most urgent entries of each set; of more sets, those with the most urgent hints. It
    does not read a set whose hint is `EMPTY`.
    """
    registry = queue_registry()
    sets = sorted((one for one in registry.sets if one.hint != EMPTY), key=lambda one: (one.hint, one.position))
    read = [_set_figures(found) for found in sets[:FIGURED_SETS]]
    return QueueFigures(
        sets=tuple(
            sorted((one for one in read if one.waiting), key=lambda one: (-one.oldest_wait_seconds, sorted(one.labels)))
        ),
        is_lower_bound=len(sets) > FIGURED_SETS or any(one.is_lower_bound for one in read),
    )


def _set_figures(queue_set: QueueSet) -> SetFigures:
    entries = list(QueueEntry.query(queue_set.position, limit=FIGURED_ENTRIES, page_size=FIGURED_ENTRIES))
    return SetFigures(
        labels=frozenset(queue_set.labels),
        waiting=len(entries),
        oldest_wait_seconds=max(map(waited_seconds, entries), default=0.0),
        is_lower_bound=len(entries) == FIGURED_ENTRIES,
    )


def entry_avoids(entry: QueueEntry, agent_id: str) -> bool:
    """Whether the agent does not get the entry's job yet, since it has just failed to run there."""
    if agent_id not in (entry.avoid or ()):
        return False
    return entry.avoid_until is not None and clock.now() < clock.parse_timestamp(entry.avoid_until)


def waited_seconds(entry: QueueEntry) -> float:
    """The seconds for which the entry's job has waited until now."""
    since = clock.parse_timestamp(entry.since) if entry.since else position_moment(entry.position)
    return max(0.0, (clock.now() - since).total_seconds())
