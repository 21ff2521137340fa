"""Adding to the outbox what is to be done after an act, in the act's own transaction.

`outbox_work` does it later: at least once, in order for each key. What an item says was true when it was added. So its
handler may meet a later state, and must bear to be called twice with the same item.
"""

import secrets
from collections.abc import Mapping
from contextlib import suppress
from datetime import timedelta
from typing import Any

from apps.audit.actions import Action
from apps.audit.services import audit_add
from apps.notifications.models import OutboxItem
from apps.notifications.policies import notifications_manage_require
from apps.notifications.selectors.outbox import failed_get, key_shard, new_entry, shard_place
from apps.notifications.states import Topic
from controlplane.lib import clock
from controlplane.lib.actor import Actor
from controlplane.lib.errors import RetryLater as RetryLater
from controlplane.nosql.record import compact_json
from controlplane.nosql.transaction import Transaction, TransactionFailed

# So long an item is tried. After that it is in the list of failed items.
RETRY_FOR = timedelta(hours=24)
FACT_BYTES = 2048
KEY_CHARACTERS = 512


def outbox_add(
    transaction: Transaction, *, topic: Topic, key: str, fact: Mapping[str, Any], label: str = "outbox"
) -> None:
    """Add an item to the transaction of an act: one new row, under the label.

    `key` orders: items of one key are worked off one after the other, in the order in which they were added. `fact` is
    at most 2 KB of JSON without secrets. Raises ValueError for what is longer.
    """
    transaction.put(label, item_new(topic=topic, key=key, fact=fact))


def outbox_retry(*, actor: Actor, item_id: str) -> None:
    """Try a failed item again, for 24 hours, after what waits for its key. Raises Forbidden, NotFound."""
    notifications_manage_require(actor)
    item = failed_get(item_id)
    transaction = Transaction()
    transaction.delete("failed", item)
    transaction.put("outbox", item_new(topic=Topic(item.topic), key=str(item.key), fact=item.fact))
    audit_add(
        transaction,
        actor=actor,
        action=Action.OUTBOX_ITEM_RETRIED,
        target=f"outbox_item:{item_id}",
        detail={"topic": str(item.topic), "key": str(item.key)},
    )
    # Another request has done it at the same moment.
    with suppress(TransactionFailed):
        transaction.commit()


def item_new(*, topic: Topic, key: str, fact: Mapping[str, Any]) -> OutboxItem:
    """A new item, not yet written. Raises ValueError for what is longer than an item may be."""
    size = len(compact_json(dict(fact)).encode())
    if size > FACT_BYTES or not 0 < len(key) <= KEY_CHARACTERS:
        raise ValueError(f"the item {topic} {key[:100]} has {size} bytes, or its key is too long")
    now = clock.now()
    return OutboxItem(
        shard_place(key_shard(key)),
        new_entry(now, secrets.token_hex(6)),
        topic=topic,
        key=key,
        fact=dict(fact),
        created_at=clock.timestamp(now),
    )
