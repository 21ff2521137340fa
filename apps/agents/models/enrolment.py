"""Enrolment tokens, and the receipts of enrolments."""

from typing import Any

from pynamodb.attributes import ListAttribute, NumberAttribute, TTLAttribute, UnicodeAttribute
from pynamodb.indexes import GlobalSecondaryIndex, KeysOnlyProjection

from controlplane.nosql.record import Record, table_name

# The one partition of the index that lists enrolment tokens, which all expire: docs/decisions/0006
ENROLMENT_TOKENS = "enrolment-tokens"


class TokensByAge(GlobalSecondaryIndex["EnrolmentToken"]):
    """All tokens by the time at which they were made. Receipts, which are in the same table, are not in the index."""

    class Meta:
        index_name = "by_age"
        billing_mode = "PAY_PER_REQUEST"
        projection = KeysOnlyProjection()

    registry = UnicodeAttribute(hash_key=True)
    created_at = UnicodeAttribute(range_key=True)


class EnrolmentToken(Record):
    """A secret that enrols a number of agents until it expires; only its SHA-256 is stored."""

    class Meta(Record.Meta):
        table_name = table_name("enrolment-tokens")

    hash = UnicodeAttribute(hash_key=True)
    token_id = UnicodeAttribute()
    # For people; empty for tokens of earlier versions.
    name = UnicodeAttribute(default="")
    # How many agents it enrols in all; null for tokens of earlier versions.
    uses = NumberAttribute(null=True)
    uses_left = NumberAttribute()
    # What its agents may ask for: any labels or regions if the list is empty, any number of slots if there is none.
    labels: ListAttribute[Any] = ListAttribute(of=UnicodeAttribute, default=list)
    regions: ListAttribute[Any] = ListAttribute(of=UnicodeAttribute, default=list)
    slots = NumberAttribute(null=True)
    # What its agents get.
    deployment_targets: ListAttribute[Any] = ListAttribute(of=UnicodeAttribute, default=list)
    created_by = UnicodeAttribute()
    created_at = UnicodeAttribute()
    # DynamoDB deletes expired items late, so the code checks this too.
    expires_at = TTLAttribute()
    registry = UnicodeAttribute(default=ENROLMENT_TOKENS)

    by_age = TokensByAge()


class EnrolmentReceipt(Record):
    """The agent of an enrolment, for a machine that repeats the request because it did not get the answer.

    The hash is that of the token and the machine's idempotency key together.
    """

    class Meta(Record.Meta):
        table_name = table_name("enrolment-tokens")

    hash = UnicodeAttribute(hash_key=True)
    agent_id = UnicodeAttribute()
    expires_at = TTLAttribute()
