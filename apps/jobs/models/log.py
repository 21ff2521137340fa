"""The output of jobs, in chunks."""

from pynamodb.attributes import BinaryAttribute, NumberAttribute, TTLAttribute, UnicodeAttribute

from controlplane.nosql.record import Record, table_name


class LogChunk(Record):
    """A chunk of an attempt's log. A chunk with the same sequence overwrites it, so that agents can send it again."""

    class Meta(Record.Meta):
        table_name = table_name("job-logs")

    # ``job_id#attempt``
    stream = UnicodeAttribute(hash_key=True)
    sequence = NumberAttribute(range_key=True)
    data = BinaryAttribute(legacy_encoding=False)
    # Chunks expire some time after the log is archived. DynamoDB deletes expired items free of charge.
    expires_at = TTLAttribute()
