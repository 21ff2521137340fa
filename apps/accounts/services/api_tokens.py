"""API tokens, by which programs act for users."""

from collections.abc import Collection
from contextlib import suppress
from datetime import datetime, timedelta

from apps.accounts.models import ApiToken, User, api_token_new, api_token_shaped, secret_hash
from apps.accounts.policies import Permission, role_permissions, tokens_manage_require
from apps.accounts.selectors import api_token_find_with_owner, api_token_get, api_tokens_stored
from apps.audit.actions import Action
from apps.audit.services import audit_add
from controlplane.lib import clock
from controlplane.lib.actor import Actor
from controlplane.lib.error_codes import ErrorCode
from controlplane.lib.errors import Conflict, InvalidInput, NotAuthenticated, NotFound, Unavailable
from controlplane.lib.ids import new_id
from controlplane.nosql.connection import ConditionFailed, pause_before_retry
from controlplane.nosql.listing import search_key
from controlplane.nosql.transaction import Transaction, TransactionFailed

MAX_NAME = 100
# Of one user, without expired ones.
MAX_TOKENS = 100
# A transaction has at most 100 operations.
_REPLACED_AT_MOST = 90
# How often a creation chooses anew which expired tokens it replaces, when other requests have replaced them.
_CREATE_ATTEMPTS = 5

# `last_used_at` distinguishes unused tokens from used ones; more often would cost a write for every call.
LAST_USED_EVERY = timedelta(hours=1)


def api_token_create(
    *,
    user: User,
    name: str,
    permissions: Collection[str] | None = None,
    expires_at: datetime | None = None,
    actor: Actor,
) -> tuple[ApiToken, str]:
    """Create a token of `user`; returns it with its secret text, which is not stored and cannot be shown again.

    Without `permissions` the token may do whatever its owner's role allows at the time of use; with them only these, as
    far as the role still allows them then. A token that creates a token passes on only permissions that it has, and the
    new one expires no later than it does.

    Raises Forbidden unless the actor is the owner or manages accounts, InvalidInput (field "name", "permissions" or
    "expires_at"), Conflict ``account_disabled`` or ``too_many_tokens``, NotAuthenticated ``token_invalid`` if the token
    that creates it is revoked.
    """
    tokens_manage_require(actor, user.user_id)
    if not 1 <= len(name.strip()) <= MAX_NAME or not name.isprintable():
        raise InvalidInput.field("name", f"must have 1 to {MAX_NAME} printable characters")
    creator = _creator(actor) if actor.kind == "token" else None
    if creator:
        permissions = actor.permissions & role_permissions(user.role) if permissions is None else permissions
        expires_at = _expiry_within(creator, expires_at)
    _permissions_require(user, permissions, actor=actor)
    if expires_at is not None and expires_at <= clock.now():
        raise InvalidInput.field("expires_at", "must be in the future")
    if not user.is_active:
        raise Conflict("This account is disabled.", code=ErrorCode.ACCOUNT_DISABLED)
    secret = api_token_new(user.user_id)
    token = ApiToken(
        secret_hash(secret),
        token_id=new_id(),
        user_id=user.user_id,
        name=name.strip(),
        name_key=search_key(name),
        permissions=sorted(set(permissions)) if permissions is not None else None,
        created_at=clock.timestamp(clock.now()),
        # DynamoDB's TTL knows whole seconds.
        expires_at=expires_at.replace(microsecond=0) if expires_at else None,
    )
    _write(token, creator=creator, actor=actor)
    return token, secret


def _write(token: ApiToken, *, creator: ApiToken | None, actor: Actor) -> None:
    """Write a new token, and delete as many expired ones as there would be too many.

    Raises Conflict ``too_many_tokens``, NotAuthenticated if `creator` has been revoked.
    """
    for attempt in range(_CREATE_ATTEMPTS):
        tx = Transaction()
        tx.put("token", token)
        if creator:
            tx.check("creator", ApiToken(creator.token_hash), ApiToken.token_hash.exists())
        for number, expired in enumerate(_replaced(token.user_id)):
            # Each makes room for one token only: if another request has deleted it, the transaction fails.
            tx.delete(f"expired {number}", ApiToken(expired.token_hash))
        audit_add(
            tx,
            actor=actor,
            action=Action.API_TOKEN_CREATED,
            target=f"api_token:{token.token_id}",
            detail={
                "name": token.name,
                "owner": token.user_id,
                "permissions": "all of the role" if token.permissions is None else " ".join(token.permissions),
                "expires_at": clock.timestamp(token.expires_at) if token.expires_at else None,
            },
        )
        try:
            tx.commit()
            return
        except TransactionFailed as error:
            if "creator" in error.failed:
                raise _invalid() from error
        pause_before_retry(attempt)
    raise Unavailable("Too many requests are creating tokens of this user. Please try again.")


def _replaced(user_id: str) -> list[ApiToken]:
    """The expired tokens that a new one replaces, so that a user never has more than MAX_TOKENS rows, mostly none.

    DynamoDB deletes expired rows after days. They do not count, but without this they could become any number. The
    index lags, so at the limit the rows themselves decide. Below it, requests at one moment may exceed it by a few.

    Raises Conflict ``too_many_tokens``.
    """
    listed, stored = api_tokens_stored(user_id, enough=MAX_TOKENS)
    now = clock.now()
    expired = [token for token in stored if token.expired(now)]
    if len(stored) - len(expired) >= MAX_TOKENS:
        raise Conflict(
            f"A user can have at most {MAX_TOKENS} API tokens. Revoke some first.", code=ErrorCode.TOO_MANY_TOKENS
        )
    # By the number in the index, since another request may have replaced what is missing from the table.
    return expired[: min(max(0, listed - MAX_TOKENS + 1), _REPLACED_AT_MOST)]


def api_token_revoke(*, token: ApiToken, actor: Actor) -> None:
    """Delete a token: from then on every process refuses it.

    For a token that is revoked already this writes nothing, and no audit event.

    Raises Forbidden unless the actor is the owner or manages accounts.
    """
    tokens_manage_require(actor, token.user_id)
    tx = Transaction()
    tx.delete("token", ApiToken(token.token_hash))
    audit_add(
        tx,
        actor=actor,
        action=Action.API_TOKEN_REVOKED,
        target=f"api_token:{token.token_id}",
        detail={"name": token.name, "owner": token.user_id},
    )
    # It fails only if another request has revoked the token.
    with suppress(TransactionFailed):
        tx.commit()


def _permissions_require(user: User, permissions: Collection[str] | None, *, actor: Actor) -> None:
    """Raises InvalidInput if a token with these permissions could do more than its owner or its creator."""
    allowed = role_permissions(user.role)
    wanted = allowed if permissions is None else set(permissions)
    if not wanted <= allowed:
        raise InvalidInput.field("permissions", "must be permissions that the token's owner has")
    if actor.kind != "system" and not wanted <= actor.permissions:
        raise InvalidInput.field("permissions", "must be permissions that you have")


def _creator(actor: Actor) -> ApiToken:
    """The token that creates another one. Raises NotAuthenticated if it has been revoked since it was verified."""
    try:
        return api_token_get(actor.id)
    except NotFound:
        raise _invalid() from None


def _expiry_within(creator: ApiToken, expires_at: datetime | None) -> datetime | None:
    """When a token that `creator` creates expires: no later than `creator` does."""
    latest: datetime | None = creator.expires_at
    if latest and expires_at and expires_at > latest:
        raise InvalidInput.field("expires_at", "must not be later than the expiry of the token that creates it")
    return expires_at or latest


def api_token_verify(secret: str) -> Actor:
    """The actor that a token authenticates, with the permissions it has now.

    It costs one call, valid or not (two for a token of the form without its owner), and once an hour a write that notes
    its use. Nothing is cached: a revoked token, a disabled owner and a changed role count at once in every process.

    Raises NotAuthenticated: ``token_invalid`` (unknown or revoked), ``token_expired``, ``account_disabled``.
    """
    if not api_token_shaped(secret):
        raise _invalid()
    token, owner = api_token_find_with_owner(secret)
    if token is None or owner is None or token.user_id != owner.user_id:
        raise _invalid()
    if token.expired(clock.now()):
        raise NotAuthenticated("This API token has expired. Create a new one.", code=ErrorCode.TOKEN_EXPIRED)
    if not owner.is_active:
        raise NotAuthenticated("The owner of this API token is disabled.", code=ErrorCode.ACCOUNT_DISABLED)
    _note_use(token)
    return _actor(token, owner)


def _note_use(token: ApiToken) -> None:
    """Best effort: a failure to note the use is no reason to refuse the request."""
    now = clock.now()
    if token.last_used_at and now - clock.parse_timestamp(token.last_used_at) < LAST_USED_EVERY:
        return
    unchanged = ApiToken.last_used_at == token.last_used_at if token.last_used_at else ~ApiToken.last_used_at.exists()
    with suppress(ConditionFailed, Unavailable):
        ApiToken(token.token_hash).update(
            actions=[ApiToken.last_used_at.set(clock.timestamp(now))],
            condition=ApiToken.token_hash.exists() & unchanged,
        )


def _actor(token: ApiToken, owner: User) -> Actor:
    allowed = role_permissions(owner.role)
    if token.permissions is not None:
        allowed = allowed & {Permission(text) for text in token.permissions if text in allowed}
    return Actor("token", token.token_id, f"{token.name} ({owner.email})", frozenset(allowed), owner.user_id)


def _invalid() -> NotAuthenticated:
    return NotAuthenticated("This API token is unknown or revoked.", code=ErrorCode.TOKEN_INVALID)
