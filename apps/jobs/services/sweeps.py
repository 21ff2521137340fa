"""Noting that the sweep ran, for the page that says how the control plane is."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

from django.core.cache import cache

from apps.jobs.models.sweep import LastSweep
from controlplane.lib import clock

# While nothing fails, it is noted this often, which costs a cent a month.
NOTED_EVERY = timedelta(minutes=5)
# The process's own: when it noted the last sweep, without failures.
_NOTED = "sweep-noted-at"


def sweep_note(*, failed: Sequence[str]) -> None:
    """Note that the tasks ran, with the names of those that failed: at once if there are any. Raises Unavailable."""
    now = clock.now()
    noted: datetime | None = cache.get(_NOTED)
    if not failed and noted is not None and timedelta() <= now - noted < NOTED_EVERY:
        return
    actions: list[Any] = [LastSweep.at.set(clock.timestamp(now)), LastSweep.failed.set(list(failed))]
    LastSweep(LastSweep.KIND, LastSweep.NAME).update(actions=actions)
    if failed:
        cache.delete(_NOTED)
    else:
        cache.set(_NOTED, now, None)
