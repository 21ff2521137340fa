"""Users' own passwords."""

from django.conf import settings
from django.contrib.auth.hashers import is_password_usable, verify_password

from apps.accounts.models import User
from apps.accounts.selectors import user_get
from apps.accounts.services.rate_limits import password_change_reserve
from apps.accounts.services.users import MAX_PASSWORD, password_hashed
from apps.audit.actions import Action
from apps.audit.services import audit_add
from controlplane.lib.actor import Actor
from controlplane.lib.error_codes import ErrorCode
from controlplane.lib.errors import Conflict, Forbidden, InvalidInput
from controlplane.nosql.transaction import Transaction, TransactionFailed


def user_password_change(*, actor: Actor, old_password: str, password: str) -> User:
    """Give the actor, a user, a new password in place of `old_password`; all their sessions end at once.

    Returns the user as this has written them, by whom the caller can let the session of the request go on. Who has no
    password gets the first one from an admin: without an old one, a session that was taken over would be enough to
    make a way to sign in that outlasts it.

    Raises Forbidden for an actor who is no user, Forbidden ``password_sign_in_off``, InvalidInput (field
    "old_password" or "password"), Conflict if the user has no password, Conflict ``changed_meanwhile``,
    TooManyRequests after too many wrong old passwords.
    """
    user = _own(actor)
    # Before the attempt is counted: a new password that is too short is no guess at the old one.
    hashed = password_hashed(password)
    attempt = password_change_reserve(email=user.email)
    if len(old_password) > MAX_PASSWORD or not verify_password(old_password, user.password)[0]:
        raise InvalidInput.field("old_password", "must be your current password")
    attempt.give_back()
    epoch = int(user.session_epoch)
    tx = Transaction()
    tx.update(
        "user",
        User(user.user_id),
        actions=[User.password.set(hashed), User.session_epoch.set(epoch + 1), User.revision.add(1)],
        # Of a session that has ended meanwhile, none may go on.
        condition=(User.password == user.password) & (User.session_epoch == epoch) & (User.is_active == True),  # noqa: E712 — an expression, not a comparison
    )
    audit_add(tx, actor=actor, action=Action.USER_PASSWORD_SET, target=f"user:{user.user_id}")
    try:
        tx.commit()
    except TransactionFailed as error:
        raise Conflict(
            "Your account was changed meanwhile. Load the page again.", code=ErrorCode.CHANGED_MEANWHILE
        ) from error
    user.password, user.session_epoch = hashed, epoch + 1
    return user


def _own(actor: Actor) -> User:
    """The user that the actor is, if they have a password that signs them in."""
    user = user_get(actor.id) if actor.kind == "user" else None
    if user is None:
        raise Forbidden("Only a user can change their password.")
    if not settings.PASSWORD_SIGN_IN:
        raise Forbidden(
            "Signing in with a password is switched off. Sign in with a provider.", code=ErrorCode.PASSWORD_SIGN_IN_OFF
        )
    if not is_password_usable(user.password):
        raise Conflict("You have no password. Ask an administrator to set one.")
    return user
