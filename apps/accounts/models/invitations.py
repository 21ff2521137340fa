"""Invitations: an address that may become a user, until it expires."""

import re
import secrets

from pynamodb.attributes import TTLAttribute, UnicodeAttribute
from pynamodb.indexes import GlobalSecondaryIndex, KeysOnlyProjection

from apps.accounts.models.hashes import secret_hash
from controlplane.nosql.record import Record, table_name

# The one partition of the index that lists invitations, which all expire: docs/decisions/0006
INVITATIONS = "invitations"

# Secret scanners find our tokens by this.
_PREFIX = "hci_"
_FORM = re.compile(r"hci_([0-9a-f]{32})[A-Za-z0-9_-]{43}")


class InvitationsByAge(GlobalSecondaryIndex["Invitation"]):
    """All invitations by the time at which they were made."""

    class Meta:
        index_name = "by_age"
        projection = KeysOnlyProjection()

    registry = UnicodeAttribute(hash_key=True)
    created_at = UnicodeAttribute(range_key=True)


class Invitation(Record):
    """The invitation of an e-mail address, at most one for each.

    The key is `invitation_key` of the address. The link's token contains the key, and `token_hash` is its
    `secret_hash`. `invitation_id` is public, and another one for each invitation of the address. `invited_by` is a
    user's id, or None for a management command.
    """

    class Meta(Record.Meta):
        table_name = table_name("invitations")

    address_key = UnicodeAttribute(hash_key=True)
    token_hash = UnicodeAttribute()
    invitation_id = UnicodeAttribute()
    email = UnicodeAttribute()
    role = UnicodeAttribute()
    invited_by = UnicodeAttribute(null=True)
    inviter_name = UnicodeAttribute()
    created_at = UnicodeAttribute()
    # DynamoDB deletes expired items late, so the code checks this too.
    expires_at = TTLAttribute()
    registry = UnicodeAttribute(default=INVITATIONS)

    by_age = InvitationsByAge()


def invitation_key(email: str) -> str:
    """The key of the invitation of an address that `email_normalise` has returned: 32 hexadecimal digits."""
    return secret_hash(email)[:32]


def invitation_token_new(email: str) -> str:
    """A new token for the link of an invitation of this address. The last 43 characters are random."""
    return f"{_PREFIX}{invitation_key(email)}{secrets.token_urlsafe(32)}"


def invitation_token_key(token: str) -> str | None:
    """The key of the invitation that a token names, or None if the text cannot be a token."""
    found = _FORM.fullmatch(token)
    return found[1] if found else None
