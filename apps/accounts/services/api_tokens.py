"""API tokens, by which programs act for users."""

import re
import secrets
import threading
from collections.abc import Collection
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta

from cachetools import TTLCache

from apps.accounts.models import ApiToken, User, secret_hash
from apps.accounts.policies import Permission, role_permissions, tokens_manage_require
from apps.accounts.selectors import api_token_by_hash, api_token_count, api_token_get, user_get
from apps.audit.actions import Action
from apps.audit.services import audit_add
from controlplane.lib import clock
from controlplane.lib.actor import Actor
from controlplane.lib.error_codes import ErrorCode
from controlplane.lib.errors import Conflict, InvalidInput, NotAuthenticated, NotFound, Unavailable
from controlplane.lib.ids import new_id
from controlplane.nosql.connection import ConditionFailed
from controlplane.nosql.listing import search_key
from controlplane.nosql.transaction import Transaction, TransactionFailed

# Secret scanners find our tokens by this.
PREFIX = "hcp_"
_FORM = re.compile(r"hcp_[A-Za-z0-9_-]{43}")
MAX_NAME = 100
# Of one user. A list of them is read as a whole.
MAX_TOKENS = 100

# How long a process trusts what it read: within this time a revoked token and a disabled owner are out everywhere.
CACHE_SECONDS = 30
CACHE_SIZE = 1000
# `last_used_at` distinguishes unused tokens from used ones; more often would cost a write for every call.
LAST_USED_EVERY = timedelta(hours=1)


@dataclass(frozen=True)
class _Verified:
    token: ApiToken
    owner: User
    read_at: int


class _VerifiedTokens:
    """The tokens that this process has read in the last CACHE_SECONDS, with their owners."""

    def __init__(self) -> None:
        self._entries: TTLCache[str, _Verified] = TTLCache(CACHE_SIZE, CACHE_SECONDS, timer=clock.epoch)
        self._lock = threading.Lock()

    def get(self, token_hash: str) -> _Verified | None:
        with self._lock:
            entry = self._entries.get(token_hash)
        # If the clock was set back, the cache would keep what it has for longer.
        return entry if entry and entry.read_at <= clock.epoch() else None

    def put(self, token_hash: str, entry: _Verified) -> None:
        with self._lock:
            self._entries[token_hash] = entry

    def drop(self, token_hash: str) -> None:
        with self._lock:
            self._entries.pop(token_hash, None)


_verified = _VerifiedTokens()


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
    "expires_at"), Conflict ``account_disabled`` or ``too_many_tokens``.
    """
    tokens_manage_require(actor, user.user_id)
    if not 1 <= len(name.strip()) <= MAX_NAME or not name.isprintable():
        raise InvalidInput.field("name", f"must have 1 to {MAX_NAME} printable characters")
    if actor.kind == "token":
        permissions = actor.permissions & role_permissions(user.role) if permissions is None else permissions
        expires_at = _expiry_within(_creator(actor), expires_at)
    _permissions_require(user, permissions, actor=actor)
    if expires_at is not None and expires_at <= clock.now():
        raise InvalidInput.field("expires_at", "must be in the future")
    if not user.is_active:
        raise Conflict("This account is disabled.", code=ErrorCode.ACCOUNT_DISABLED)
    if api_token_count(user.user_id, limit=MAX_TOKENS) >= MAX_TOKENS:
        raise Conflict(
            f"A user can have at most {MAX_TOKENS} API tokens. Revoke some first.", code=ErrorCode.TOO_MANY_TOKENS
        )
    secret = PREFIX + secrets.token_urlsafe(32)
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
    tx = Transaction()
    tx.put("token", token)
    audit_add(
        tx,
        actor=actor,
        action=Action.API_TOKEN_CREATED,
        target=f"api_token:{token.token_id}",
        detail={
            "name": token.name,
            "owner": user.user_id,
            "permissions": "all of the role" if token.permissions is None else " ".join(token.permissions),
            "expires_at": clock.timestamp(token.expires_at) if token.expires_at else None,
        },
    )
    tx.commit()
    return token, secret


def api_token_revoke(*, token: ApiToken, actor: Actor) -> None:
    """Delete a token: it is refused at once in this process, and within CACHE_SECONDS in others.

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
    try:
        # It fails only if another request has revoked the token.
        with suppress(TransactionFailed):
            tx.commit()
    finally:
        _verified.drop(token.token_hash)


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

    Costs two reads at most every CACHE_SECONDS, and once an hour a write that notes its use.

    Raises NotAuthenticated: ``token_invalid`` (unknown or revoked), ``token_expired``, ``account_disabled``.
    """
    if not _FORM.fullmatch(secret):
        raise _invalid()
    token_hash = secret_hash(secret)
    entry = _verified.get(token_hash) or _read(token_hash)
    if entry.token.expired(clock.now()):
        raise NotAuthenticated("This API token has expired. Create a new one.", code=ErrorCode.TOKEN_EXPIRED)
    if not entry.owner.is_active:
        raise NotAuthenticated("The owner of this API token is disabled.", code=ErrorCode.ACCOUNT_DISABLED)
    return _actor(entry.token, entry.owner)


def _read(token_hash: str) -> _Verified:
    token = api_token_by_hash(token_hash)
    owner = user_get(token.user_id) if token else None
    if token is None or owner is None:
        raise _invalid()
    entry = _Verified(token, owner, clock.epoch())
    if owner.is_active and not token.expired(clock.now()):
        _verified.put(token_hash, entry)
        _note_use(token)
    return entry


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
