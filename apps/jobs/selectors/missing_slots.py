"""How many slots are missing for the jobs that wait, where agents may take jobs of several label sets."""

from collections import Counter, deque
from collections.abc import Collection, Iterable, Mapping, Sequence

from apps.jobs.label_sets import agent_may_take

# The places, in a list of label sets, of those whose jobs an agent may take. Agents with the same ones are alike.
_Kind = frozenset[int]


# Labels and a number: of a label set and how many jobs wait in it, or of an agent and how many of its slots are free.
_Counted = tuple[Collection[str], int]


def missing_slots(waiting: Sequence[_Counted], free: Iterable[_Counted]) -> list[int]:
    """How many slots each label set lacks, given how many jobs wait in each and how many slots of each agent are free.

    Each free slot counts once, for one job, although its agent may take jobs of several label sets. The sum is the
    least number of slots that have to be added so that all jobs could run at once. Label sets of many labels have the
    first claim, so that what is missing is missing where machines are easiest to add.
    """
    slots = _Slots(waiting, free)
    lacking = [jobs for _, jobs in waiting]
    for place in sorted(range(len(waiting)), key=lambda at: (-len(waiting[at][0]), sorted(waiting[at][0]))):
        while lacking[place] and (given := slots.give(place, lacking[place])):
            lacking[place] -= given
    return lacking


class _Slots:
    """Which free slots are given to which label set: a flow, made as large as possible along augmenting paths."""

    def __init__(self, waiting: Sequence[_Counted], free: Iterable[_Counted]) -> None:
        self._free = Counter[_Kind]()
        for offered, number in free:
            kind = frozenset(place for place, (labels, _) in enumerate(waiting) if agent_may_take(labels, offered))
            self._free[kind] += number
        self._given: list[Counter[_Kind]] = [Counter() for _ in waiting]

    def give(self, place: int, wanted: int) -> int:
        """Give the label set up to `wanted` more slots. Returns how many, 0 if there are none that it could have.

        Other label sets give up slots for others that are free, but none of them has fewer than before.
        """
        # From where each kind was reached: by which label set, and for which kind that this one would give up.
        reached: dict[_Kind, tuple[int, _Kind | None]] = {}
        asking: deque[tuple[int, _Kind | None]] = deque([(place, None)])
        asked = {place}
        while asking:
            asker = asking.popleft()
            for kind in self._free:
                if asker[0] not in kind or kind in reached:
                    continue
                reached[kind] = asker
                if self._free[kind]:
                    return self._move(kind, reached, wanted)
                for other in sorted(kind - asked):
                    if self._given[other][kind]:
                        asked.add(other)
                        asking.append((other, kind))
        return 0

    def _move(self, kind: _Kind, reached: Mapping[_Kind, tuple[int, _Kind | None]], wanted: int) -> int:
        """Move as many slots as possible, up to `wanted`, along the path that ends with free slots of this kind."""
        path = []
        step: _Kind | None = kind
        while step is not None:
            asker, given_up = reached[step]
            path.append((asker, step, given_up))
            step = given_up
        limits = [self._given[asker][given_up] for asker, _, given_up in path if given_up is not None]
        moved = min(wanted, self._free[kind], *limits)
        self._free[kind] -= moved
        for asker, taken, given_up in path:
            self._given[asker][taken] += moved
            if given_up is not None:
                self._given[asker][given_up] -= moved
        return moved
