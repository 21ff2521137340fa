"""Counting jobs in the transactions that create and end them."""

import random
from datetime import datetime

from apps.jobs.models import DayCounter
from apps.jobs.states import FINAL, Status
from controlplane.lib import clock
from controlplane.nosql.transaction import Transaction

# Transactions on the same item conflict. Eight counters for each day keep that rare at hundreds of jobs a second.
_SHARES = 8


def counter_add(transaction: Transaction, *, status: Status, moment: datetime | None = None) -> None:
    """Count one job: as created when `status` is queued or waiting, else under the status with which it ended.

    It counts for the day of `moment` (in UTC), by default now. Lists look for jobs on the days with a created job, so a
    creation counts for the day in the job's own id.
    """
    day = moment or clock.now()
    name = status.value if status in FINAL else "created"
    share = DayCounter(year=day.strftime("%Y"), day_share=f"{day:%m-%d}#{random.randrange(_SHARES)}")  # noqa: S311
    transaction.update("counter", share, actions=[getattr(DayCounter, name).add(1)])
