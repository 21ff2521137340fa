"""The records of the audit trail."""

from pynamodb.attributes import JSONAttribute, UnicodeAttribute
from pynamodb.indexes import GlobalSecondaryIndex, KeysOnlyProjection

from controlplane.nosql.record import Record, table_name


class ByTarget(GlobalSecondaryIndex["AuditRecord"]):
    """The events of one target. Only events that have `about` are in it."""

    class Meta:
        index_name = "by_target"
        projection = KeysOnlyProjection()

    about = UnicodeAttribute(hash_key=True)
    entry = UnicodeAttribute(range_key=True)


class AuditRecord(Record):
    """An audit event: which actor did what to which target, when, and with which result.

    It is written once, in the transaction of the change itself, and never changed. A day is a partition. Within it
    `entry` (``time#ulid``) sorts by time and tells events of the same microsecond apart.
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
    # The target again, if its history is read from the index: see `apps.audit.services`.
    about = UnicodeAttribute(null=True)

    by_target = ByTarget()

    @property
    def at(self) -> str:
        """When it happened, as `controlplane.lib.clock.timestamp` writes it."""
        return self.entry.partition("#")[0]
