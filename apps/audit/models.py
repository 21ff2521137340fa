"""The records of the audit trail."""

from pynamodb.attributes import UnicodeAttribute
from pynamodb.indexes import GlobalSecondaryIndex, KeysOnlyProjection

from controlplane.nosql.record import CompactJSONAttribute, Record, table_name


class ByTarget(GlobalSecondaryIndex["AuditRecord"]):
    """The audit events of one target. The index contains only events with `about`."""

    class Meta:
        index_name = "by_target"
        projection = KeysOnlyProjection()

    about = UnicodeAttribute(hash_key=True)
    entry = UnicodeAttribute(range_key=True)


class AuditRecord(Record):
    """An audit event: which actor did what to which target, when, and with which result.

    It is written once, in the transaction of the change itself, and never changed. A day is a partition. Within it
    `entry` (``time#ulid``) sorts by time. The ULID keeps events of the same microsecond distinct.
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
    detail = CompactJSONAttribute(null=True)
    # A copy of the target, if the index contains the event: see `apps.audit.services`.
    about = UnicodeAttribute(null=True)

    by_target = ByTarget()

    @property
    def at(self) -> str:
        """The time of the event, as `controlplane.lib.clock.timestamp` writes it."""
        return self.entry.partition("#")[0]
