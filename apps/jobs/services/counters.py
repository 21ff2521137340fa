"""Counting jobs in the transactions that create and end them."""

import random
from datetime import datetime
from typing import Any

from apps.jobs.models import DayCounter
from apps.jobs.states import FINAL, Status
from controlplane.lib import clock
from controlplane.nosql.transaction import Transaction

# Transactions on the same item conflict. Eight counters for each day keep that rare at hundreds of jobs a second.
_SHARES = 8


def counter_add(transaction: Transaction, *, status: Status, moment: datetime | None = None, number: int = 1) -> None:
    """Count `number` jobs: as created when `status` is queued or waiting, else under the status with which it ended.

    They count for the day of `moment` (in UTC), by default now. Lists look for jobs on the days with a created job, so
    a creation counts for the day in the job's own id.
    """
    name = status.value if status in FINAL else "created"
    transaction.update("counter", _share(moment or clock.now()), actions=[_add(name, number)])


def counter_replace(transaction: Transaction, *, before: Status, ended_at: datetime, after: Status) -> None:
    """Count a job that has ended as `after` now, and no longer as `before` on the day of `ended_at`."""
    now = clock.now()
    if ended_at.date() != now.date():
        transaction.update("counter-before", _share(ended_at), actions=[_add(before.value, -1)])
        transaction.update("counter", _share(now), actions=[_add(after.value, 1)])
    elif before != after:
        transaction.update("counter", _share(now), actions=[_add(before.value, -1), _add(after.value, 1)])


def _share(day: datetime) -> DayCounter:
    return DayCounter(year=day.strftime("%Y"), day_share=f"{day:%m-%d}#{random.randrange(_SHARES)}")  # noqa: S311


def _add(name: str, number: int) -> Any:
    return getattr(DayCounter, name).add(number)
