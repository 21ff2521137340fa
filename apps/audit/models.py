"""What the trail is made of."""

from pynamodb.attributes import JSONAttribute, UnicodeAttribute
from pynamodb.indexes import GlobalSecondaryIndex, KeysOnlyProjection

from controlplane.nosql.record import Record, table_name


class ByTarget(GlobalSecondaryIndex["AuditRecord"]):
    """What was done to one thing. Only acts that have `about` are in it."""

    class Meta:
        index_name = "by_target"
        projection = KeysOnlyProjection()

    about = UnicodeAttribute(hash_key=True)
    entry = UnicodeAttribute(range_key=True)


class AuditRecord(Record):
    """One act: who did what, on what, when, and how it ended. Written once, with the act, and never changed.

    A day is a partition; within it `entry` (``time#ulid``) sorts by time and keeps acts of one microsecond apart.
    """

    class Meta(Record.Meta):
        table_name = table_name("audit")

    day = UnicodeAttribute(hash_key=True)
    entry = UnicodeAttribute(range_key=True)
    actor_kind = UnicodeAttribute()
    actor_id = UnicodeAttribute()
    actor_name = UnicodeAttribute()
    action = UnicodeAttribute()
    target = UnicodeAttribute()
    result = UnicodeAttribute()
    detail = JSONAttribute(null=True)
    # The target again, when its history is read from the index: see `apps.audit.services`.
    about = UnicodeAttribute(null=True)

    by_target = ByTarget()

    @property
    def at(self) -> str:
        """When it happened, as `controlplane.lib.clock.timestamp` writes it."""
        return self.entry.partition("#")[0]
