"""Invitations: an admin invites an address, and the first person who proves to have it or the link becomes a user."""

from datetime import timedelta
from typing import Any

from apps.accounts.identities import ProviderIdentity
from apps.accounts.models import (
    AccountClaim,
    Invitation,
    User,
    invitation_key,
    invitation_token_new,
    secret_hash,
)
from apps.accounts.policies import account_manager_roles, accounts_manage_require
from apps.accounts.selectors import invitation_by_email
from apps.accounts.selectors.invitations import invitation_invalid
from apps.accounts.services.identity_rows import identity_add, identity_name, identity_taken
from apps.accounts.services.users import (
    email_checked,
    email_taken,
    name_checked,
    password_hashed,
    role_checked,
    user_add,
    user_new,
)
from apps.audit.actions import Action
from apps.audit.services import audit_add
from controlplane.lib import clock
from controlplane.lib.actor import Actor
from controlplane.lib.error_codes import ErrorCode
from controlplane.lib.errors import ApplicationError, Conflict, NotFound
from controlplane.lib.ids import new_id
from controlplane.nosql.transaction import Transaction, TransactionFailed

LIFETIME = timedelta(days=7)
# So often an invitation is made anew when another one of the same address comes first.
_ATTEMPTS = 5


def invitation_create(*, email: str, role: str, actor: Actor) -> tuple[Invitation, str]:
    """Invite an address; returns the invitation with its token, which is not stored and cannot be shown again.

    It is valid for LIFETIME. An earlier invitation of the address ends.

    Raises Forbidden without the permission ``accounts.manage``, InvalidInput (field "email" or "role"), Conflict
    ``email_taken`` if the address has a user.
    """
    accounts_manage_require(actor)
    email, role = email_checked(email), role_checked(role)
    for _ in range(_ATTEMPTS):
        earlier = invitation_by_email(email)
        invitation, token = _new(email, role, actor)
        try:
            _creation(invitation, earlier, actor).commit()
        except TransactionFailed as error:
            if "claim" in error.failed:
                raise email_taken() from error
        else:
            return invitation, token
    raise Conflict("Others are inviting this address. Look at the list.", code=ErrorCode.CHANGED_MEANWHILE)


def _new(email: str, role: str, actor: Actor) -> tuple[Invitation, str]:
    token = invitation_token_new(email)
    now = clock.now()
    invitation = Invitation(
        invitation_key(email),
        token_hash=secret_hash(token),
        invitation_id=new_id(),
        email=email,
        role=role,
        invited_by=actor.person_id,
        inviter_name=actor.name,
        created_at=clock.timestamp(now),
        # DynamoDB's TTL has whole seconds.
        expires_at=(now + LIFETIME).replace(microsecond=0),
    )
    return invitation, token


def _creation(invitation: Invitation, earlier: Invitation | None, actor: Actor) -> Transaction:
    tx = Transaction()
    tx.check("claim", AccountClaim(AccountClaim.of_email(invitation.email)), AccountClaim.claim.does_not_exist())
    tx.put("invitation", invitation, _same(earlier) if earlier else None)
    audit_add(
        tx,
        actor=actor,
        action=Action.INVITATION_CREATED,
        target=f"invitation:{invitation.invitation_id}",
        detail={
            "email": invitation.email,
            "role": invitation.role,
            "expires_at": clock.timestamp(invitation.expires_at),
            "replaces": earlier.invitation_id if earlier else None,
        },
    )
    return tx


def invitation_revoke(*, invitation: Invitation, actor: Actor) -> None:
    """Delete an invitation, so that its link is refused at once.

    For one that is revoked, replaced or accepted already this writes nothing, and no audit event.
    Raises Forbidden without the permission ``accounts.manage``.
    """
    accounts_manage_require(actor)
    tx = Transaction()
    tx.delete("invitation", Invitation(invitation.address_key), condition=_same(invitation))
    audit_add(
        tx,
        actor=actor,
        action=Action.INVITATION_REVOKED,
        target=f"invitation:{invitation.invitation_id}",
        detail={"email": invitation.email},
    )
    try:
        tx.commit()
    except TransactionFailed as error:
        if "invitation" not in error.failed:
            raise


def invitation_accept_password(*, invitation: Invitation, name: str, password: str) -> User:
    """Make the invited user, who signs in with this password. `invitation` is one whose token the person has shown.

    Raises InvalidInput (field "name" or "password"), and what `invitation_accept` raises.
    """
    user = user_new(
        email=invitation.email,
        name=name_checked(name),
        role=invitation.role,
        password=password_hashed(password),
        invited=True,
    )
    return _accept(invitation, user, identity=None)


def invitation_accept(*, invitation: Invitation, identity: ProviderIdentity) -> User:
    """Make the invited user, whom this identity signs in.

    The person has shown the invitation's token, or the provider has verified the invited address for them. The user
    has the invited address, whatever the provider's is.

    Raises NotFound ``invitation_invalid``, also if the inviter is no active admin any more, Conflict ``email_taken`` or
    ``identity_taken``.
    """
    user = user_new(
        email=invitation.email,
        name=identity_name(identity, invitation.email),
        role=invitation.role,
        invited=True,
        identity=identity.key,
    )
    return _accept(invitation, user, identity=identity)


def _accept(invitation: Invitation, user: User, *, identity: ProviderIdentity | None) -> User:
    actor = Actor("user", user.user_id, user.name)
    how = {"provider": identity.provider, "subject": identity.subject} if identity else {"provider": "password"}
    tx = Transaction()
    tx.delete(
        "invitation",
        Invitation(invitation.address_key),
        condition=_same(invitation) & (Invitation.expires_at > clock.now()),
    )
    if invitation.invited_by is not None:
        # Somebody who was an admin must not come back by an invitation of before.
        tx.check("inviter", User(invitation.invited_by), User.is_one_of(account_manager_roles()))
    user_add(tx, user, actor=actor, detail={**how, "invitation": invitation.invitation_id})
    if identity is not None:
        identity_add(tx, identity, user_id=user.user_id)
    audit_add(
        tx,
        actor=actor,
        action=Action.INVITATION_ACCEPTED,
        target=f"invitation:{invitation.invitation_id}",
        detail={
            "email": invitation.email,
            "user": user.user_id,
            "invited_by": invitation.invited_by,
            **how,
            "provider_email": identity.email if identity else None,
        },
        label="audit-invitation",
    )
    try:
        tx.commit()
    except TransactionFailed as error:
        raise _refusal(error, invitation, identity) from error
    return user


def _refusal(error: TransactionFailed, invitation: Invitation, identity: ProviderIdentity | None) -> ApplicationError:
    if "invitation" in error.failed:
        return invitation_invalid()
    if "inviter" in error.failed:
        return NotFound(
            f"{invitation.inviter_name}, who made this invitation, is no longer an admin. Ask for a new one.",
            code=ErrorCode.INVITATION_INVALID,
        )
    if "identity" in error.failed and identity is not None:
        return identity_taken(identity.provider)
    return email_taken()


def _same(invitation: Invitation) -> Any:
    """The condition that the address still has this invitation, and no later one."""
    return Invitation.token_hash == invitation.token_hash
