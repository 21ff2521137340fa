"""Encrypting values for storage, and their fingerprints."""

import hmac
import secrets

from apps.secrets.models import Secret, SecretVersion
from apps.secrets.selectors import secret_context
from controlplane.lib.envelope import decrypt, encrypt
from controlplane.lib.error_codes import ErrorCode
from controlplane.lib.errors import Conflict

_KEY_BYTES = 32
_FINGERPRINT_DIGITS = 12


def value_encrypt(value: str, *, secret_id: str, number: int) -> str:
    """The value as it is stored, bound to its secret and version. Raises Unavailable when KMS does not answer."""
    return encrypt(value.encode(), context=secret_context(secret_id, number))


def value_decrypt(version: SecretVersion) -> str:
    """The value of a version.

    Raises Conflict if it has none any more; DecryptionFailed if it was moved here or belongs to another key; and
    Unavailable when KMS does not answer.
    """
    if not version.encrypted:
        message = (
            f"Version {int(version.number)} of the secret {version.secret_id} is {version.state}: it has no value."
        )
        raise Conflict(message, code=ErrorCode.SECRET_VERSION_ENDED)
    return decrypt(version.encrypted, context=secret_context(str(version.secret_id), int(version.number))).decode()


def fingerprint_key_make(secret_id: str) -> str:
    """A new key for the fingerprints of a secret's values, encrypted."""
    return encrypt(secrets.token_bytes(_KEY_BYTES), context=fingerprint_context(secret_id))


def fingerprint(value: str, *, secret_id: str, encrypted_key: str) -> str:
    """12 hexadecimal digits that tell values of one secret apart. Without the key, no guess can be tried on them."""
    key = decrypt(encrypted_key, context=fingerprint_context(secret_id))
    return hmac.digest(key, value.encode(), "sha256").hex()[:_FINGERPRINT_DIGITS]


def fingerprint_of(secret: Secret, value: str) -> str:
    """The fingerprint that a version of this secret with this value has."""
    return fingerprint(value, secret_id=str(secret.secret_id), encrypted_key=str(secret.fingerprint_key))


def fingerprint_context(secret_id: str) -> tuple[str, ...]:
    """The place to which the key of a secret's fingerprints is bound."""
    return ("secret", secret_id, "fingerprint-key")
