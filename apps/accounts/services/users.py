"""Users: creating, changing, disabling and deleting them."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any

from django.contrib.auth.hashers import make_password, verify_password
from django.contrib.auth.password_validation import validate_password
from django.core.exceptions import ValidationError
from django.core.validators import validate_email

from apps.accounts.identities import email_normalise
from apps.accounts.models import AccountClaim, ApiToken, Identity, User
from apps.accounts.policies import ROLES, account_manager_roles, accounts_manage_require
from apps.accounts.selectors import api_token_list, user_get
from apps.audit.actions import Action
from apps.audit.services import audit_add, changes_detail
from controlplane.lib import clock
from controlplane.lib.actor import Actor
from controlplane.lib.error_codes import ErrorCode
from controlplane.lib.errors import Conflict, InvalidInput, NotFound, Unavailable
from controlplane.lib.ids import new_id
from controlplane.nosql.connection import ConditionFailed
from controlplane.nosql.listing import search_key
from controlplane.nosql.transaction import Transaction, TransactionFailed

MAX_NAME = 100
MAX_EMAIL = 254
# A longer password costs the hasher time and is no safer.
MAX_PASSWORD = 1024
# So often a change that names no revision is made anew when another one comes first.
_ATTEMPTS = 5


def user_create(*, email: str, password: str, name: str, role: str, actor: Actor) -> User:
    """Create a user with a password. The e-mail address must not be another user's.

    Raises Forbidden without the permission ``accounts.manage``, InvalidInput (field "email", "password", "name" or
    "role"), Conflict ``email_taken``.
    """
    accounts_manage_require(actor)
    user = user_new(
        email=email_checked(email),
        name=name_checked(name),
        role=role_checked(role),
        password=password_hashed(password),
        invited=True,
    )
    tx = Transaction()
    user_add(tx, user, actor=actor)
    try:
        tx.commit()
    except TransactionFailed as error:
        raise email_taken() from error
    return user


def user_check_add(tx: Transaction, user: User, *, label: str) -> None:
    """Have the transaction fail, with this label, unless the user is still active and has the role that was read."""
    tx.check(label, User(user.user_id), User.is_one_of([str(user.role)]))


def user_new(
    *, email: str, name: str, role: str, password: str | None = None, invited: bool = False, identity: str | None = None
) -> User:
    """A user who is not stored yet, of checked values. `password` is a hash; without one, no password is right.

    `identity` is the key of the identity that signs the user in.
    """
    return User(
        user_id=new_id(),
        email=email,
        name=name,
        name_key=search_key(name),
        role=role,
        # No text matches this one.
        password=password or make_password(None),
        identities={identity} if identity else None,
        invited=invited,
        created_at=clock.timestamp(clock.now()),
    )


def user_add(tx: Transaction, user: User, *, actor: Actor, detail: Mapping[str, str | None] | None = None) -> None:
    """Add a new user, the claim on the address (label "claim") and the audit event to the transaction.

    The claim fails if another user has the address.
    """
    tx.put("user", user)
    tx.put("claim", AccountClaim(AccountClaim.of_email(user.email), user_id=user.user_id))
    audit_add(
        tx,
        actor=actor,
        action=Action.USER_CREATED,
        target=f"user:{user.user_id}",
        detail={"email": user.email, "role": user.role, **(detail or {})},
    )


def user_disable(*, user_id: str, actor: Actor) -> None:
    """Disable a user: their sessions end and their API tokens are refused at once.

    For a user who is disabled already this writes nothing, and no audit event.
    Raises Forbidden without the permission ``accounts.manage``, NotFound, Conflict ``own_account`` for the actor's own
    account, Conflict ``last_admin``.
    """
    accounts_manage_require(actor)
    if actor.person_id == user_id:
        raise Conflict("You cannot disable yourself. Ask another administrator.", code=ErrorCode.OWN_ACCOUNT)
    actions = [User.is_active.set(False), User.session_epoch.add(1), User.revision.add(1)]

    def disable(user: User) -> None:
        if user.is_active:
            _user_write(user, actions, actor=actor, action=Action.USER_DISABLED, leaves=True)

    _as_they_are(user_id, disable)


def user_update(*, user_id: str, name: str, role: str, is_active: bool, revision: int, actor: Actor) -> User:
    """Change a user whom `actor` has read at `revision`. Disabling has the effects of `user_disable`.

    Raises Forbidden without the permission ``accounts.manage``, InvalidInput (field "name" or "role"), NotFound,
    Conflict ``changed_meanwhile`` if the user was changed since then, Conflict ``own_account`` if the actor would
    disable themselves or change their own role, Conflict ``last_admin`` if no active admin would remain.
    """
    accounts_manage_require(actor)
    name = name_checked(name)
    role = role_checked(role)
    existing = _existing_at(user_id, revision)
    if actor.person_id == user_id and (not is_active or role != existing.role):
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
        existing,
        actions,
        actor=actor,
        action=Action.USER_CHANGED,
        detail=changes_detail({member: getattr(existing, member) for member in changes}, changes),
        leaves=not (is_active and role in account_manager_roles()),
    )
    return _existing(user_id)


def user_password_set(*, user_id: str, password: str, revision: int, actor: Actor) -> User:
    """Give a user whom `actor` has read at `revision` a new password; all their sessions end at once.

    Raises Forbidden without the permission ``accounts.manage``, InvalidInput (field "password"), NotFound, Conflict
    ``changed_meanwhile``.
    """
    accounts_manage_require(actor)
    actions = [
        User.password.set(password_hashed(password)),
        User.session_epoch.add(1),
        User.revision.set(revision + 1),
    ]
    _user_write(_existing_at(user_id, revision), actions, actor=actor, action=Action.USER_PASSWORD_SET)
    return _existing(user_id)


def user_delete(*, user_id: str, actor: Actor) -> None:
    """Delete a user with everything by which they sign in: their sessions and API tokens end at once.

    Audit events keep their name, and the address can be invited again. A user who is deleted already is an error.

    Raises Forbidden without the permission ``accounts.manage``, NotFound, Conflict ``own_account`` for the actor's own
    account, Conflict ``last_admin``, Conflict ``changed_meanwhile`` if others keep changing the user.
    """
    accounts_manage_require(actor)
    if actor.person_id == user_id:
        raise Conflict("You cannot delete yourself. Ask another administrator.", code=ErrorCode.OWN_ACCOUNT)

    def delete(user: User) -> None:
        # A cold start does not load this rule.
        from apps.accounts.services.last_admin import admin_remaining_commit

        try:
            admin_remaining_commit(lambda: _deletion(user, actor), leaving=user, actor=actor)
        except TransactionFailed as error:
            raise _ChangedMeanwhile from error

    try:
        _as_they_are(user_id, delete)
    except NotFound:
        # The deletion that came first may have left the tokens.
        _tokens_delete(user_id)
        raise
    _tokens_delete(user_id)


def _tokens_delete(user_id: str) -> None:
    """Delete the tokens of a deleted user. They are refused anyway, and the user's sessions are until they expire."""
    with suppress(Unavailable):
        for token in api_token_list(user_id):
            ApiToken(token.token_hash).delete()


def _deletion(user: User, actor: Actor) -> Transaction:
    """The user with the claim and the identities that are theirs, if these are there: backups may lack one."""
    tx = Transaction()
    same = User.identities == user.identities if user.identities else User.identities.does_not_exist()
    tx.delete("user", User(user.user_id), condition=(User.revision == user.revision) & same)
    claim = AccountClaim(AccountClaim.of_email(user.email))
    tx.delete("claim", claim, condition=AccountClaim.claim.does_not_exist() | (AccountClaim.user_id == user.user_id))
    for key in sorted(user.identities or ()):
        tx.delete(
            key,
            Identity(key),
            condition=Identity.identity.does_not_exist() | (Identity.user_id == user.user_id),
        )
    audit_add(
        tx,
        actor=actor,
        action=Action.USER_DELETED,
        target=f"user:{user.user_id}",
        detail={"email": user.email, "name": user.name, "role": user.role},
    )
    return tx


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


class _ChangedMeanwhile(Conflict):
    """The user was changed since they were read."""

    code = ErrorCode.CHANGED_MEANWHILE

    def __init__(self) -> None:
        super().__init__("This user was changed after you opened it. Load it again.")


def _as_they_are(user_id: str, change: Callable[[User], None]) -> None:
    """Change a user whatever their revision is. If another change comes first, read and try again."""
    for _ in range(_ATTEMPTS - 1):
        with suppress(_ChangedMeanwhile):
            change(_existing(user_id))
            return
    change(_existing(user_id))


def _user_write(
    user: User,
    actions: Sequence[Any],
    *,
    actor: Actor,
    action: Action,
    detail: Mapping[str, str] | None = None,
    leaves: bool = False,
) -> None:
    """Change a user at the revision that was read. With `leaves` they manage no accounts any more."""

    def build() -> Transaction:
        tx = Transaction()
        tx.update("user", User(user.user_id), actions=actions, condition=User.revision == user.revision)
        audit_add(tx, actor=actor, action=action, target=f"user:{user.user_id}", detail=detail)
        return tx

    try:
        if leaves:
            from apps.accounts.services.last_admin import admin_remaining_commit

            admin_remaining_commit(build, leaving=user, actor=actor)
        else:
            build().commit()
    except TransactionFailed as error:
        if error.failed.get("user") is None:
            raise NotFound("There is no such user.", code=ErrorCode.USER_NOT_FOUND) from error
        raise _ChangedMeanwhile from error


def _existing(user_id: str) -> User:
    user = user_get(user_id)
    if user is None:
        raise NotFound("There is no such user.", code=ErrorCode.USER_NOT_FOUND)
    return user


def _existing_at(user_id: str, revision: int) -> User:
    user = _existing(user_id)
    if int(user.revision) != revision:
        raise _ChangedMeanwhile
    return user


def email_taken() -> Conflict:
    """The error for an address that another user has."""
    return Conflict("There is a user with this e-mail address already.", code=ErrorCode.EMAIL_TAKEN)


def email_checked(email: str) -> str:
    email = email_normalise(email)
    if len(email) > MAX_EMAIL:
        raise InvalidInput.field("email", f"must have at most {MAX_EMAIL} characters")
    try:
        validate_email(email)
    except ValidationError as error:
        raise InvalidInput.field("email", "must be an e-mail address") from error
    return email


def name_checked(name: str) -> str:
    name = name.strip()
    if not 1 <= len(name) <= MAX_NAME or not name.isprintable():
        raise InvalidInput.field("name", f"must have 1 to {MAX_NAME} printable characters")
    return name


def role_checked(role: str) -> str:
    if role not in ROLES:
        raise InvalidInput.field("role", f"must be one of {', '.join(ROLES)}")
    return role


def password_hashed(password: str) -> str:
    if len(password) > MAX_PASSWORD:
        raise InvalidInput.field("password", f"must have at most {MAX_PASSWORD} characters")
    try:
        validate_password(password)
    except ValidationError as error:
        raise InvalidInput.field("password", " ".join(error.messages)) from error
    return make_password(password)
