"""Failed sign-ins, for the audit trail."""

from apps.accounts.services.users import MAX_EMAIL
from apps.audit.actions import Action
from apps.audit.services import audit_add
from controlplane.lib.actor import Actor
from controlplane.nosql.transaction import Transaction


def sign_in_failed_record(*, email: str, provider: str, address: str, reason: str | None = None) -> None:
    """Write an audit event for a failed attempt to sign in as `email`. `reason` is the code of the error, if any."""
    tx = Transaction()
    audit_add(
        tx,
        actor=Actor("user", "unknown", "not signed in"),
        action=Action.USER_SIGN_IN_FAILED,
        # People type passwords into the wrong field, so only what looks like an address is stored.
        target=f"email:{email}" if "@" in email and len(email) <= MAX_EMAIL else "email:unknown",
        result="refused",
        detail={"provider": provider, "address": address} | ({"reason": reason} if reason else {}),
    )
    tx.commit()
