"""Counters of the rate limits."""

from pynamodb.attributes import NumberAttribute, TTLAttribute, UnicodeAttribute

from controlplane.nosql.record import Record, table_name


class RateLimitWindow(Record):
    """How often something was tried in a window of time. The key is a hash of what, by whom and which window."""

    class Meta(Record.Meta):
        table_name = table_name("rate-limits")

    window = UnicodeAttribute(hash_key=True)
    tries = NumberAttribute(default=0)
    expires_at = TTLAttribute()
