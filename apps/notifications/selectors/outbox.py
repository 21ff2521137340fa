"""Reading the outbox. All reads are consistent."""

import hashlib
import re
from collections.abc import Iterator
from datetime import datetime, timedelta

from apps.notifications.models import LANE, NEW, OutboxItem, OutboxLane
from controlplane.lib import clock
from controlplane.lib.error_codes import ErrorCode
from controlplane.lib.errors import NotFound
from controlplane.nosql.listing import Listing

__all__ = [
    "SHARDS",
    "OutboxItem",
    "OutboxLane",
    "failed_get",
    "failed_items",
    "failed_key",
    "failed_partition",
    "key_place",
    "lane_items",
    "outbox_due",
    "shard_place",
]

# Each is one query of each sweep. A partition takes a thousand writes a second.
SHARDS = 4
_FAILED_ID = re.compile(r"[0-9]{4}-[0-9]{2}\.[0-9TZ:.-]{27}-[0-9a-f]{12}")
# So many new items of a shard are moved to their keys at once.
_NEW_AT_ONCE = 1_000
# How many failed items the list shows.
_FAILED_SHOWN = 200


def shard_place(shard: int) -> str:
    """The partition of a shard."""
    return f"work#{shard}"


def key_shard(key: str) -> int:
    """The shard of a key."""
    return hashlib.sha256(key.encode()).digest()[0] % SHARDS


def key_place(key: str) -> str:
    """The partition of the items of a key."""
    return f"key#{key}"


def failed_key(entry: str, moment: datetime) -> tuple[str, str]:
    """The key of an item with this entry that is given up at the time."""
    item_id = f"{moment:%Y-%m}.{entry}"
    return failed_partition(item_id), item_id


def failed_partition(item_id: str) -> str:
    """The partition of the failed item with this id: that of all items that were given up in the month."""
    return f"failed#{item_id.partition('.')[0]}"


def outbox_due(shard: int, now: datetime) -> tuple[list[OutboxLane], list[OutboxItem]]:
    """The lanes of the shard that are due, and its first new items. One query for each megabyte of rows, due or not."""
    lanes: list[OutboxLane] = []
    new: list[OutboxItem] = []
    due = (OutboxLane.due_at <= clock.timestamp(now)) | OutboxLane.due_at.does_not_exist()
    for row in OutboxLane.stored_items(shard_place(shard), keep=due):
        if row["entry"]["S"].startswith(LANE):
            lanes.append(OutboxLane.from_raw_data(row))
        else:
            new.append(OutboxItem.from_raw_data(row))
            if len(new) == _NEW_AT_ONCE:
                break
    return lanes, new


def lane_items(key: str, *, limit: int) -> list[OutboxItem]:
    """The first items of a key, in their order."""
    return list(OutboxItem.query(key_place(key), limit=limit, page_size=limit, consistent_read=True))


def failed_items(now: datetime) -> Iterator[OutboxItem]:
    """The items that were given up in this month and the last one, the newest first: at most 200 of each."""
    for place in _failed_months(now):
        yield from OutboxItem.query(place, limit=_FAILED_SHOWN, scan_index_forward=False, consistent_read=True)


def _failed_months(now: datetime) -> list[str]:
    last_month = now.replace(day=1) - timedelta(days=1)
    return [failed_partition(f"{moment:%Y-%m}") for moment in (now, last_month)]


FAILED = Listing(OutboxItem, None, lambda _asked: _failed_months(clock.now()), descending=True)


def failed_get(item_id: str) -> OutboxItem:
    """The failed item with this id. Raises NotFound with the code ``outbox_item_not_found``."""
    item = OutboxItem.find(failed_partition(item_id), item_id) if _FAILED_ID.fullmatch(item_id) else None
    if item is None or item.expires_at <= clock.now():
        raise NotFound("There is no such failed item.", code=ErrorCode.OUTBOX_ITEM_NOT_FOUND)
    return item


def new_entry(moment: datetime, ending: str) -> str:
    """The range key of a new item in its shard."""
    return f"{NEW}{clock.timestamp(moment)}-{ending}"
