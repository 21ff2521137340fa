"""Failed sign-ins, for the audit trail."""

from collections.abc import Mapping

from apps.accounts.identities import ProviderIdentity
from apps.accounts.services.rate_limits import identity_failure_count
from apps.accounts.services.users import MAX_EMAIL
from apps.audit.actions import Action
from apps.audit.services import audit_add
from controlplane.lib.actor import Actor
from controlplane.lib.errors import ApplicationError
from controlplane.nosql.transaction import Transaction


def provider_sign_in_failed(
    *,
    error: ApplicationError,
    provider: str,
    address: str,
    identity: ProviderIdentity | None,
    claimed: str | None = None,
) -> None:
    """Record that the provider, or our rules, refused a person: as `identity` if the provider has vouched for them.

    `claimed` is the provider's id of the person whom the client claims to be, which proves nothing.
    Raises TooManyRequests, and records nothing, if the identity has failed too often.
    """
    if identity is not None:
        identity_failure_count(identity_key=identity.key)
    sign_in_failed_record(
        email=(identity.email if identity else None) or "",
        provider=provider,
        address=address,
        reason=error.code,
        details={"subject": identity.subject if identity else None, "claimed": claimed},
    )


def sign_in_failed_record(
    *,
    email: str,
    provider: str,
    address: str,
    reason: str | None = None,
    details: Mapping[str, str | None] | None = None,
) -> None:
    """Write an audit event for a failed attempt to sign in as `email`. `reason` is the code of the error, if any."""
    detail = {"provider": provider, "address": address, "reason": reason, **(details or {})}
    tx = Transaction()
    audit_add(
        tx,
        actor=Actor("user", "unknown", "not signed in"),
        action=Action.USER_SIGN_IN_FAILED,
        # People type passwords into the wrong field, so only what looks like an address is stored.
        target=f"email:{email}" if "@" in email and len(email) <= MAX_EMAIL else "email:unknown",
        result="refused",
        detail={name: text for name, text in detail.items() if text},
    )
    tx.commit()
