"""Encrypting the addresses of targets."""

import json
from collections.abc import Callable

from apps.notifications.models import Target
from apps.notifications.selectors.targets import target_context, target_list
from apps.notifications.senders.addresses import Address
from controlplane.lib.envelope import decrypt, encrypt, is_current
from controlplane.nosql.connection import ConditionFailed


def address_encrypt(address: Address, *, target_id: str) -> str:
    """The address of the target, encrypted for its place. Raises Unavailable when KMS does not answer."""
    return encrypt(json.dumps(address.as_json()).encode(), context=target_context(target_id))


def targets_rewrap(*, progress: Callable[[str], None]) -> int:
    """Encrypt all addresses anew that another key has encrypted. Returns how many there were.

    It may be stopped at any time and run again. Raises DecryptionFailed for what cannot be decrypted, and Unavailable.
    """
    count = 0
    for target in target_list():
        text, context = str(target.encrypted), target_context(str(target.target_id))
        if not is_current(text):
            fresh = encrypt(decrypt(text, context=context), context=context)
            try:
                target.update([Target.encrypted.set(fresh)], condition=Target.encrypted == text)
                count += 1
            except ConditionFailed:
                # It was changed or deleted meanwhile, and what is there now is encrypted by the key of now.
                pass
        progress(str(target.target_id))
    return count
