"""The tokens that let new agents in, and the receipts of enrolments."""

from pynamodb.attributes import NumberAttribute, TTLAttribute, UnicodeAttribute
from pynamodb.indexes import GlobalSecondaryIndex, KeysOnlyProjection

from controlplane.nosql.record import Record, table_name

# The one partition of the index that lists enrolment tokens, which all expire: docs/decisions/0006
ENROLMENT_TOKENS = "enrolment-tokens"


class TokensByAge(GlobalSecondaryIndex["EnrolmentToken"]):
    """All tokens, by the time of their making. Receipts, which stand in the same table, are not in it."""

    class Meta:
        index_name = "by_age"
        billing_mode = "PAY_PER_REQUEST"
        projection = KeysOnlyProjection()

    registry = UnicodeAttribute(hash_key=True)
    created_at = UnicodeAttribute(range_key=True)


class EnrolmentToken(Record):
    """A secret that lets a number of new agents in until it expires; known here by its SHA-256 only."""

    class Meta(Record.Meta):
        table_name = table_name("enrolment-tokens")

    hash = UnicodeAttribute(hash_key=True)
    token_id = UnicodeAttribute()
    uses_left = NumberAttribute()
    created_by = UnicodeAttribute()
    created_at = UnicodeAttribute()
    # DynamoDB deletes late, so this is checked too.
    expires_at = TTLAttribute()
    registry = UnicodeAttribute(default=ENROLMENT_TOKENS)

    by_age = TokensByAge()


class EnrolmentReceipt(Record):
    """Which agent an enrolment made, for the machine that asks again because it never heard the answer.

    The hash is taken of the token and the machine's idempotency key together.
    """

    class Meta(Record.Meta):
        table_name = table_name("enrolment-tokens")

    hash = UnicodeAttribute(hash_key=True)
    agent_id = UnicodeAttribute()
    expires_at = TTLAttribute()
