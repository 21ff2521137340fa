"""Sessions, and the tokens by which clients name them."""

import re
import secrets
import string

from django.conf import settings
from pynamodb.attributes import TTLAttribute, UnicodeAttribute
from pynamodb.indexes import GlobalSecondaryIndex, IncludeProjection

from controlplane.nosql.record import CompactJSONAttribute, Record

_RANDOM_LENGTH = 32
_RANDOM_CHARACTERS = string.ascii_lowercase + string.digits
_TOKEN = re.compile(rf"[a-z0-9]{{{_RANDOM_LENGTH}}}(\.[0-9a-z]{{26}})?")


def session_token_new(user_id: str | None) -> str:
    """A new token: 166 random bits, and whose session it is, unless the session is anonymous."""
    random = "".join(secrets.choice(_RANDOM_CHARACTERS) for _ in range(_RANDOM_LENGTH))
    return f"{random}.{user_id}" if user_id else random


def session_token_user(token: str) -> str | None:
    """The id of the user whom the token names, so that session and user can be read in one call.

    Clients can write any id there: it is true only if the session of this token is the user's.
    """
    random, _, user_id = token.partition(".")
    return user_id if len(random) == _RANDOM_LENGTH and user_id else None


def session_token_shaped(token: str) -> bool:
    """Whether a text has the form of a session's token. API tokens have another."""
    return _TOKEN.fullmatch(token) is not None


class _SessionsOfUser(GlobalSecondaryIndex["Session"]):
    """A user's sessions. Neither their data nor anything that opens a session is projected."""

    class Meta:
        index_name = "user_id-created_at-index"
        projection = IncludeProjection(["provider", "expires_at"])

    user_id = UnicodeAttribute(hash_key=True)
    created_at = UnicodeAttribute(range_key=True)


class Session(Record):
    """A session. Its key is the hash of the token, so reading the table does not let anyone take a session over.

    `token_hash` is stored under the name ``session_id``. `revision` is a new random text after each write, `user_id` is
    absent until someone signs in. `device_id` names the session to its user and opens nothing. `subject` is the
    provider's id for the user, where the session was made for the frontend. `user_info` is the user's email, name and
    picture at sign-in, as the provider gave them; sessions of before have none. `expires_at` moves with `last_seen_at`,
    up to the absolute limit.
    """

    class Meta(Record.Meta):
        table_name = settings.DYNAMODB_SESSIONS_TABLE_NAME

    token_hash = UnicodeAttribute(hash_key=True, attr_name="session_id")
    user_id = UnicodeAttribute(null=True)
    provider = UnicodeAttribute(null=True)
    subject = UnicodeAttribute(null=True)
    device_id = UnicodeAttribute(null=True)
    device = UnicodeAttribute(null=True)
    address = UnicodeAttribute(null=True)
    region = UnicodeAttribute(null=True)
    created_at = UnicodeAttribute()
    last_seen_at = UnicodeAttribute(null=True)
    expires_at = TTLAttribute()
    revision = UnicodeAttribute()
    user_info = CompactJSONAttribute(null=True)
    data = UnicodeAttribute()

    by_user = _SessionsOfUser()
