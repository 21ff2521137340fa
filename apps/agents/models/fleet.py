"""How many agents there are, by region and status."""

from pynamodb.attributes import NumberAttribute, UnicodeAttribute

from controlplane.nosql.record import Record, table_name

# One partition for all counters: there are at most five for each region, however many agents.
FLEET = "fleet"


class FleetCounter(Record):
    """How many agents of a region have a status; updated in the transaction that changes the agent."""

    class Meta(Record.Meta):
        table_name = table_name("fleet")

    fleet = UnicodeAttribute(hash_key=True, default=FLEET)
    # "region#status"
    key = UnicodeAttribute(range_key=True)
    agents = NumberAttribute(default=0)
