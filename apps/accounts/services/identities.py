"""Signing in by a provider."""

from django.contrib.auth.hashers import make_password

from apps.accounts.identities import PROVIDERS, ProviderIdentity, email_normalise, role_allowed
from apps.accounts.models import AccountClaim, Identity, User
from apps.accounts.selectors import user_by_identity
from apps.accounts.services.users import MAX_EMAIL, MAX_NAME
from apps.audit.actions import Action
from apps.audit.services import audit_add
from controlplane.lib import clock
from controlplane.lib.actor import Actor
from controlplane.lib.error_codes import ErrorCode
from controlplane.lib.errors import Conflict, Forbidden
from controlplane.lib.ids import new_id
from controlplane.nosql.listing import search_key
from controlplane.nosql.transaction import Transaction, TransactionFailed


def identity_sign_in(identity: ProviderIdentity) -> User:
    """The user with this identity. On the first sign-in it creates the user, with the role that the settings give.

    The settings are asked on every sign-in, so someone who has left an organisation cannot sign in any more. They give
    the role on the first one only: after that, administrators change it.

    Raises Forbidden ``not_allowed``, ``email_unverified`` or ``account_disabled``, Conflict ``email_taken``.
    """
    role = role_allowed(identity)
    if role is None:
        raise Forbidden(
            "This account is not allowed to sign in here. Ask an administrator to allow it.",
            code=ErrorCode.NOT_ALLOWED,
        )
    user = user_by_identity(identity.key) or _create(identity, role)
    if not user.is_active:
        raise Forbidden("This account is disabled.", code=ErrorCode.ACCOUNT_DISABLED)
    return user


def _create(identity: ProviderIdentity, role: str) -> User:
    provider = PROVIDERS[identity.provider]
    if identity.email is None or len(identity.email) > MAX_EMAIL:
        raise Forbidden(
            f"{provider} gives no verified e-mail address for this account.", code=ErrorCode.EMAIL_UNVERIFIED
        )
    email = email_normalise(identity.email)
    name = _name(identity, email)
    now = clock.timestamp(clock.now())
    user = User(
        user_id=new_id(),
        email=email,
        name=name,
        name_key=search_key(name),
        role=role,
        # No text matches this one.
        password=make_password(None),
        created_at=now,
    )
    tx = Transaction()
    tx.put("user", user)
    tx.put("claim", AccountClaim(AccountClaim.of_email(email), user_id=user.user_id))
    tx.put("identity", Identity(identity.key, user_id=user.user_id, created_at=now))
    audit_add(
        tx,
        actor=Actor("user", user.user_id, name),
        action=Action.USER_CREATED,
        target=f"user:{user.user_id}",
        detail={"email": email, "role": role, "provider": identity.provider, "subject": identity.subject},
    )
    try:
        tx.commit()
    except TransactionFailed as error:
        # Another request of the same person may have been faster.
        existing = user_by_identity(identity.key)
        if existing is None:
            raise Conflict(
                f"There is an account with the address {email} already, and it signs in another way. "
                "Accounts are never joined by their addresses.",
                code=ErrorCode.EMAIL_TAKEN,
            ) from error
        return existing
    return user


def _name(identity: ProviderIdentity, email: str) -> str:
    """The provider's name for them, cut to what we accept as a name, or the first part of their address."""
    name = "".join(character for character in identity.name if character.isprintable()).strip()
    return name[:MAX_NAME].strip() or email.partition("@")[0]
