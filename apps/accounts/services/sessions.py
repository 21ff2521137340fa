"""Sessions: beginning and ending them, each in one transaction with its audit event."""

from contextlib import suppress
from datetime import datetime

from django.conf import settings
from django.contrib.auth import BACKEND_SESSION_KEY, HASH_SESSION_KEY, SESSION_KEY

from apps.accounts.identities import ProviderIdentity
from apps.accounts.models import (
    Session,
    User,
    UserFacade,
    secret_hash,
    session_data_decode,
    session_signs_in,
    session_token_new,
    session_token_shaped,
)
from apps.accounts.policies import Permission, permission_require, role_permissions
from apps.accounts.selectors import session_find, session_find_by_device, session_find_with_user
from apps.accounts.services.identity_rows import identity_name
from apps.accounts.services.session_data import SIGN_IN_KEY, UserInfo, session_make, session_touch
from apps.accounts.services.session_rows import session_rows
from apps.audit.actions import Action
from apps.audit.services import audit_add
from controlplane.lib import clock
from controlplane.lib.actor import Actor
from controlplane.lib.error_codes import ErrorCode
from controlplane.lib.errors import NotAuthenticated, NotFound
from controlplane.lib.frozen import frozen
from controlplane.lib.work import session_note
from controlplane.nosql.transaction import Transaction, TransactionFailed


@frozen
class StartedSession:
    """A new session and its token, which is not stored and cannot be shown again."""

    token: str
    session: Session


def session_start(
    *,
    user: User,
    provider: str,
    device: str | None,
    address: str,
    region: str | None = None,
    subject: str | None = None,
    identity: ProviderIdentity | None = None,
) -> StartedSession:
    """Sign a user in: make a new session of theirs.

    `subject` is the provider's id for the user, which `session_verify` returns. `identity` is what the
    provider says about the user, for the session's `user_info`; without it that is what the account says.
    Raises NotAuthenticated ``account_disabled`` if the user has been disabled since `user` was read.
    """
    sign_in = {"provider": provider, "subject": subject, "device": device, "address": address, "region": region}
    token = session_token_new(user.user_id)
    session = session_make(
        token=token,
        data={
            SESSION_KEY: user.user_id,
            BACKEND_SESSION_KEY: settings.AUTHENTICATION_BACKENDS[0],
            HASH_SESSION_KEY: UserFacade.from_record(user).get_session_auth_hash(),
            SIGN_IN_KEY: {name: value for name, value in sign_in.items() if value is not None},
        },
        user_info=_user_info(user, identity),
    )
    session_note(session.device_id)
    tx = Transaction()
    tx.update(
        "user",
        User(user.user_id),
        actions=[User.last_login_at.set(clock.timestamp(clock.now()))],
        condition=User.user_id.exists() & (User.is_active == True),  # noqa: E712 — an expression, not a comparison
    )
    audit_add(
        tx,
        actor=Actor("user", user.user_id, user.name),
        action=Action.USER_SIGNED_IN,
        target=f"user:{user.user_id}",
        detail={"provider": provider, "address": address, "device": device},
    )
    try:
        session_rows().commit(tx, add=session)
    except TransactionFailed as error:
        raise NotAuthenticated("This account is disabled.", code=ErrorCode.ACCOUNT_DISABLED) from error
    return StartedSession(token, session)


def _user_info(user: User, identity: ProviderIdentity | None) -> UserInfo:
    if identity is None:
        return {"email": user.email, "name": user.name, "picture": None}
    email = identity.email or user.email
    return {"email": email, "name": identity_name(identity, email), "picture": identity.picture}


@frozen
class VerifiedSession:
    """A valid session, with its user as they are now."""

    token_hash: str
    device_id: str
    user: User
    provider: str | None
    subject: str | None
    expires_at: datetime

    @property
    def actor(self) -> Actor:
        """The user, with what their role allows now."""
        return Actor("user", self.user.user_id, self.user.name, frozenset(role_permissions(self.user.role)))


def session_verify(token: str, *, use: bool) -> VerifiedSession:
    """The session of a token. It costs one call, valid or not; nothing is cached, so a session ends everywhere at once.

    With `use` it counts as use of the session, which moves its end and costs a write once a minute at most.

    Raises NotAuthenticated ``session_invalid`` for a token that is unknown, signed out or expired, or whose user was
    disabled, has another password, or signed out everywhere.
    """
    if not session_token_shaped(token):
        raise _invalid()
    session, user = session_find_with_user(token)
    if session is None or user is None or not session_signs_in(session, user, now=clock.now()):
        raise _invalid()
    session_note(session.device_id)
    if use:
        session_touch(session=session, data=session_data_decode(session.data))
    return VerifiedSession(
        session.token_hash, session.device_id or "", user, session.provider, session.subject, session.expires_at
    )


def _invalid() -> NotAuthenticated:
    return NotAuthenticated(
        "This session is unknown or has ended. Please sign in again.", code=ErrorCode.SESSION_INVALID
    )


def device_remove(*, actor: Actor, device_id: str) -> None:
    """End the actor's own session that has this public id, which costs three calls. Raises NotFound."""
    session = session_find_by_device(actor.id, device_id)
    if session is None or session.expires_at <= clock.now():
        raise NotFound("You are not signed in there.", code=ErrorCode.SESSION_NOT_FOUND)
    _revoke(session, actor=actor)


def session_logout(token: str) -> None:
    """End the session of this token, which is all that it takes. A token that is not valid changes nothing."""
    try:
        session = session_verify(token, use=False)
    except NotAuthenticated:
        return
    sign_out(actor=session.actor, token=token)


def sign_out(*, actor: Actor, token: str) -> None:
    """End the session of this token. For one that has ended already this writes nothing, and no audit event."""
    _end(secret_hash(token), actor=actor, action=Action.USER_SIGNED_OUT, target=f"user:{actor.id}")


def session_revoke(*, actor: Actor, token_hash: str) -> None:
    """End a session by the hash of its token, at once.

    One's own needs no permission, another's ``accounts.manage``. Raises Forbidden, NotFound.
    """
    session = session_find(token_hash)
    if session is None:
        raise NotFound("There is no such session.", code=ErrorCode.SESSION_NOT_FOUND)
    if session.user_id is None or session.user_id != actor.id:
        permission_require(actor, Permission.ACCOUNTS_MANAGE)
    _revoke(session, actor=actor)


def sessions_end(*, actor: Actor, user_id: str) -> None:
    """Sign a user out everywhere: every session made before now ends at once.

    One transaction, however many sessions there are: their rows no longer open anything and go when they expire. One's
    own needs no permission, another's ``accounts.manage``. Raises Forbidden, NotFound.
    """
    if actor.id != user_id:
        permission_require(actor, Permission.ACCOUNTS_MANAGE)
    tx = Transaction()
    tx.update(
        "user",
        User(user_id),
        actions=[User.session_epoch.add(1), User.sessions_ended_at.set(clock.timestamp(clock.now()))],
        condition=User.user_id.exists(),
    )
    audit_add(tx, actor=actor, action=Action.USER_SIGNED_OUT_EVERYWHERE, target=f"user:{user_id}")
    try:
        tx.commit()
    except TransactionFailed as error:
        raise NotFound("There is no such user.", code=ErrorCode.USER_NOT_FOUND) from error


def _revoke(session: Session, *, actor: Actor) -> None:
    _end(
        session.token_hash,
        actor=actor,
        action=Action.SESSION_REVOKED,
        target=f"user:{session.user_id}" if session.user_id else "session:anonymous",
        detail={"session": session.device_id, "device": session.device, "address": session.address},
    )


def _end(
    token_hash: str, *, actor: Actor, action: Action, target: str, detail: dict[str, str | int | None] | None = None
) -> None:
    tx = Transaction()
    audit_add(tx, actor=actor, action=action, target=target, detail=detail)
    # It fails only if another request has ended the session, and written the audit event.
    with suppress(TransactionFailed):
        session_rows().commit(tx, remove=token_hash)
