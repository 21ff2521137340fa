"""Working off the outbox: at least once, in order for each key, and several keys at the same time.

A worker owns the lane of a key for a minute. It gives the items of the key, one after the other, to the function of
their topic, and deletes each that is done. A process that ends in between leaves the lane to the next one after that
minute, which does the first item again.
"""

import contextvars
import logging
import random
import secrets
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import datetime, timedelta
from typing import Any

from apps.notifications.models import LANE, NEW, OutboxItem, OutboxLane
from apps.notifications.selectors.outbox import (
    SHARDS,
    failed_key,
    key_place,
    key_shard,
    lane_items,
    outbox_due,
    shard_place,
)
from apps.notifications.services.outbox import RETRY_FOR, RetryLater
from controlplane.lib import clock
from controlplane.lib.batches import batched
from controlplane.lib.errors import ApplicationError, Unavailable
from controlplane.nosql.connection import ConditionFailed
from controlplane.nosql.transaction import Transaction, TransactionFailed

logger = logging.getLogger(__name__)

Handler = Callable[[OutboxItem], None]

# So long a failed item is in the list.
FAILED_KEPT = timedelta(days=30)
# An item whose handler fails other than for its surroundings is given up after so many attempts.
ATTEMPTS_WITH_FAULTS = 5
# A worker owns a lane for this long, and takes no new item after half of it. A handler must end within the other half.
LEASE = timedelta(seconds=60)
_WORK_SECONDS = 30.0
_FIRST_PAUSE, _LONGEST_PAUSE = timedelta(seconds=10), timedelta(minutes=15)
# How many keys are worked off at the same time, so that a slow receiver does not keep the others back.
_AT_ONCE = 8
# A transaction has up to 100 operations: two for each item and one for each key.
_BATCH = 30
_ITEMS_AT_ONCE = 25
_PROBLEM_CHARACTERS = 300


def outbox_run(handlers: Mapping[str, Handler], *, seconds: float) -> int:
    """Work off what is due, for at most so many seconds and one item of each key. Returns how many items are done.

    `handlers` has a function for each topic. It returns when the item is done, raises RetryLater or Unavailable to be
    called again after a pause, for up to 24 hours, and is called again up to five times if it raises anything else.
    Then the item is in the list of failed items, and the next one of its key follows. Raises Unavailable.
    """
    until = time.monotonic() + min(seconds, _WORK_SECONDS)
    done = 0
    # What is done may add what is to be done next.
    while keys := _due_keys():
        with ThreadPoolExecutor(min(_AT_ONCE, len(keys))) as pool:
            # The notes of this work are also those of its threads.
            works = [pool.submit(contextvars.copy_context().run, _lane_work, key, handlers, until) for key in keys]
            count = sum(work.result() for work in works)
        done += count
        if not count or time.monotonic() >= until:
            break
    return done


def _due_keys() -> list[str]:
    """The keys that are due, the longest waiting first, after the new items were moved to their keys."""
    now = clock.now()
    due: dict[str, str] = {}
    for shard in range(SHARDS):
        lanes, new = outbox_due(shard, now)
        due.update((lane.key, str(lane.due_at)) for lane in lanes)
        for batch in batched(new, _BATCH):
            _items_sort(batch, now)
            for item in batch:
                due.setdefault(str(item.key), str(item.created_at))
    return sorted(due, key=lambda key: due[key])


def _items_sort(items: Sequence[OutboxItem], now: datetime) -> None:
    """Move new items of a shard to the partitions of their keys, and count them in their lanes."""
    transaction = Transaction()
    counts: dict[str, int] = {}
    for item in items:
        key, entry = str(item.key), str(item.entry)
        counts[key] = counts.get(key, 0) + 1
        members = {**item.attribute_values, "place": key_place(key), "entry": entry.removeprefix(NEW)}
        transaction.delete(f"new {entry}", item)
        transaction.put(f"item {entry}", OutboxItem(**members))
    for key, count in counts.items():
        transaction.update(
            f"lane {key}",
            _lane_of(key),
            actions=[OutboxLane.added.add(count), OutboxLane.due_at.set(OutboxLane.due_at | clock.timestamp(now))],
        )
    # Another worker has moved some of them, and the next call moves the others.
    with suppress(TransactionFailed):
        transaction.commit()


def _lane_of(key: str) -> OutboxLane:
    return OutboxLane(shard_place(key_shard(key)), f"{LANE}{key}")


def _lane_work(key: str, handlers: Mapping[str, Handler], until: float) -> int:
    """Work off the items of a key, if this process gets its lane. Returns how many are done."""
    if time.monotonic() >= until:
        return 0
    try:
        lane = _Lane.take(key)
        return lane.work(handlers, until) if lane else 0
    except Unavailable as error:
        # DynamoDB itself. The lane is free again when its lease has ended.
        logger.warning("The outbox does not get on with %s: %s", key, error.message)
        return 0


class _Lane:
    """A lane that this process owns."""

    def __init__(self, record: OutboxLane) -> None:
        self.record = record
        self.key = record.key
        self.failures = int(record.failures or 0)

    @property
    def _owned(self) -> Any:
        return OutboxLane.owner == self.record.owner

    @classmethod
    def take(cls, key: str) -> "_Lane | None":
        """Own the lane, if it is due and no other process does."""
        record, now = _lane_of(key), clock.now()
        text = clock.timestamp(now)
        is_free = OutboxLane.owned_until.does_not_exist() | (OutboxLane.owned_until < text)
        try:
            record.update(
                actions=[
                    OutboxLane.owner.set(secrets.token_hex(8)),
                    OutboxLane.owned_until.set(clock.timestamp(now + LEASE)),
                ],
                condition=(OutboxLane.due_at <= text) & is_free,
            )
        except ConditionFailed:
            return None
        return cls(record)

    def work(self, handlers: Mapping[str, Handler], until: float) -> int:
        """Do the items in their order, until one has to wait or the time is over. Returns how many are done."""
        done = 0
        while True:
            items = lane_items(self.key, limit=_ITEMS_AT_ONCE)
            if not items:
                if self._close():
                    return done
                continue
            for item in items:
                if done and time.monotonic() >= until:
                    self._free(due=clock.now(), problem=None)
                    return done
                failure = _failure(item, handlers)
                if failure is None:
                    item.delete()
                    done += 1
                elif not self._failed(item, failure):
                    return done
                self.failures = 0

    def _close(self) -> bool:
        """Give up the lane, which has no items. False if one was added since it was read."""
        try:
            self.record.delete(condition=self._owned & (OutboxLane.added == self.record.added))
        except ConditionFailed:
            return not self._read_again()
        return True

    def _read_again(self) -> bool:
        """Read the lane again by renewing its lease. False if this process was slower than that."""
        until = clock.timestamp(clock.now() + LEASE)
        try:
            self.record.update(actions=[OutboxLane.owned_until.set(until)], condition=self._owned)
        except ConditionFailed:
            return False
        return True

    def _failed(self, item: OutboxItem, failure: Exception) -> bool:
        """Note that the item has failed. True if it is given up, so that the next one follows."""
        self.failures += 1
        now, problem = clock.now(), _problem(failure)
        is_over = now - clock.parse_timestamp(item.created_at) >= RETRY_FOR
        if is_over or (self.failures >= ATTEMPTS_WITH_FAULTS and not isinstance(failure, Unavailable)):
            logger.error("The outbox gives up %s of %s: %s", item.topic, self.key, problem)
            _give_up(item, attempts=self.failures, problem=problem, now=now)
            return True
        pause = _pause(self.failures, failure)
        logger.warning("The outbox tries %s of %s again in %d s: %s", item.topic, self.key, pause.seconds, problem)
        self._free(due=now + pause, problem=problem)
        return False

    def _free(self, *, due: datetime, problem: str | None) -> None:
        """Free the lane for the next worker, at this time."""
        actions: list[Any] = [
            OutboxLane.due_at.set(clock.timestamp(due)),
            OutboxLane.owner.remove(),
            OutboxLane.owned_until.remove(),
        ]
        if problem:
            actions += [OutboxLane.failures.set(self.failures), OutboxLane.problem.set(problem)]
        else:
            actions += [OutboxLane.failures.remove(), OutboxLane.problem.remove()]
        with suppress(ConditionFailed):
            self.record.update(actions=actions, condition=self._owned)


def _failure(item: OutboxItem, handlers: Mapping[str, Handler]) -> Exception | None:
    """Have the item done. Returns what went wrong, or None."""
    try:
        handlers[str(item.topic)](item)
    except ApplicationError as error:
        return error
    except Exception as error:
        # One that we cannot handle must not keep other keys back.
        logger.exception("The outbox fails with %s of %s", item.topic, item.key)
        return error
    return None


def _problem(failure: Exception) -> str:
    """What went wrong. Only our own errors are known to have no secret in their texts."""
    text = (
        failure.message
        if isinstance(failure, ApplicationError)
        else f"an error in this program: {type(failure).__name__}"
    )
    return text[:_PROBLEM_CHARACTERS]


def _pause(failures: int, failure: Exception) -> timedelta:
    """How long to wait after so many failures in a row."""
    if isinstance(failure, RetryLater) and failure.seconds is not None:
        return timedelta(seconds=failure.seconds)
    # Above that the power would be a large number.
    longest: timedelta = min(_FIRST_PAUSE * 2 ** min(failures - 1, 10), _LONGEST_PAUSE)
    return longest * random.uniform(0.5, 1)  # noqa: S311 — jitter, no secret


def _give_up(item: OutboxItem, *, attempts: int, problem: str, now: datetime) -> None:
    """Move the item to the list of failed ones."""
    place, entry = failed_key(str(item.entry), now)
    members = {
        **item.attribute_values,
        "place": place,
        "entry": entry,
        "attempts": attempts,
        "problem": problem,
        "failed_at": clock.timestamp(now),
        "expires_at": now + FAILED_KEPT,
    }
    transaction = Transaction()
    transaction.delete("item", item)
    transaction.put("failed", OutboxItem(**members))
    # Another process, whose lease it is now, was faster.
    with suppress(TransactionFailed):
        transaction.commit()
