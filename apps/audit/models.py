"""The records of the audit trail."""

from typing import TYPE_CHECKING, Any, Self

from pynamodb.attributes import BinaryAttribute, NumberAttribute, TTLAttribute, UnicodeAttribute
from pynamodb.indexes import GlobalSecondaryIndex, KeysOnlyProjection

from controlplane.nosql.record import CompactJSONAttribute, Record, table_name

if TYPE_CHECKING:
    from apps.audit.canonical import Item

# A key of DynamoDB takes 1,000 write units a second. So many keys together take 4,000 events of the table, which cost
# two units each, and 8,000 entries of an index.
SHARDS = 8

# The id of actors and targets that are known only as a crowd, such as people who failed to sign in.
UNKNOWN = "unknown"


class ByTarget(GlobalSecondaryIndex["AuditRecord"]):
    """The audit events of one target."""

    class Meta:
        index_name = "by_target"
        projection = KeysOnlyProjection()

    about = UnicodeAttribute(hash_key=True)
    entry = UnicodeAttribute(range_key=True)


class ByActor(GlobalSecondaryIndex["AuditRecord"]):
    """The audit events of one principal."""

    class Meta:
        index_name = "by_actor"
        projection = KeysOnlyProjection()

    actor_key = UnicodeAttribute(hash_key=True)
    entry = UnicodeAttribute(range_key=True)


class ByAction(GlobalSecondaryIndex["AuditRecord"]):
    """The audit events of one action. Each action is split."""

    class Meta:
        index_name = "by_action"
        projection = KeysOnlyProjection()

    action_key = UnicodeAttribute(hash_key=True)
    entry = UnicodeAttribute(range_key=True)


class AuditRecord(Record):
    """An audit event: which actor did what to which target, when, from where, and with which result.

    It is written once, in the transaction of the change itself, and never changed. A day is split into SHARDS
    partitions (`shard_key`). Within them `entry` sorts by time: ``time#ulid``, and ``time#ulid#shard`` in all shards
    but the first, so that an entry alone leads to its partition. The ULID keeps events of the same microsecond
    distinct. Events of earlier versions are all in the first shard.
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
    # The client's IP address, the public id of the session, and the id of the request. Older events have none.
    address = UnicodeAttribute(null=True)
    session = UnicodeAttribute(null=True)
    request_id = UnicodeAttribute(null=True)
    # When DynamoDB deletes the event, by the setting AUDIT_RETENTION as it was then. Null: never.
    expires_at = TTLAttribute(null=True)
    # The keys of the indexes. Events of earlier versions have at most the first, and not for all targets.
    about = UnicodeAttribute(null=True)
    actor_key = UnicodeAttribute(null=True)
    action_key = UnicodeAttribute(null=True)

    by_target = ByTarget()
    by_actor = ByActor()
    by_action = ByAction()

    # The item as it is stored, with attributes of later versions, for `canonical_record`. None if it was not read.
    stored: "Item | None" = None

    @classmethod
    def from_raw_data(cls, data: dict[str, Any]) -> Self:
        record = super().from_raw_data(data)
        record.stored = data
        return record

    @property
    def at(self) -> str:
        """The time of the event, as `controlplane.lib.clock.timestamp` writes it."""
        return self.entry.partition("#")[0]

    @property
    def principal(self) -> str:
        """The actor as `principal_of` names it: for an event of an API token, the token's owner."""
        return (self.actor_key or f"{self.actor_kind}:{self.actor_id}").partition("#")[0]


class ExportState(Record):
    """How far the trail was sent to a target of the continuous export: up to a part of a seal's events.

    One process at a time sends: the one that has claimed the target, for some seconds.
    """

    class Meta(Record.Meta):
        table_name = table_name("audit-tasks")

    KIND = "export"

    kind = UnicodeAttribute(hash_key=True)
    target = UnicodeAttribute(range_key=True, attr_name="name")
    # The next seal to send, and the first of its events that was not sent yet.
    seal = NumberAttribute(default=1)
    part = NumberAttribute(default=0)
    claimed_until = UnicodeAttribute(null=True)
    sent_at = UnicodeAttribute(null=True)
    # While the target fails: since when, how often, what it said, and when it is tried again.
    failing_since = UnicodeAttribute(null=True)
    failures = NumberAttribute(null=True)
    problem = UnicodeAttribute(null=True)
    retry_at = UnicodeAttribute(null=True)


class DayEvents(Record):
    """How many events of a day are sealed, and how many of them are acts of users, themselves or by API tokens."""

    class Meta(Record.Meta):
        table_name = table_name("audit-tasks")

    KIND = "day"

    kind = UnicodeAttribute(hash_key=True)
    # ``2026-11-27``, in UTC.
    day = UnicodeAttribute(range_key=True, attr_name="name")
    events = NumberAttribute(default=0)
    of_users = NumberAttribute(default=0)


class Hold(Record):
    """A legal hold: events of a target, an actor or a time, of which copies stay when they expire."""

    class Meta(Record.Meta):
        table_name = table_name("audit-tasks")

    KIND = "hold"

    kind = UnicodeAttribute(hash_key=True)
    hold_id = UnicodeAttribute(range_key=True, attr_name="name")
    reason = UnicodeAttribute()
    # What it holds: as `TrailSearch`, and places in the trail. Null means any.
    of_actor = UnicodeAttribute(null=True)
    of_target = UnicodeAttribute(null=True)
    of_action = UnicodeAttribute(null=True)
    since = UnicodeAttribute(null=True)
    until = UnicodeAttribute(null=True)
    placed_by = UnicodeAttribute()
    placed_at = UnicodeAttribute()
    released_by = UnicodeAttribute(null=True)
    released_at = UnicodeAttribute(null=True)
    # The place in the trail up to which expiring events are copied, and how many there are.
    place = UnicodeAttribute()
    copies = NumberAttribute(default=0)


class HeldEvents(Record):
    """Copies of events under a hold: their canonical lines, compressed. It is written once and never expires."""

    class Meta(Record.Meta):
        table_name = table_name("audit")

    # ``held#<hold_id>``
    day = UnicodeAttribute(hash_key=True)
    # The entry of the first event in it.
    entry = UnicodeAttribute(range_key=True)
    lines = BinaryAttribute(legacy_encoding=False)


def held_partition(hold_id: str) -> str:
    """The partition of the copies of a hold."""
    return f"held#{hold_id}"


def principal_of(kind: str, actor_id: str, owner_id: str | None = None) -> str:
    """The key under which an actor's events are found (``kind:id``): an API token's are with those of its owner."""
    return f"user:{owner_id}" if owner_id else f"{kind}:{actor_id}"


def shard_key(key: str, shard: int) -> str:
    """The key of a shard. The first shard has the key itself."""
    return f"{key}#{shard}" if shard else key


def shard_keys(key: str) -> tuple[str, ...]:
    """The keys of all shards of a split key, in their order."""
    return tuple(shard_key(key, shard) for shard in range(SHARDS))


def is_crowd(key: str) -> bool:
    """Whether an index splits this principal or target: any number of acts can concern it at the same time.

    The system acts in all regions, and strangers choose the address with which they fail to sign in.
    """
    kind, _, identifier = key.partition(":")
    return kind in ("email", "system") or identifier == UNKNOWN


def entry_partition(entry: str) -> str:
    """The partition (`AuditRecord.day`) of an event with this `entry`."""
    shard = entry.partition("#")[2].partition("#")[2]
    return shard_key(entry[:10], int(shard) if shard.isdecimal() else 0)


class SealRecord(Record):
    """A seal (`apps.audit.seals`). It is written once, under the next number, and never changed.

    `edge` and `consistency` are hashes in a row.
    """

    class Meta(Record.Meta):
        table_name = table_name("audit-seals")

    PART = "seal"

    part = UnicodeAttribute(hash_key=True)
    place = UnicodeAttribute(range_key=True)
    statement = UnicodeAttribute()
    signature = BinaryAttribute(legacy_encoding=False)
    edge = BinaryAttribute(legacy_encoding=False)
    consistency = BinaryAttribute(legacy_encoding=False, null=True)


class SealLeaves(Record):
    """The leaves of a seal, in their order: their lines (`Leaves.lines`), compressed, and the hashes in a row."""

    class Meta(Record.Meta):
        table_name = table_name("audit-seals")

    PART = "leaves"

    part = UnicodeAttribute(hash_key=True)
    place = UnicodeAttribute(range_key=True)
    entries = BinaryAttribute(legacy_encoding=False)
    hashes = BinaryAttribute(legacy_encoding=False)


class SealKey(Record):
    """A public key that has signed seals, under its digest, so that older seals can be checked after a rotation."""

    class Meta(Record.Meta):
        table_name = table_name("audit-seals")

    PART = "key"

    part = UnicodeAttribute(hash_key=True)
    place = UnicodeAttribute(range_key=True)
    pem = UnicodeAttribute()


def seal_place(number: int) -> str:
    """The range key of a seal and of its leaves. These texts sort by number."""
    return f"{number:010d}"
