"""How many agents there are, by region and status; and how far the tasks of each minute have come."""

from pynamodb.attributes import NumberAttribute, UnicodeAttribute

from controlplane.nosql.record import CompactJSONAttribute, Record, table_name

# One partition for all counters: there are at most five for each region, however many agents.
FLEET = "fleet"
PROGRESS = "progress"


class FleetCounter(Record):
    """How many agents of a region have a status; updated in the transaction that changes the agent."""

    class Meta(Record.Meta):
        table_name = table_name("fleet")

    fleet = UnicodeAttribute(hash_key=True, default=FLEET)
    # "region#status"
    key = UnicodeAttribute(range_key=True)
    agents = NumberAttribute(default=0)


class TaskProgress(Record):
    """Where a task that goes over a long list stopped when its time was over, and where it goes on."""

    class Meta(Record.Meta):
        table_name = table_name("fleet")

    fleet = UnicodeAttribute(hash_key=True, default=PROGRESS)
    key = UnicodeAttribute(range_key=True)
    # A `controlplane.nosql.listing.Place`; null after the list's end.
    place = CompactJSONAttribute(null=True)
