"""Those who try to come in and may not, as the audit trail sees it."""

from contextlib import suppress

from apps.accounts.services.users import MAX_EMAIL
from apps.audit.actions import Action
from apps.audit.services import audit_add
from controlplane.lib.actor import Actor
from controlplane.nosql.transaction import Transaction, TransactionFailed


def sign_in_failed_record(*, email: str, provider: str, address: str, reason: str | None = None) -> None:
    """Record that someone tried to come in as `email` and could not, for a `reason` that is an error's code."""
    tx = Transaction()
    audit_add(
        tx,
        actor=Actor("user", "unknown", "not signed in"),
        action=Action.USER_SIGN_IN_FAILED,
        # People type passwords into the wrong field: only what looks like an address is kept.
        target=f"email:{email}" if "@" in email and len(email) <= MAX_EMAIL else "email:unknown",
        result="refused",
        detail={"provider": provider, "address": address} | ({"reason": reason} if reason else {}),
    )
    # It fails only when the record stands there already: the answer to the first attempt was lost.
    with suppress(TransactionFailed):
        tx.commit()
