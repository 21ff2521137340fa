"""The queue: what waits, in partitions of jobs that ask for the same machine."""

from typing import Any

from pynamodb.attributes import ListAttribute, NumberAttribute, UnicodeAttribute

from controlplane.nosql.record import Record, table_name

# The partition in which the label sets themselves stand.
SETS = "sets"
# Among them, the row that says when expired leases were last looked for: every poll reads it with the registry.
LEASES = "!leases"


class QueueEntry(Record):
    """One waiting job, under 200 bytes. Written and deleted in the job's own transaction, read consistently."""

    class Meta(Record.Meta):
        table_name = table_name("queue")

    set_id = UnicodeAttribute(hash_key=True)
    # `apps.jobs.label_sets.queue_position`: sorts by priority, then age, and ends with the job's id.
    position = UnicodeAttribute(range_key=True)
    # The attempt that a claim of this entry begins.
    attempt = NumberAttribute()
    # Since when the job waits, if that is not since its creation.
    since = UnicodeAttribute(null=True)


class QueueSet(Record):
    """A label set in which work may wait: the registry, small enough to be read whole by every poll."""

    class Meta(Record.Meta):
        table_name = table_name("queue")

    set_id = UnicodeAttribute(hash_key=True, default=SETS)
    # The id of the set, which is the partition key of its entries.
    position = UnicodeAttribute(range_key=True)
    labels: ListAttribute[Any] = ListAttribute(of=UnicodeAttribute, default=list)
    # When the sweep found the set empty; it is pruned a while later unless somebody has used it again by then.
    retiring_at = UnicodeAttribute(null=True)
    # Only in the row `LEASES`.
    looked_at = UnicodeAttribute(null=True)
