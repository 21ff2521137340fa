"""The job that a request with an Idempotency-Key has created."""

from pynamodb.attributes import TTLAttribute, UnicodeAttribute

from controlplane.nosql.record import Record, table_name


class IdempotencyKey(Record):
    """Written in the transaction that creates its job. Kept for 24 hours."""

    class Meta(Record.Meta):
        table_name = table_name("idempotency")

    # SHA-256 of the actor's id and the key of the request.
    key = UnicodeAttribute(hash_key=True)
    # SHA-256 of the payload. A request with the same key and another payload is refused.
    fingerprint = UnicodeAttribute()
    job_id = UnicodeAttribute()
    expires_at = TTLAttribute()
