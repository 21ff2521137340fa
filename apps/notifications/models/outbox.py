"""The records of the outbox: what is to be done outside of DynamoDB after an act, in order for each key.

An act puts one new item into a shard, which no other writer touches. The worker moves it into the partition of its key,
and counts it in the lane of that key: a small row in the shard, which says when the key is due and who works on it. So
what waits for a key that fails costs the others nothing. See docs/decisions/0052.
"""

from typing import Any

from pynamodb.attributes import NumberAttribute, TTLAttribute, UnicodeAttribute

from controlplane.nosql.record import CompactJSONAttribute, Record, table_name

# How the range keys of a shard begin. Lanes come first.
LANE = "lane#"
NEW = "new#"


class OutboxItem(Record):
    """One thing to do. It is new in a shard, then in the partition of its key, or in that of failed items."""

    class Meta(Record.Meta):
        table_name = table_name("outbox")

    # ``work#<shard>``, ``key#<key>``, or ``failed#<year>-<month>``.
    place = UnicodeAttribute(hash_key=True)
    # The time of its creation and a random end, so that the items of a key sort by time. Before it, in a shard,
    # ``new#``; of a failed item, the month and a point, so that its key tells its partition.
    entry = UnicodeAttribute(range_key=True)
    # `apps.notifications.states.Topic`.
    topic = UnicodeAttribute()
    key = UnicodeAttribute()
    fact: Any = CompactJSONAttribute()
    created_at = UnicodeAttribute()
    # Of a failed item: how often it was tried, the last reason, and when it was given up.
    attempts = NumberAttribute(null=True)
    problem = UnicodeAttribute(null=True)
    failed_at = UnicodeAttribute(null=True)
    expires_at = TTLAttribute(null=True)


class OutboxLane(Record):
    """A key with items: when it is due, and which worker has it."""

    class Meta(Record.Meta):
        table_name = table_name("outbox")

    # ``work#<shard>``
    place = UnicodeAttribute(hash_key=True)
    # ``lane#<key>``
    entry = UnicodeAttribute(range_key=True)
    due_at = UnicodeAttribute()
    # Counts the items that were added; a lane is deleted only if none was since its partition was read.
    added = NumberAttribute(default=0)
    owner = UnicodeAttribute(null=True)
    owned_until = UnicodeAttribute(null=True)
    # How often its first item has failed, and the last reason.
    failures = NumberAttribute(null=True)
    problem = UnicodeAttribute(null=True)

    @property
    def key(self) -> str:
        """The key of its items."""
        return str(self.entry).removeprefix(LANE)
