"""What a job printed, as it came in."""

from pynamodb.attributes import BinaryAttribute, NumberAttribute, TTLAttribute, UnicodeAttribute

from controlplane.nosql.record import Record, table_name


class LogChunk(Record):
    """A piece of an attempt's log. The same sequence overwrites itself, so that sending it again does no harm."""

    class Meta(Record.Meta):
        table_name = table_name("job-logs")

    # ``job_id#attempt``
    stream = UnicodeAttribute(hash_key=True)
    sequence = NumberAttribute(range_key=True)
    data = BinaryAttribute(legacy_encoding=False)
    # Chunks outlive their copy in object storage a while, and then cost nothing to delete.
    expires_at = TTLAttribute()
