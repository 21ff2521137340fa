"""The queue: waiting jobs, in one partition per label set."""

from typing import Any

from pynamodb.attributes import ListAttribute, NumberAttribute, UnicodeAttribute

from controlplane.nosql.record import Record, table_name

# The partition of the label sets themselves.
SETS = "sets"
# The value of `QueueSet.first` when no job waits in the set. It sorts after all positions.
EMPTY = "~"
# The row of that partition with the time of the last search for expired leases. Every poll reads it with the registry.
LEASES = "!leases"


class QueueEntry(Record):
    """One waiting job, under 200 bytes. Written and deleted in the job's own transactions, and read consistently."""

    class Meta(Record.Meta):
        table_name = table_name("queue")

    set_id = UnicodeAttribute(hash_key=True)
    # `apps.jobs.label_sets.queue_position`: sorts by priority, then by age, and ends with the job's id.
    position = UnicodeAttribute(range_key=True)
    # The attempt that a claim of this entry starts.
    attempt = NumberAttribute()
    # When the job began to wait, if that is later than its creation.
    since = UnicodeAttribute(null=True)
    # The agents that do not get the job until then, since it has just failed to run on them.
    avoid: ListAttribute[Any] = ListAttribute(of=UnicodeAttribute, null=True)
    avoid_until = UnicodeAttribute(null=True)


class QueueSet(Record):
    """A label set in which jobs may wait. All of them are the registry, which is small: every poll reads it whole."""

    class Meta(Record.Meta):
        table_name = table_name("queue")

    set_id = UnicodeAttribute(hash_key=True, default=SETS)
    # The id of the set, which is the partition key of its entries.
    position = UnicodeAttribute(range_key=True)
    labels: ListAttribute[Any] = ListAttribute(of=UnicodeAttribute, default=list)
    # The position of the most urgent waiting entry, or a more urgent one: it may have left the queue since. `EMPTY` if
    # there is none. Null, in rows of earlier versions, means unknown.
    first = UnicodeAttribute(null=True)
    # The pipeline and the user (id) whose job added the set, to limit the number of their sets. Null where unknown.
    pipeline = UnicodeAttribute(null=True)
    opened_by = UnicodeAttribute(null=True)
    # When the sweep found the set empty. It prunes the set some time later, unless a job has used it since.
    retiring_at = UnicodeAttribute(null=True)
    # Only in the row `LEASES`: when an agent last polled, to ten seconds; when a poll last searched for expired leases;
    # since when polls come without a gap; and when a sweep last found that no agent polls.
    looked_at = UnicodeAttribute(null=True)
    searched_at = UnicodeAttribute(null=True)
    resumed_at = UnicodeAttribute(null=True)
    swept_at = UnicodeAttribute(null=True)

    @property
    def hint(self) -> str:
        """`first`, or a text that sorts before all positions where it is unknown."""
        return self.first or ""
