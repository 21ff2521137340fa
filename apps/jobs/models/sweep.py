"""The record of the last sweep."""

from typing import Any

from pynamodb.attributes import ListAttribute, UnicodeAttribute

from controlplane.nosql.record import Record, table_name


class LastSweep(Record):
    """When the tasks of each minute ran, and which of them failed then. There is one row."""

    class Meta(Record.Meta):
        table_name = table_name("summary")

    KIND, NAME = "sweep", "last"

    # The keys of the table's other rows are years, and days with shares.
    kind = UnicodeAttribute(hash_key=True, attr_name="year")
    name = UnicodeAttribute(range_key=True, attr_name="day_share")
    at = UnicodeAttribute()
    # The counters of days have another `failed`.
    failed: ListAttribute[Any] = ListAttribute(of=UnicodeAttribute, default=list, attr_name="failed_tasks")
