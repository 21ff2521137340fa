"""The record of a message to one target, with its attempts."""

from typing import Any

from pynamodb.attributes import NumberAttribute, TTLAttribute, UnicodeAttribute
from pynamodb.indexes import GlobalSecondaryIndex, KeysOnlyProjection

from controlplane.nosql.record import CompactJSONAttribute, Record, table_name


class DeliveriesByDay(GlobalSecondaryIndex["Delivery"]):
    """All deliveries by their day of creation. No update of a delivery writes to it."""

    class Meta:
        index_name = "by_day"
        projection = KeysOnlyProjection()

    created_day = UnicodeAttribute(hash_key=True)
    delivery_id = UnicodeAttribute(range_key=True)


class Delivery(Record):
    """A message to one target. Its id is a ULID, a point, and the target: it sorts by time, and tells the partition."""

    class Meta(Record.Meta):
        table_name = table_name("notification-deliveries")

    target_id = UnicodeAttribute(hash_key=True)
    delivery_id = UnicodeAttribute(range_key=True)
    target_name = UnicodeAttribute()
    # What the target knows the message by: a repeated one has the same.
    message_id = UnicodeAttribute()
    # What `apps.notifications.senders.Message.as_json` returns.
    message: Any = CompactJSONAttribute()
    # `apps.notifications.states.DeliveryState`.
    state = UnicodeAttribute()
    # The newest attempts: ``[{"at", "milliseconds", "status", "problem", "excerpt"}]``; and how many there were.
    attempts: Any = CompactJSONAttribute(null=True)
    attempt_count = NumberAttribute(default=0)
    # Why it is tried no more, where no attempt says it.
    reason = UnicodeAttribute(null=True)
    # Who asked for it; null: a rule did.
    requested_by = UnicodeAttribute(null=True)
    created_at = UnicodeAttribute()
    created_day = UnicodeAttribute()
    ended_at = UnicodeAttribute(null=True)
    expires_at = TTLAttribute()

    by_day = DeliveriesByDay()
