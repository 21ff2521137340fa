"""Encrypting what is stored of secrets under the key that encrypts now, after that key was replaced."""

from collections.abc import Callable, Sequence
from typing import Any

from apps.audit.actions import Action
from apps.audit.services import audit_add
from apps.secrets.models import SPACE, Secret, SecretVersion
from apps.secrets.selectors import secret_context
from apps.secrets.services.values import fingerprint_context
from controlplane.lib.actor import Actor
from controlplane.lib.envelope import decrypt, encrypt, is_current, key_replace
from controlplane.nosql.connection import ConditionFailed
from controlplane.nosql.transaction import Transaction


def encryption_key_replace(*, actor: Actor) -> str:
    """Replace the key in KEY_FILE, and record that. Returns the id of the new key. Raises Unavailable."""

    def record(key_id: str) -> None:
        tx = Transaction()
        audit_add(tx, actor=actor, action=Action.ENCRYPTION_KEY_REPLACED, target=f"encryption_key:{key_id}")
        tx.commit()

    return key_replace(record=record)


def secrets_rewrap(*, progress: Callable[[str], None]) -> int:
    """Encrypt all values anew that another key has encrypted. Returns how many there were.

    It may be stopped at any time and run again: what is done is not done again. `progress` gets the id of each secret
    that is done. Raises DecryptionFailed for what cannot be decrypted, and Unavailable.
    """
    count = 0
    for secret in Secret.query(SPACE, consistent_read=True):
        secret_id = str(secret.secret_id)
        count += _rewrap(secret, Secret.fingerprint_key, fingerprint_context(secret_id))
        for version in SecretVersion.query(secret_id, consistent_read=True):
            if version.encrypted:
                count += _rewrap(version, SecretVersion.encrypted, secret_context(secret_id, int(version.number)))
        progress(secret_id)
    return count


def _rewrap(record: Secret | SecretVersion, attribute: Any, context: Sequence[str]) -> bool:
    text = str(getattr(record, attribute.attr_name))
    if is_current(text):
        return False
    fresh = encrypt(decrypt(text, context=context), context=context)
    try:
        record.update([attribute.set(fresh)], condition=attribute == text)
    except ConditionFailed:
        # The value was set or deleted meanwhile. What is set now is encrypted by the key of now.
        return False
    return True
