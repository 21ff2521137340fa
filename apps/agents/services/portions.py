"""Going over long lists in portions: each has a limited time, and the next one goes on where it stopped."""

import time
from collections.abc import Callable, Iterator
from typing import TypeVar

from apps.agents.models import PROGRESS, Heartbeat, TaskProgress
from apps.agents.selectors import fleet_heartbeats, fleet_place
from controlplane.nosql.listing import Place

T = TypeVar("T")


def portion(
    task: str, read: Callable[[Place | None], Iterator[T]], place_of: Callable[[T], Place], *, seconds: float
) -> Iterator[T]:
    """The parts of a list, from where the last portion of `task` stopped, for at most `seconds` and one part.

    `read` gives the parts after a place (None: all), and `place_of` the place of a part. A list that the time is enough
    for is read to its end and from its beginning. The place is stored after the caller has processed the part. If the
    caller fails, the next portion begins where this one began.
    """
    until = time.monotonic() + seconds
    row = TaskProgress.find(PROGRESS, task) or TaskProgress(PROGRESS, task)
    for start in (row.place, None) if row.place else (None,):
        for part in read(start):
            yield part
            if time.monotonic() >= until:
                row.update(actions=[TaskProgress.place.set(place_of(part))])
                return
    if row.place:
        row.update(actions=[TaskProgress.place.remove()])


def fleet_portion(task: str, *, seconds: float) -> Iterator[tuple[str, list[Heartbeat]]]:
    """The heartbeats of all agents as a `portion`, at most 100 at a time with their region.

    They may lag by moments: a write that depends on one must have the condition that `at` is still the same.
    """
    return portion(task, fleet_heartbeats, lambda part: fleet_place(part[1][-1], part[0]), seconds=seconds)
