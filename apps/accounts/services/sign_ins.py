"""Coming in and leaving, as the audit trail sees it. The session itself is Django's, kept by `session_store`."""

from contextlib import suppress

from apps.accounts.models import Session, User, secret_hash
from apps.accounts.services.users import MAX_EMAIL
from apps.audit.actions import Action
from apps.audit.services import audit_add
from controlplane.lib import clock
from controlplane.lib.actor import Actor
from controlplane.lib.errors import NotAuthenticated
from controlplane.nosql.transaction import Transaction, TransactionFailed


def sign_in_record(*, actor: Actor, provider: str, address: str) -> None:
    """Record that a person comes in, before their session is made: a session without a record is what must not be.

    Raises NotAuthenticated ``account_disabled`` if the person was disabled in this very moment.
    """
    tx = Transaction()
    tx.update(
        "user",
        User(actor.id),
        actions=[User.last_login_at.set(clock.timestamp(clock.now()))],
        condition=User.user_id.exists() & (User.is_active == True),  # noqa: E712 — an expression, not a comparison
    )
    audit_add(
        tx,
        actor=actor,
        action=Action.USER_SIGNED_IN,
        target=f"user:{actor.id}",
        detail={"provider": provider, "address": address},
    )
    try:
        tx.commit()
    except TransactionFailed as error:
        if "user" in error.failed:
            raise NotAuthenticated("This account is disabled.", code="account_disabled") from error
        # Only the record itself can have failed then, and it does so when it stands there: the answer was lost.


def sign_in_failed_record(*, email: str, provider: str, address: str) -> None:
    """Record that someone tried to come in as `email` and could not."""
    tx = Transaction()
    audit_add(
        tx,
        actor=Actor("user", "unknown", "not signed in"),
        action=Action.USER_SIGN_IN_FAILED,
        # People type passwords into the wrong field: only what looks like an address is kept.
        target=f"email:{email}" if "@" in email and len(email) <= MAX_EMAIL else "email:unknown",
        result="refused",
        detail={"provider": provider, "address": address},
    )
    # It fails only when the record stands there already: the answer to the first attempt was lost.
    with suppress(TransactionFailed):
        tx.commit()


def sign_out(*, actor: Actor, session_key: str) -> None:
    """End a session. One that has ended already stays so, and is not recorded again."""
    tx = Transaction()
    tx.delete("session", Session(secret_hash(session_key)))
    audit_add(tx, actor=actor, action=Action.USER_SIGNED_OUT, target=f"user:{actor.id}")
    try:
        tx.commit()
    except TransactionFailed as error:
        if error.failed.get("session") is not None:
            raise
