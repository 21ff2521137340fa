"""API tokens."""

import re
import secrets
from datetime import datetime
from typing import Any

from pynamodb.attributes import ListAttribute, TTLAttribute, UnicodeAttribute
from pynamodb.indexes import GlobalSecondaryIndex, IncludeProjection, KeysOnlyProjection

from controlplane.lib.ids import ID_PATTERN
from controlplane.nosql.record import Record, table_name

# The one partition of the index that lists tokens: docs/decisions/0006
API_TOKENS = "api-tokens"

# Secret scanners find our tokens by this.
PREFIX = "hcp_"
# Tokens of earlier versions do not name their owner.
_TOKEN = re.compile(rf"{PREFIX}(?:(?P<owner>{ID_PATTERN})_)?[A-Za-z0-9_-]{{43}}")


def api_token_new(user_id: str) -> str:
    """The text of a new token: our prefix, whose token it is, and 256 random bits."""
    return f"{PREFIX}{user_id}_{secrets.token_urlsafe(32)}"


def api_token_shaped(text: str) -> bool:
    """Whether a text has the form of an API token."""
    return _TOKEN.fullmatch(text) is not None


def api_token_owner(text: str) -> str | None:
    """The id of the user whom the token names, so that token and owner can be read in one call.

    Clients can write any id there: it is true only if there is a token of this text.
    """
    found = _TOKEN.fullmatch(text)
    return found["owner"] if found else None


class _TokensOfUser(GlobalSecondaryIndex["ApiToken"]):
    class Meta:
        index_name = "by_user"
        projection = IncludeProjection(["token_id", "name", "permissions", "expires_at", "last_used_at"])

    user_id = UnicodeAttribute(hash_key=True)
    created_at = UnicodeAttribute(range_key=True)


class _TokenById(GlobalSecondaryIndex["ApiToken"]):
    """A token by its public id. Never rewritten."""

    class Meta:
        index_name = "by_id"
        projection = KeysOnlyProjection()

    token_id = UnicodeAttribute(hash_key=True)


class TokensByName(GlobalSecondaryIndex["ApiToken"]):
    """All tokens, by name without regard to case."""

    class Meta:
        index_name = "by_name"
        projection = KeysOnlyProjection()

    registry = UnicodeAttribute(hash_key=True)
    name_key = UnicodeAttribute(range_key=True)


class ApiToken(Record):
    """A token by which a program acts for a user. `permissions` None means all that the owner's role allows.

    `token_hash` is the `secret_hash` of the token's text, `token_id` is public.
    """

    class Meta(Record.Meta):
        table_name = table_name("api-tokens")

    token_hash = UnicodeAttribute(hash_key=True)
    token_id = UnicodeAttribute()
    user_id = UnicodeAttribute()
    name = UnicodeAttribute()
    permissions: ListAttribute[Any] = ListAttribute(of=UnicodeAttribute, null=True)
    created_at = UnicodeAttribute()
    expires_at = TTLAttribute(null=True)
    last_used_at = UnicodeAttribute(null=True)

    registry = UnicodeAttribute(default=API_TOKENS)
    name_key = UnicodeAttribute()

    by_user = _TokensOfUser()
    by_id = _TokenById()
    by_name = TokensByName()

    def expired(self, now: datetime) -> bool:
        """Whether the token has expired. DynamoDB deletes expired items late, so readers must ask."""
        return self.expires_at is not None and self.expires_at <= now
