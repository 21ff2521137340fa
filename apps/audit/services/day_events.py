"""Counting the events of a day as they are sealed, which reads each event once and is exactly once."""

from collections.abc import Sequence
from datetime import timedelta

from apps.audit.canonical import Item
from apps.audit.models import DayEvents
from controlplane.lib import clock
from controlplane.nosql.transaction import Transaction

# The kinds of actors that are users.
_USERS = ("user", "token")


def day_events_add(transaction: Transaction, items: Sequence[Item]) -> None:
    """Add the stored events to the counters of their days: of today and yesterday, since pages show no others.

    So the transaction has at most two operations more, also for the first seal of an old trail.
    """
    first = f"{clock.now() - timedelta(days=1):%Y-%m-%d}"
    counted: dict[str, DayEvents] = {}
    for item in items:
        day = item["entry"]["S"][:10]
        if day >= first:
            count = counted.setdefault(day, DayEvents(DayEvents.KIND, day))
            count.events += 1
            count.of_users += item["actor_kind"]["S"] in _USERS
    for count in counted.values():
        added = [DayEvents.events.add(int(count.events)), DayEvents.of_users.add(int(count.of_users))]
        transaction.update("day", count, actions=added)
