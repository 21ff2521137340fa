"""Sessions: beginning and ending them, each act in one transaction with its record."""

import re
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime

from django.conf import settings
from django.contrib.auth import BACKEND_SESSION_KEY, HASH_SESSION_KEY, SESSION_KEY
from django.utils.crypto import constant_time_compare

from apps.accounts.models import Session, User, UserFacade, secret_hash
from apps.accounts.policies import Permission, permission_require, role_permissions
from apps.accounts.selectors import session_list
from apps.accounts.session_rows import session_rows
from apps.accounts.session_store import SIGN_IN_KEY, SessionStore, session_touch, token_owner
from apps.audit.actions import Action
from apps.audit.services import audit_add
from controlplane.lib import clock
from controlplane.lib.actor import Actor
from controlplane.lib.errors import NotAuthenticated, NotFound, Unavailable
from controlplane.nosql.transaction import Transaction, TransactionFailed

_TOKEN = re.compile(r"[a-z0-9]{32}(\.[0-9a-z]{26})?")


def session_start(
    *,
    user: User,
    provider: str,
    device: str | None,
    address: str,
    region: str | None = None,
    subject: str | None = None,
) -> SessionStore:
    """Sign a person in: make a new session of theirs. Its `session_key` is the token, which is kept nowhere.

    `subject` is the id that the provider knows them by, told again to who asks about the session.
    Raises NotAuthenticated ``account_disabled`` if the person was disabled in this very moment.
    """
    session = SessionStore()
    session[SESSION_KEY] = user.user_id
    session[BACKEND_SESSION_KEY] = settings.AUTHENTICATION_BACKENDS[0]
    session[HASH_SESSION_KEY] = UserFacade.from_record(user).get_session_auth_hash()
    sign_in = {"provider": provider, "subject": subject, "device": device, "address": address, "region": region}
    session[SIGN_IN_KEY] = {name: value for name, value in sign_in.items() if value is not None}
    row = session.prepare()
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
        session_rows().commit(tx, add=row)
    except TransactionFailed as error:
        if "user" in error.failed:
            raise NotAuthenticated("This account is disabled.", code="account_disabled") from error
        # Only what we write ourselves can have failed then, and it does so when it stands there: the answer was lost.
    session.wrote(row)
    return session


@dataclass(frozen=True)
class VerifiedSession:
    """A session that holds, with its person as they are now."""

    session_id: str
    device_id: str
    user: User
    provider: str | None
    subject: str | None
    expires_at: datetime

    @property
    def actor(self) -> Actor:
        """The person, with what their role allows now."""
        return Actor("user", self.user.user_id, self.user.name, frozenset(role_permissions(self.user.role)))


def session_token_shaped(token: str) -> bool:
    """Whether a text can be the token of a session at all; API tokens can't."""
    return _TOKEN.fullmatch(token) is not None


def session_verify(token: str, *, use: bool) -> VerifiedSession:
    """Whose session a token is. One call, whether it holds or not; nothing is remembered, so that what ends it ends it.

    With `use` it counts as use of the session, which keeps it from ending idle and costs a write once a minute at most.

    Raises NotAuthenticated ``session_invalid`` for a token that is unknown, signed out or expired, or whose person was
    disabled, has another password, or signed out everywhere.
    """
    if not session_token_shaped(token):
        raise _invalid()
    row, user = _read(token)
    if row is None or user is None or row.user_id != user.user_id or row.expires_at <= clock.now():
        raise _invalid()
    session = SessionStore()
    data = session.decode(row.data)
    if not user.is_active or not _hash_holds(data.get(HASH_SESSION_KEY, ""), user):
        raise _invalid()
    if use:
        session_touch(row, data)
    return VerifiedSession(row.session_id, row.device_id or "", user, row.provider, row.subject, row.expires_at)


def _read(token: str) -> tuple[Session | None, User | None]:
    owner = token_owner(token)
    if owner:
        return session_rows().find_with_user(secret_hash(token), owner)
    row = session_rows().find(secret_hash(token))
    return row, User.find(row.user_id) if row and row.user_id else None


def _hash_holds(held: str, user: User) -> bool:
    facade = UserFacade.from_record(user)
    known = [facade.get_session_auth_hash(), *facade.get_session_auth_fallback_hash()]
    return any(constant_time_compare(held, each) for each in known)


def _invalid() -> NotAuthenticated:
    return NotAuthenticated("This session is not known, or has ended.", code="session_invalid")


def device_remove(*, actor: Actor, device_id: str) -> None:
    """End the session of the actor's own that has this public id. Raises NotFound."""
    found = next((session for session in session_list(actor.id) if session.device_id == device_id), None)
    if found is None:
        raise NotFound("You are not signed in there.")
    session_revoke(actor=actor, session_id=found.session_id)


def session_logout(token: str) -> None:
    """End the session of this token, which is all that it takes. One that does not hold (any more) changes nothing."""
    try:
        session = session_verify(token, use=False)
    except NotAuthenticated:
        return
    sign_out(actor=session.actor, session_key=token)


def sign_out(*, actor: Actor, session_key: str) -> None:
    """End the session of this token. One that has ended already stays so, and is not recorded again."""
    _end(secret_hash(session_key), actor=actor, action=Action.USER_SIGNED_OUT, target=f"user:{actor.id}")


def session_revoke(*, actor: Actor, session_id: str) -> None:
    """End a session by the hash of its token (`SessionView.session_id`); whoever has the token is out at once.

    One's own needs no permission, another's ``accounts.manage``. Raises Forbidden, NotFound.
    """
    row = session_rows().find(session_id)
    if row is None:
        raise NotFound("There is no such session.")
    if row.user_id is None or row.user_id != actor.id:
        permission_require(actor, Permission.ACCOUNTS_MANAGE)
    _end(
        session_id,
        actor=actor,
        action=Action.SESSION_REVOKED,
        target=f"user:{row.user_id}" if row.user_id else "session:anonymous",
        detail={"session": row.device_id, "device": row.device, "address": row.address},
    )


def sessions_end(*, actor: Actor, user_id: str) -> None:
    """Sign a person out everywhere, at once: every session made before is void from now on.

    One's own needs no permission, another's ``accounts.manage``. Raises Forbidden, NotFound.
    """
    if actor.id != user_id:
        permission_require(actor, Permission.ACCOUNTS_MANAGE)
    tx = Transaction()
    tx.update("user", User(user_id), actions=[User.session_epoch.add(1)], condition=User.user_id.exists())
    audit_add(tx, actor=actor, action=Action.USER_SIGNED_OUT_EVERYWHERE, target=f"user:{user_id}")
    try:
        tx.commit()
    except TransactionFailed as error:
        # Otherwise our own record stands there: the answer to the first attempt was lost.
        if "user" in error.failed:
            raise NotFound("There is no such user.") from error
    # The epoch has ended them; the rows go now or when they expire, also those that the index does not know yet.
    with suppress(Unavailable):
        for row in session_rows().of_user(user_id):
            session_rows().delete(row.session_id)


def _end(
    session_id: str, *, actor: Actor, action: Action, target: str, detail: dict[str, str | int | None] | None = None
) -> None:
    tx = Transaction()
    audit_add(tx, actor=actor, action=action, target=target, detail=detail)
    try:
        session_rows().commit(tx, remove=session_id)
    except TransactionFailed as error:
        if error.failed.get("session") is not None:
            raise
