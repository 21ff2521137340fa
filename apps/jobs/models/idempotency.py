"""Which job a request with an Idempotency-Key has made."""

from pynamodb.attributes import TTLAttribute, UnicodeAttribute

from controlplane.nosql.record import Record, table_name


class IdempotencyKey(Record):
    """Written in the transaction of the job that it names; kept for 24 hours."""

    class Meta(Record.Meta):
        table_name = table_name("idempotency")

    # SHA-256 of the actor's id and the key it sent.
    key = UnicodeAttribute(hash_key=True)
    # SHA-256 of the payload, so that the key cannot be used for another one.
    fingerprint = UnicodeAttribute()
    job_id = UnicodeAttribute()
    expires_at = TTLAttribute()
