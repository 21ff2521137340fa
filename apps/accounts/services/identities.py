"""Signing in by what a provider says."""

from django.contrib.auth.hashers import make_password

from apps.accounts.identities import PROVIDERS, ProviderIdentity, role_allowed
from apps.accounts.models import AccountClaim, Identity, User, email_normalise
from apps.accounts.services.users import MAX_EMAIL, MAX_NAME
from apps.audit.actions import Action
from apps.audit.services import audit_add
from controlplane.lib import clock
from controlplane.lib.actor import Actor
from controlplane.lib.errors import Conflict, Forbidden
from controlplane.lib.ids import new_id
from controlplane.nosql.listing import search_key
from controlplane.nosql.transaction import Transaction, TransactionFailed


def identity_sign_in(identity: ProviderIdentity) -> User:
    """The person with this identity; who comes for the first time is made, with the role that the settings give.

    Whether they may come in is asked every time, so that who has left an organisation stays out. The role is given the
    first time only: later it is what an administrator has made of it.

    Raises Forbidden ``not_allowed``, ``email_unverified`` or ``account_disabled``, Conflict ``email_taken``.
    """
    role = role_allowed(identity)
    if role is None:
        raise Forbidden(
            "This account is not among those who may come in here. An administrator can change that.",
            code="not_allowed",
        )
    user = _known(identity) or _make(identity, role)
    if not user.is_active:
        raise Forbidden("This account is disabled.", code="account_disabled")
    return user


def _known(identity: ProviderIdentity) -> User | None:
    found = Identity.find(identity.key)
    return User.find(found.user_id) if found else None


def _make(identity: ProviderIdentity, role: str) -> User:
    provider = PROVIDERS[identity.provider]
    if identity.email is None or len(identity.email) > MAX_EMAIL:
        raise Forbidden(f"{provider} tells no verified e-mail address of this account.", code="email_unverified")
    email = email_normalise(identity.email)
    name = _name(identity, email)
    now = clock.timestamp(clock.now())
    user = User(
        user_id=new_id(),
        email=email,
        name=name,
        name_key=search_key(name),
        role=role,
        # None that anyone could type.
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
        # Ours, when the answer to the first attempt was lost; or that of the same person in another window.
        standing = _known(identity)
        if standing is None:
            raise Conflict(
                f"Somebody has an account with the address {email} already, and signs in another way. "
                "Accounts are never joined by their addresses.",
                code="email_taken",
            ) from error
        return standing
    return user


def _name(identity: ProviderIdentity, email: str) -> str:
    """What the provider calls them as far as we would take it, or the first part of their address."""
    name = "".join(character for character in identity.name if character.isprintable()).strip()
    return name[:MAX_NAME].strip() or email.partition("@")[0]
