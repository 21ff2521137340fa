"""Signatures of webhooks: HMAC-SHA256 over id, time and body, as Standard Webhooks 1.0 has them.

The specification is at https://www.standardwebhooks.com.
"""

import base64
import binascii
import hashlib
import hmac
from collections.abc import Sequence
from secrets import token_bytes

_PREFIX = "whsec_"
# The specification's bounds, in bytes.
_KEY_BYTES = (24, 64)


def webhook_key(secret: str) -> bytes:
    """The key in a secret of the form ``whsec_<base64>``, of 24 to 64 bytes. Raises ValueError."""
    try:
        key = base64.b64decode(secret.removeprefix(_PREFIX), validate=True)
    except (binascii.Error, ValueError) as error:
        raise ValueError("must be whsec_ and base64") from error
    if not secret.startswith(_PREFIX) or not _KEY_BYTES[0] <= len(key) <= _KEY_BYTES[1]:
        raise ValueError(f"must be whsec_ and the base64 of {_KEY_BYTES[0]} to {_KEY_BYTES[1]} random bytes")
    return key


def webhook_secret_new() -> str:
    """A new secret of 32 random bytes."""
    return _PREFIX + base64.b64encode(token_bytes(32)).decode()


def webhook_headers(*, secrets: Sequence[str], message_id: str, timestamp: int, body: bytes) -> dict[str, str]:
    """The headers of a signed message, with a signature by each of the secrets: the receiver accepts any of them.

    `timestamp` is in seconds since 1970: the time of this attempt. Raises ValueError for a secret that is none.
    """
    signed = b".".join((message_id.encode(), str(timestamp).encode(), body))
    digests = [hmac.digest(webhook_key(secret), signed, hashlib.sha256) for secret in secrets]
    return {
        "webhook-id": message_id,
        "webhook-timestamp": str(timestamp),
        "webhook-signature": " ".join(f"v1,{base64.b64encode(digest).decode()}" for digest in digests),
    }
