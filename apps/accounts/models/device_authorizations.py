"""Device authorizations: a program on another device asks to act for a user, who allows it in a browser (RFC 8628)."""

import re
import secrets

from pynamodb.attributes import TTLAttribute, UnicodeAttribute

from apps.accounts.models.hashes import secret_hash
from controlplane.nosql.record import Record, table_name

# Consonants that are not taken for others: 8 of them are 34 bits (RFC 8628, section 6.1).
_LETTERS = "BCDFGHJKLMNPQRSTVWXZ"
_USER_CODE = re.compile(f"[{_LETTERS}]{{8}}")
# Secret scanners find our tokens by this.
_PREFIX = "hcd_"
_DEVICE_CODE = re.compile(r"hcd_([0-9a-f]{32})[A-Za-z0-9_-]{43}")


class DeviceAuthorization(Record):
    """What a program asks for. It is open until a user has allowed or denied it, or it expires.

    The key is `user_code_key` of the code that the user types. The program's code contains the key, and `device_hash`
    is its `secret_hash`. `address` is the IP address from which the program asked. `decision` is ``allowed`` or
    ``denied``, or None while it is open; `user_id` is who decided. `used_by` names the request that got the token.
    """

    class Meta(Record.Meta):
        table_name = table_name("device-authorizations")

    code_key = UnicodeAttribute(hash_key=True)
    device_hash = UnicodeAttribute()
    name = UnicodeAttribute()
    address = UnicodeAttribute()
    created_at = UnicodeAttribute()
    # DynamoDB deletes expired items late, so the code checks this too.
    expires_at = TTLAttribute()
    decision = UnicodeAttribute(null=True)
    user_id = UnicodeAttribute(null=True)
    used_by = UnicodeAttribute(null=True)


def user_code_new() -> str:
    """A new code for people: ``BCDF-GHJK``."""
    letters = "".join(secrets.choice(_LETTERS) for _ in range(8))
    return f"{letters[:4]}-{letters[4:]}"


def user_code_key(text: str) -> str | None:
    """The key of the authorization that a code names, however it is typed, or None if the text cannot be a code."""
    letters = re.sub(r"[\s-]", "", text[:50]).upper()
    return secret_hash(letters)[:32] if _USER_CODE.fullmatch(letters) else None


def device_code_new(code_key: str) -> str:
    """A new code for the program. Its last 43 characters are random."""
    return f"{_PREFIX}{code_key}{secrets.token_urlsafe(32)}"


def device_code_key(text: str) -> str | None:
    """The key of the authorization that a program's code names, or None if the text cannot be such a code."""
    found = _DEVICE_CODE.fullmatch(text)
    return found[1] if found else None
