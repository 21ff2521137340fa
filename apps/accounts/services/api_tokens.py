"""API tokens: what a person's program shows instead of the person."""

import re
import secrets
import threading
from collections import OrderedDict
from collections.abc import Collection
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta

from apps.accounts.models import ApiToken, User, secret_hash
from apps.accounts.policies import Permission, role_permissions, tokens_manage_require
from apps.accounts.selectors import api_token_get
from apps.audit.actions import Action
from apps.audit.services import audit_add
from controlplane.lib import clock
from controlplane.lib.actor import Actor
from controlplane.lib.errors import Conflict, InvalidInput, NotAuthenticated, NotFound, Unavailable
from controlplane.lib.ids import new_id
from controlplane.nosql.connection import ConditionFailed
from controlplane.nosql.listing import search_key
from controlplane.nosql.transaction import Transaction, TransactionFailed

# Secret scanners find our tokens by this.
PREFIX = "hcp_"
_FORM = re.compile(r"hcp_[A-Za-z0-9_-]{43}")
MAX_NAME = 100
# Of one person. A list of them is read as a whole.
MAX_TOKENS = 100

# How long a process trusts what it read: the time after which a revoked token and a disabled owner are out everywhere.
CACHE_SECONDS = 30
CACHE_SIZE = 1000
# `last_used_at` tells an unused token from a used one; more often would cost a write for every call.
LAST_USED_EVERY = timedelta(hours=1)


@dataclass(frozen=True)
class _Verified:
    token: ApiToken
    owner: User
    read_at: int


class _VerifiedTokens:
    """What this process read of tokens and owners in the last 30 seconds; of too many, the oldest goes."""

    def __init__(self) -> None:
        self._entries: OrderedDict[str, _Verified] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, key: str) -> _Verified | None:
        with self._lock:
            entry = self._entries.get(key)
            if entry and not 0 <= clock.epoch() - entry.read_at < CACHE_SECONDS:
                del self._entries[key]
                return None
            return entry

    def put(self, key: str, entry: _Verified) -> None:
        with self._lock:
            self._entries[key] = entry
            self._entries.move_to_end(key)
            while len(self._entries) > CACHE_SIZE:
                self._entries.popitem(last=False)

    def drop(self, key: str) -> None:
        with self._lock:
            self._entries.pop(key, None)


_verified = _VerifiedTokens()


def api_token_create(
    *,
    user: User,
    name: str,
    permissions: Collection[str] | None = None,
    expires_at: datetime | None = None,
    actor: Actor,
) -> tuple[ApiToken, str]:
    """Make a token of `user`; returns it with its secret text, which is kept nowhere and can't be shown again.

    Without `permissions` it may do whatever its owner's role allows at the time of use, with them only these (as far as
    the role still allows them then). A token that makes a token gives on no more than it has itself: not what it may
    not do, and not a day longer.

    Raises Forbidden unless the actor is the owner or manages accounts, InvalidInput (field "name", "permissions" or
    "expires_at"), Conflict ``account_disabled`` or ``too_many_tokens``.
    """
    tokens_manage_require(actor, user.user_id)
    if not 1 <= len(name.strip()) <= MAX_NAME or not name.isprintable():
        raise InvalidInput.field("name", f"1 to {MAX_NAME} printable characters.")
    if actor.kind == "token":
        permissions = actor.permissions & role_permissions(user.role) if permissions is None else permissions
        expires_at = _expiry_within(_maker(actor), expires_at)
    _permissions_require(user, permissions, actor=actor)
    if expires_at is not None and expires_at <= clock.now():
        raise InvalidInput.field("expires_at", "this is in the past.")
    if not user.is_active:
        raise Conflict("This account is disabled.", code="account_disabled")
    if ApiToken.by_user.count(user.user_id, limit=MAX_TOKENS) >= MAX_TOKENS:
        raise Conflict(f"Nobody has more than {MAX_TOKENS} tokens. Revoke some first.", code="too_many_tokens")
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
    try:
        tx.commit()
    except TransactionFailed as error:
        standing = error.failed.get("token")
        # Ours stands there when the answer to the first attempt was lost.
        if not isinstance(standing, ApiToken) or standing.token_id != token.token_id:
            raise
    return token, secret


def api_token_revoke(*, token: ApiToken, actor: Actor) -> None:
    """Delete a token: out at once in this process, within 30 seconds in others. One that is gone already stays so.

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
        tx.commit()
    except TransactionFailed as error:
        if error.failed.get("token") is not None:
            raise
    finally:
        _verified.drop(token.token_hash)


def _permissions_require(user: User, permissions: Collection[str] | None, *, actor: Actor) -> None:
    """Raises InvalidInput if a token with these permissions could do more than its owner or its maker."""
    allowed = role_permissions(user.role)
    wanted = allowed if permissions is None else set(permissions)
    if not wanted <= allowed:
        raise InvalidInput.field("permissions", "a token may do no more than its owner.")
    if actor.kind != "system" and not wanted <= actor.permissions:
        raise InvalidInput.field("permissions", "a token may do no more than who makes it.")


def _maker(actor: Actor) -> ApiToken:
    """The token that makes another one. Raises NotAuthenticated if it has been revoked in the meantime."""
    try:
        return api_token_get(actor.id)
    except NotFound:
        raise _invalid() from None


def _expiry_within(maker: ApiToken, expires_at: datetime | None) -> datetime | None:
    """When a token that `maker` makes expires: no later than `maker` does."""
    latest: datetime | None = maker.expires_at
    if latest and expires_at and expires_at > latest:
        raise InvalidInput.field("expires_at", "a token that a token makes expires no later than its maker.")
    return expires_at or latest


def api_token_verify(secret: str) -> Actor:
    """Who a token stands for, with the permissions it has now.

    Costs two reads at most every 30 seconds, and once an hour a write that notes its use.

    Raises NotAuthenticated: ``token_invalid`` (unknown or revoked), ``token_expired``, ``account_disabled``.
    """
    if not _FORM.fullmatch(secret):
        raise _invalid()
    key = secret_hash(secret)
    entry = _verified.get(key) or _read(key)
    if entry.token.expired(clock.now()):
        raise NotAuthenticated("This API token has expired.", code="token_expired")
    if not entry.owner.is_active:
        raise NotAuthenticated("The owner of this API token is disabled.", code="account_disabled")
    return _actor(entry.token, entry.owner)


def _read(key: str) -> _Verified:
    token = ApiToken.find(key)
    owner = User.find(token.user_id) if token else None
    if token is None or owner is None:
        raise _invalid()
    entry = _Verified(token, owner, clock.epoch())
    if owner.is_active and not token.expired(clock.now()):
        _verified.put(key, entry)
        _note_use(token)
    return entry


def _note_use(token: ApiToken) -> None:
    """Best effort: that the use can't be noted is no reason to refuse it."""
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
    return NotAuthenticated("This API token is not known.", code="token_invalid")
