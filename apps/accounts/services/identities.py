"""How people sign in by a provider: the first time, again, and with a second identity."""

from contextlib import suppress

from django.conf import settings
from django.contrib.auth.hashers import is_password_usable

from apps.accounts.identities import (
    PROVIDERS,
    ProviderIdentity,
    email_normalise,
    providers_configured,
    role_allowed,
)
from apps.accounts.models import Identity, User
from apps.accounts.selectors import invitation_by_email, user_by_identity, user_get
from apps.accounts.services.identity_rows import identity_add, identity_name, identity_taken
from apps.accounts.services.invitations import invitation_accept
from apps.accounts.services.users import MAX_EMAIL, user_add, user_new
from apps.audit.actions import Action
from apps.audit.services import audit_add
from controlplane.lib.actor import Actor
from controlplane.lib.error_codes import ErrorCode
from controlplane.lib.errors import Conflict, Forbidden, NotFound
from controlplane.nosql.connection import ConditionFailed
from controlplane.nosql.transaction import Transaction, TransactionFailed

# Of one user. A page lists them all.
MAX_IDENTITIES = 10


def identity_sign_in(identity: ProviderIdentity) -> User:
    """The user whom this identity signs in. The first time it makes the user, by an invitation or by the settings.

    An open invitation of the address that the provider has verified counts before the settings. Invited users may sign
    in until an admin disables them. About all others the settings are asked on every sign-in, so someone who has left
    an organisation cannot sign in any more. They give the role on the first one only: after that, admins change it.

    Raises Forbidden ``not_allowed``, ``email_unverified`` or ``account_disabled``, Conflict ``email_taken``.
    """
    user = user_by_identity(identity.key)
    if user is None:
        return _first_sign_in(identity)
    if not user.invited and role_allowed(identity) is None:
        raise _not_allowed()
    if not user.is_active:
        raise Forbidden("This account is disabled.", code=ErrorCode.ACCOUNT_DISABLED)
    _note(user, identity)
    return user


def _first_sign_in(identity: ProviderIdentity) -> User:
    email = email_normalise(identity.email) if identity.email and len(identity.email) <= MAX_EMAIL else None
    invitation = invitation_by_email(email) if email else None
    if invitation is not None:
        # It may have expired, or have been revoked or accepted a moment ago.
        with suppress(NotFound):
            return invitation_accept(invitation=invitation, identity=identity)
    return user_by_identity(identity.key) or _create(identity, email)


def _note(user: User, identity: ProviderIdentity) -> None:
    """Add the identity to the list of an older user, who has none."""
    if identity.key in (user.identities or ()):
        return
    with suppress(ConditionFailed):
        User(user.user_id).update(actions=[User.identities.add({identity.key})], condition=User.user_id.exists())


def _create(identity: ProviderIdentity, email: str | None) -> User:
    role = role_allowed(identity)
    if role is None:
        raise _not_allowed()
    if email is None:
        raise Forbidden(
            f"{PROVIDERS[identity.provider]} gives no verified e-mail address for this account.",
            code=ErrorCode.EMAIL_UNVERIFIED,
        )
    user = user_new(email=email, name=identity_name(identity, email), role=role, identity=identity.key)
    tx = Transaction()
    user_add(
        tx,
        user,
        actor=Actor("user", user.user_id, user.name),
        detail={"provider": identity.provider, "subject": identity.subject},
    )
    try:
        identity_add(tx, identity, user_id=user.user_id)
        tx.commit()
    except (Conflict, TransactionFailed) as error:
        # Another request of the same person may have been faster.
        existing = user_by_identity(identity.key)
        if existing is None:
            raise Conflict(
                f"There is an account with the address {email} already, and it signs in another way. "
                "Sign in that way, then connect this one on the page “Sign-in” of your account.",
                code=ErrorCode.EMAIL_TAKEN,
            ) from error
        return existing
    return user


def _not_allowed() -> Forbidden:
    return Forbidden(
        "This account is not allowed to sign in here. Ask an administrator to invite you.", code=ErrorCode.NOT_ALLOWED
    )


def identity_link(*, actor: Actor, identity: ProviderIdentity) -> None:
    """Let a provider's identity sign in the actor, a user, beside what does already. Their sessions go on.

    An identity that does so already changes nothing. The settings must allow it unless the user was invited, since
    they are asked on every sign-in with it.

    Raises Forbidden for an actor who is no user, Forbidden ``not_allowed`` or ``account_disabled``, Conflict
    ``identity_taken`` or ``too_many_identities``.
    """
    user = _own(actor)
    if not user.invited and role_allowed(identity) is None:
        raise Forbidden(
            f"The settings do not allow this {PROVIDERS[identity.provider]} account to sign in here. Choose another.",
            code=ErrorCode.NOT_ALLOWED,
        )
    owner = user_by_identity(identity.key)
    if owner is not None and owner.user_id == user.user_id:
        _note(user, identity)
        return
    tx = Transaction()
    identity_add(tx, identity, user_id=user.user_id)
    tx.update(
        "user",
        User(user.user_id),
        actions=[User.identities.add({identity.key})],
        condition=User.may_link(at_most=MAX_IDENTITIES),
    )
    audit_add(
        tx,
        actor=actor,
        action=Action.IDENTITY_LINKED,
        target=f"user:{user.user_id}",
        detail={"provider": identity.provider, "subject": identity.subject, "email": identity.email},
    )
    try:
        tx.commit()
    except TransactionFailed as error:
        raise _link_refusal(error, identity) from error


def _link_refusal(error: TransactionFailed, identity: ProviderIdentity) -> Conflict | Forbidden:
    if "identity" in error.failed:
        return identity_taken(identity.provider)
    user = error.failed["user"]
    if isinstance(user, User) and user.is_active:
        return Conflict(
            f"You can connect at most {MAX_IDENTITIES} accounts. Disconnect one first.",
            code=ErrorCode.TOO_MANY_IDENTITIES,
        )
    return Forbidden("This account is disabled.", code=ErrorCode.ACCOUNT_DISABLED)


def identity_unlink(*, actor: Actor, key: str) -> None:
    """Take from an identity of the actor, a user, that it signs them in. Their sessions go on.

    Raises Forbidden for an actor who is no user, NotFound ``identity_not_found``, Conflict ``last_way_in`` if they
    could not sign in any more.
    """
    user = _own(actor)
    if key not in (user.identities or ()):
        raise _not_linked()
    tx = Transaction()
    tx.delete("identity", Identity(key), condition=Identity.user_id == user.user_id)
    tx.update(
        "user",
        User(user.user_id),
        actions=[User.identities.delete({key})],
        condition=User.identities.contains(key) & _remaining(user, key),
    )
    provider, _, subject = key.partition("#")
    audit_add(
        tx,
        actor=actor,
        action=Action.IDENTITY_UNLINKED,
        target=f"user:{user.user_id}",
        detail={"provider": provider, "subject": subject},
    )
    try:
        tx.commit()
    except TransactionFailed as error:
        current = error.failed.get("user")
        if isinstance(current, User) and key in (current.identities or ()):
            raise _last_way_in() from error
        raise _not_linked() from error


def _remaining(user: User, without: str) -> object:
    """The condition that a way to sign in remains. Raises Conflict ``last_way_in`` if there is none."""
    if password_counts(user):
        return User.password == user.password
    configured = providers_configured()
    for key in sorted(user.identities or ()):
        if key != without and key.partition("#")[0] in configured:
            return User.identities.contains(key)
    raise _last_way_in()


def password_counts(user: User) -> bool:
    """Whether the user can sign in with a password."""
    return bool(settings.PASSWORD_SIGN_IN and is_password_usable(user.password))


def _own(actor: Actor) -> User:
    """The user that the actor is. Raises Forbidden for an API token and others."""
    user = user_get(actor.id) if actor.kind == "user" else None
    if user is None:
        raise Forbidden("Only a user can change how they sign in.")
    return user


def _not_linked() -> NotFound:
    return NotFound("This account is not connected any more.", code=ErrorCode.IDENTITY_NOT_FOUND)


def _last_way_in() -> Conflict:
    return Conflict("You could not sign in any more. Connect another account first.", code=ErrorCode.LAST_WAY_IN)
