"""The record of a secret: all but its values."""

from typing import Any

from pynamodb.attributes import BooleanAttribute, ListAttribute, NumberAttribute, UnicodeAttribute

from apps.secrets.states import Scope
from controlplane.nosql.record import Record, table_name

# There is one space of secrets; teams would each get their own.
SPACE = "default"


class Secret(Record):
    """A secret, which has any number of versions. There are few, so one partition holds and lists them all.

    `secret_id` begins with the name, so that one query finds all secrets of a name.
    """

    class Meta(Record.Meta):
        table_name = table_name("secrets")

    space = UnicodeAttribute(hash_key=True, default_for_new=SPACE)
    secret_id = UnicodeAttribute(range_key=True)
    name = UnicodeAttribute()
    pipeline = UnicodeAttribute(null=True)
    environment = UnicodeAttribute(null=True)
    branches: ListAttribute[Any] = ListAttribute(of=UnicodeAttribute, default=list)
    pull_requests = BooleanAttribute(default=False)
    description = UnicodeAttribute(null=True)
    # The user who answers for it, as people know them.
    owner = UnicodeAttribute()
    # Encrypted. With it, the fingerprint of a value is computed, so that nothing can be guessed from a fingerprint.
    fingerprint_key = UnicodeAttribute()
    # The numbers of the current version, of the one that a rotation has made, and of the newest one.
    current = NumberAttribute()
    pending = NumberAttribute(null=True)
    newest = NumberAttribute()
    # Of the current version.
    fingerprint = UnicodeAttribute()
    created_at = UnicodeAttribute()
    created_by = UnicodeAttribute()
    # When the current version became that.
    changed_at = UnicodeAttribute()
    changed_by = UnicodeAttribute()
    # When a job last got it, to the minute.
    delivered_at = UnicodeAttribute(null=True)

    @property
    def scope(self) -> Scope:
        """Which jobs may get it."""
        return Scope(
            pipeline=self.pipeline,
            environment=self.environment,
            branches=tuple(self.branches),
            pull_requests=bool(self.pull_requests),
        )
