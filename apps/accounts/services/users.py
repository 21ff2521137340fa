"""Users: creating, changing and disabling them."""

from collections.abc import Mapping, Sequence
from typing import Any

from django.contrib.auth.hashers import make_password, verify_password
from django.contrib.auth.password_validation import validate_password
from django.core.exceptions import ValidationError
from django.core.validators import validate_email

from apps.accounts.identities import email_normalise
from apps.accounts.models import AccountClaim, User
from apps.accounts.policies import ROLES
from apps.accounts.selectors import user_get
from apps.audit.actions import Action
from apps.audit.services import audit_add
from controlplane.lib import clock
from controlplane.lib.actor import Actor
from controlplane.lib.error_codes import ErrorCode
from controlplane.lib.errors import Conflict, InvalidInput, NotFound
from controlplane.lib.ids import new_id
from controlplane.nosql.connection import ConditionFailed
from controlplane.nosql.listing import search_key
from controlplane.nosql.transaction import Transaction, TransactionFailed

MAX_NAME = 100
MAX_EMAIL = 254
# A longer password costs the hasher time and is no safer.
MAX_PASSWORD = 1024


def user_create(*, email: str, password: str, name: str, role: str, actor: Actor) -> User:
    """Create a user. The e-mail address must not be another user's.

    Raises InvalidInput (field "email", "password", "name" or "role"), Conflict ``email_taken``.
    """
    name = _name_checked(name)
    user = User(
        user_id=new_id(),
        email=_email_checked(email),
        name=name,
        name_key=search_key(name),
        role=_role_checked(role),
        password=_password_hashed(password),
        created_at=clock.timestamp(clock.now()),
    )
    claim = AccountClaim(AccountClaim.of_email(user.email), user_id=user.user_id)
    tx = Transaction()
    tx.put("user", user)
    tx.put("claim", claim)
    audit_add(
        tx,
        actor=actor,
        action=Action.USER_CREATED,
        target=f"user:{user.user_id}",
        detail={"email": user.email, "role": role},
    )
    try:
        tx.commit()
    except TransactionFailed as error:
        raise Conflict("There is a user with this e-mail address already.", code=ErrorCode.EMAIL_TAKEN) from error
    return user


def user_disable(*, user_id: str, actor: Actor) -> None:
    """Disable a user: sessions end at once, API tokens are refused within 30 seconds.

    For a user who is disabled already this writes nothing, and no audit event. Raises NotFound.
    """
    tx = Transaction()
    tx.update(
        "user",
        User(user_id),
        actions=[User.is_active.set(False), User.session_epoch.add(1), User.revision.add(1)],
        condition=User.user_id.exists() & (User.is_active == True),  # noqa: E712 — an expression, not a comparison
    )
    audit_add(tx, actor=actor, action=Action.USER_DISABLED, target=f"user:{user_id}")
    try:
        tx.commit()
    except TransactionFailed as error:
        if error.failed.get("user") is None:
            raise NotFound("There is no such user.", code=ErrorCode.USER_NOT_FOUND) from error


def user_update(*, user_id: str, name: str, role: str, is_active: bool, revision: int, actor: Actor) -> User:
    """Change a user whom `actor` has read at `revision`. Disabling has the effects of `user_disable`.

    Raises InvalidInput (field "name" or "role"), NotFound, Conflict ``changed_meanwhile`` if the user was changed since
    then, Conflict ``own_account`` if the actor would disable themselves or change their own role.
    """
    name = _name_checked(name)
    role = _role_checked(role)
    existing = _existing(user_id)
    if int(existing.revision) != revision:
        raise _changed_meanwhile()
    if actor.id == user_id and (not is_active or role != existing.role):
        raise Conflict(
            "You cannot disable yourself or change your own role. Ask another administrator.",
            code=ErrorCode.OWN_ACCOUNT,
        )
    wanted = {"name": name, "role": role, "is_active": is_active}
    changes = {member: value for member, value in wanted.items() if getattr(existing, member) != value}
    if not changes:
        return existing
    actions = [getattr(User, member).set(value) for member, value in changes.items()]
    actions += [User.name_key.set(search_key(name)), User.revision.set(revision + 1)]
    if existing.is_active and not is_active:
        actions.append(User.session_epoch.add(1))
    _user_write(
        user_id,
        actions,
        revision=revision,
        actor=actor,
        action=Action.USER_CHANGED,
        detail={member: str(value) for member, value in changes.items()},
    )
    return _existing(user_id)


def user_password_set(*, user_id: str, password: str, revision: int, actor: Actor) -> User:
    """Give a user whom `actor` has read at `revision` a new password; all their sessions end at once.

    Raises InvalidInput (field "password"), NotFound, Conflict ``changed_meanwhile``.
    """
    actions = [
        User.password.set(_password_hashed(password)),
        User.session_epoch.add(1),
        User.revision.set(revision + 1),
    ]
    _user_write(user_id, actions, revision=revision, actor=actor, action=Action.USER_PASSWORD_SET)
    return _existing(user_id)


def user_password_rehash(*, user: User, password: str) -> None:
    """Hash the password, which the user has just signed in with, by today's hasher if it is hashed by an older one.

    `user` gets the hash that counts now, since it is part of a session's hash. The password stays the same, so this is
    no audit event. Raises NotFound when the user was deleted meanwhile.
    """
    if not verify_password(password, user.password)[1]:
        return
    renewed = make_password(password)
    try:
        User(user.user_id).update(actions=[User.password.set(renewed)], condition=User.password == user.password)
    except ConditionFailed:
        # Another sign-in or a new password came first, or this write was repeated after a lost response.
        user.password = _existing(user.user_id).password
    else:
        user.password = renewed


def _user_write(
    user_id: str,
    actions: Sequence[Any],
    *,
    revision: int,
    actor: Actor,
    action: Action,
    detail: Mapping[str, str] | None = None,
) -> None:
    tx = Transaction()
    tx.update("user", User(user_id), actions=actions, condition=User.revision == revision)
    audit_add(tx, actor=actor, action=action, target=f"user:{user_id}", detail=detail)
    try:
        tx.commit()
    except TransactionFailed as error:
        if error.failed.get("user") is None:
            raise NotFound("There is no such user.", code=ErrorCode.USER_NOT_FOUND) from error
        raise _changed_meanwhile() from error


def _existing(user_id: str) -> User:
    user = user_get(user_id)
    if user is None:
        raise NotFound("There is no such user.", code=ErrorCode.USER_NOT_FOUND)
    return user


def _changed_meanwhile() -> Conflict:
    return Conflict("This user was changed after you opened it. Load it again.", code=ErrorCode.CHANGED_MEANWHILE)


def _email_checked(email: str) -> str:
    email = email_normalise(email)
    if len(email) > MAX_EMAIL:
        raise InvalidInput.field("email", f"must have at most {MAX_EMAIL} characters")
    try:
        validate_email(email)
    except ValidationError as error:
        raise InvalidInput.field("email", "must be an e-mail address") from error
    return email


def _name_checked(name: str) -> str:
    name = name.strip()
    if not 1 <= len(name) <= MAX_NAME or not name.isprintable():
        raise InvalidInput.field("name", f"must have 1 to {MAX_NAME} printable characters")
    return name


def _role_checked(role: str) -> str:
    if role not in ROLES:
        raise InvalidInput.field("role", f"must be one of {', '.join(ROLES)}")
    return role


def _password_hashed(password: str) -> str:
    if len(password) > MAX_PASSWORD:
        raise InvalidInput.field("password", f"must have at most {MAX_PASSWORD} characters")
    try:
        validate_password(password)
    except ValidationError as error:
        raise InvalidInput.field("password", " ".join(error.messages)) from error
    return make_password(password)
