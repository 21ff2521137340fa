"""Counters by day, so that an overview costs the same at a hundred and at ten million jobs."""

from pynamodb.attributes import NumberAttribute, UnicodeAttribute

from controlplane.nosql.record import Record, table_name


class DayCounter(Record):
    """One shard of a day's counters. Writers pick one at random to avoid conflicts; readers add all of them up."""

    class Meta(Record.Meta):
        table_name = table_name("summary")

    year = UnicodeAttribute(hash_key=True)
    # ``11-21#3``: month, day and shard.
    day_share = UnicodeAttribute(range_key=True)
    # Jobs created on the day. The other counters count jobs that ended on the day.
    created = NumberAttribute(default=0)
    completed = NumberAttribute(default=0)
    failed = NumberAttribute(default=0)
    cancelled = NumberAttribute(default=0)
    timed_out = NumberAttribute(default=0)
    skipped = NumberAttribute(default=0)
