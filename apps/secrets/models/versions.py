"""The record of a version of a secret: its value, encrypted."""

from pynamodb.attributes import NumberAttribute, UnicodeAttribute

from controlplane.nosql.record import Record, table_name


class SecretVersion(Record):
    """One version of a secret. It stays when its value and its secret are deleted, so that no number comes twice."""

    class Meta(Record.Meta):
        table_name = table_name("secret-versions")

    secret_id = UnicodeAttribute(hash_key=True)
    number = NumberAttribute(range_key=True)
    state = UnicodeAttribute()
    # The value; None once the version is retired, reverted or deleted.
    encrypted = UnicodeAttribute(null=True)
    fingerprint = UnicodeAttribute()
    # The rotation that made it; None if a user set it.
    rotation_id = UnicodeAttribute(null=True)
    created_at = UnicodeAttribute()
    created_by = UnicodeAttribute()
    ended_at = UnicodeAttribute(null=True)
