"""Replacing the key that signs identity tokens, where keys are files. On AWS, an operator replaces the key in KMS."""

from datetime import datetime, timedelta

from django.conf import settings

from apps.audit.actions import Action
from apps.audit.services import audit_add
from controlplane.lib import clock
from controlplane.lib.actor import SYSTEM, Actor
from controlplane.lib.frozen import frozen
from controlplane.nosql.transaction import Transaction

# The age at which a key is replaced.
ROTATED_AFTER = timedelta(days=90)


@frozen
class NewKey:
    """A key that was created. Until `signs_from` it is only published."""

    key_id: str
    signs_from: datetime


def identity_key_create(*, actor: Actor) -> NewKey:
    """Create the next key, and record that. Raises RuntimeError if the keys are in KMS, and Unavailable."""
    from controlplane.lib.signing_keys import PUBLISHED_BEFORE, Purpose, signing_key, signing_key_create

    if not settings.SIGNING_KEY_IDS:
        # The first one of all signs at once, so it must be there.
        signing_key(Purpose.IDENTITY)
    signs_from = clock.now() + PUBLISHED_BEFORE

    def record(key_id: str) -> None:
        tx = Transaction()
        detail = {"signs_from": clock.timestamp(signs_from)}
        audit_add(tx, actor=actor, action=Action.IDENTITY_KEY_CREATED, target=f"identity_key:{key_id}", detail=detail)
        tx.commit()

    key = signing_key_create(Purpose.IDENTITY, record=record)
    return NewKey(key.key_id, signs_from)


def identity_keys_rotate() -> int:
    """Create the next key when the newest is 90 days old, and delete those whose tokens have ended: in each sweep.

    Returns how many keys were created and deleted. Only for keys that are files.
    """
    from controlplane.lib.signing_keys import identity_key_age, identity_keys_delete_ended

    created = identity_key_age() >= ROTATED_AFTER
    if created:
        identity_key_create(actor=SYSTEM)
    return int(created) + identity_keys_delete_ended()
