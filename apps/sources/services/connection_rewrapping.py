"""Encrypting the secrets of connections under the key that encrypts now, after that key was replaced."""

from collections.abc import Callable

from apps.sources.models import Connection, secret_context
from apps.sources.selectors import connection_list
from controlplane.lib.envelope import decrypt, encrypt, is_current
from controlplane.nosql.connection import ConditionFailed

# The attributes ``encrypted_…`` of a connection.
_SECRETS = ("webhook_secret", "previous_webhook_secret", "token", "private_key")


def connections_rewrap(*, progress: Callable[[str], None]) -> int:
    """Encrypt all secrets of connections anew that another key has encrypted. Returns how many there were.

    It may be stopped at any time and run again: what is done is not done again. `progress` gets the id of each
    connection that is done. Raises DecryptionFailed for what cannot be decrypted, and Unavailable.
    """
    count = 0
    for connection in connection_list():
        count += sum(_rewrap(connection, name) for name in _SECRETS)
        progress(str(connection.connection_id))
    return count


def _rewrap(connection: Connection, name: str) -> bool:
    text = getattr(connection, f"encrypted_{name}")
    if not text or is_current(text):
        return False
    attribute, context = getattr(Connection, f"encrypted_{name}"), secret_context(str(connection.connection_id), name)
    fresh = encrypt(decrypt(text, context=context), context=context)
    try:
        connection.update([attribute.set(fresh)], condition=attribute == text)
    except ConditionFailed:
        # It was replaced or removed meanwhile. What is new is encrypted by the key of now.
        return False
    return True
