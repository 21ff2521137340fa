"""The record of a webhook that a provider has delivered and signed."""

from pynamodb.attributes import BooleanAttribute, NumberAttribute, TTLAttribute, UnicodeAttribute
from pynamodb.indexes import GlobalSecondaryIndex, KeysOnlyProjection

from controlplane.nosql.record import CompactJSONAttribute, Record, table_name

# The value of `due`, and so the only partition of that index. What is worked off leaves it.
DUE = "due"


class DeliveriesByMonth(GlobalSecondaryIndex["Delivery"]):
    """The deliveries of a connection by their arrival, a partition for each month."""

    class Meta:
        index_name = "by_month"
        projection = KeysOnlyProjection()

    month = UnicodeAttribute(hash_key=True)
    received_at = UnicodeAttribute(range_key=True)


class DeliveriesByTrouble(GlobalSecondaryIndex["Delivery"]):
    """Those of them that were refused or have failed."""

    class Meta:
        index_name = "by_trouble"
        projection = KeysOnlyProjection()

    trouble = UnicodeAttribute(hash_key=True)
    received_at = UnicodeAttribute(range_key=True)


class DeliveriesByDue(GlobalSecondaryIndex["Delivery"]):
    """What is still to be worked off."""

    class Meta:
        index_name = "by_due"
        projection = KeysOnlyProjection()

    due = UnicodeAttribute(hash_key=True)
    due_at = UnicodeAttribute(range_key=True)


class Delivery(Record):
    """A delivery, with what it says in the form of `interface.SourceEvent`. The body itself is not stored."""

    class Meta(Record.Meta):
        table_name = table_name("source-events")

    # A digest of the connection and the provider's id of the delivery, so that a repetition has the same.
    event_id = UnicodeAttribute(hash_key=True)
    connection_id = UnicodeAttribute()
    provider = UnicodeAttribute()
    delivery_id = UnicodeAttribute()
    # The provider's word, such as pull_request.
    kind = UnicodeAttribute()
    # JSON of `interface.event_as_json`. Empty if nothing of it matters.
    events = CompactJSONAttribute()
    # For lists: the repository, and what happened, in words.
    repository = UnicodeAttribute(null=True)
    summary = UnicodeAttribute(null=True)
    received_at = UnicodeAttribute()
    # `apps.sources.states.DeliveryState`, and why it is so.
    state = UnicodeAttribute()
    reason = UnicodeAttribute(null=True)
    # What came of it for each pipeline: ``{"pipeline", "run_id" or null, "reason" or null}``.
    results = CompactJSONAttribute(null=True)
    # What it says is in the audit trail.
    noted = BooleanAttribute(null=True)
    # How often it was tried, and since when: a redelivery begins anew.
    attempts = NumberAttribute(default=0)
    generation = NumberAttribute(default=0)
    accepted_at = UnicodeAttribute()
    # How often the provider has sent it again.
    repetitions = NumberAttribute(default=0)

    # ``<connection>#2026-11``
    month = UnicodeAttribute()
    trouble = UnicodeAttribute(null=True)
    due = UnicodeAttribute(null=True)
    due_at = UnicodeAttribute(null=True)
    expires_at = TTLAttribute()

    by_month = DeliveriesByMonth()
    by_trouble = DeliveriesByTrouble()
    by_due = DeliveriesByDue()
