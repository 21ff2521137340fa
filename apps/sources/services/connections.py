"""Creating, changing and deleting connections, and rotating the secrets of their webhooks."""

import base64
import re
import secrets
from collections.abc import Mapping
from contextlib import suppress
from datetime import timedelta
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from apps.audit.actions import Action
from apps.audit.services import audit_add, changes_detail
from apps.pipelines.selectors import pipelines_bound_to
from apps.sources.models import SPACE, Connection, secret_context
from apps.sources.policies import connections_manage_require
from apps.sources.providers.calls import provider_url_require
from apps.sources.selectors import CONNECTION_ID, connection_get, connection_list
from apps.sources.states import ProviderName
from controlplane.lib import clock
from controlplane.lib.actor import Actor
from controlplane.lib.envelope import encrypt
from controlplane.lib.error_codes import ErrorCode
from controlplane.lib.errors import Conflict, InvalidInput
from controlplane.lib.webhook_signature import webhook_key
from controlplane.nosql.transaction import Transaction, TransactionFailed

MAX_CONNECTIONS = 50
# Two secrets are alive for so long, unless the old one has leaked.
OVERLAP = timedelta(hours=24)
_REPEATED_WITHIN = timedelta(minutes=10)
_MAX_NAME = 100
_MAX_URL = 500
_MAX_SECRET = 16 * 1024
_TRIES = 5

# Where the API and the pages of the provider are that most people mean.
_PUBLIC = {
    ProviderName.GITHUB: ("https://api.github.com", "https://github.com"),
    ProviderName.GITLAB: ("https://gitlab.com/api/v4", "https://gitlab.com"),
}
_APP_MEMBER = re.compile(r"[A-Za-z0-9._-]{1,100}")


class ConnectionMade(NamedTuple):
    """A connection, and the secret of its webhooks, which is shown this once."""

    connection: Connection
    webhook_secret: str


def connection_create(
    *,
    actor: Actor,
    connection_id: str,
    provider: str,
    name: str | None = None,
    api_url: str | None = None,
    web_url: str | None = None,
    token: str | None = None,
    webhook_secret: str | None = None,
    app_id: str | None = None,
    app_slug: str | None = None,
    private_key: str | None = None,
    facts: Mapping[str, Any] | None = None,
) -> ConnectionMade:
    """Create a connection. Without `webhook_secret`, a new one is made.

    `api_url` and `web_url` are those of github.com and gitlab.com if they are left out. `token` is for the provider's
    API; `app_id`, `app_slug` and `private_key` are those of a GitHub App.

    Raises Forbidden, InvalidInput, Unavailable, and Conflict with the code ``name_taken`` or ``too_many_connections``.
    """
    connections_manage_require(actor)
    if not CONNECTION_ID.fullmatch(connection_id):
        raise InvalidInput.field(
            "connection_id", "must be 1 to 63 small letters, digits and -, beginning with a letter or digit"
        )
    if provider not in set(ProviderName):
        raise InvalidInput.field("provider", f"must be one of {', '.join(ProviderName)}")
    if len(connection_list()) >= MAX_CONNECTIONS:
        raise Conflict(
            f"There are {MAX_CONNECTIONS} connections already. Delete one.", code=ErrorCode.TOO_MANY_CONNECTIONS
        )
    secret = _webhook_secret_check(provider, webhook_secret) or webhook_secret_make(ProviderName(provider))
    api, web = _PUBLIC.get(ProviderName(provider), (None, None))
    now = clock.timestamp(clock.now())
    connection = Connection(
        SPACE,
        connection_id,
        provider=provider,
        name=_name_check(name) or connection_id,
        api_url=_url_check("api_url", api_url) or api,
        web_url=_url_check("web_url", web_url) or web,
        encrypted_webhook_secret=_encrypted(connection_id, "webhook_secret", secret),
        webhook_secret_changed_at=now,
        encrypted_token=_encrypted(connection_id, "token", token),
        encrypted_private_key=_encrypted(connection_id, "private_key", private_key),
        app_id=_app_check("app_id", app_id),
        app_slug=_app_check("app_slug", app_slug),
        facts=dict(facts) if facts else None,
        created_at=now,
        created_by=actor.name,
        changed_at=now,
        changed_by=actor.name,
    )
    transaction = Transaction()
    transaction.put("connection", connection, Connection.connection_id.does_not_exist())
    _audit(transaction, actor, Action.CONNECTION_CREATED, connection_id, _described(connection))
    try:
        transaction.commit()
    except TransactionFailed:
        raise Conflict(
            f"There is already a connection {connection_id}. Choose another id.", code=ErrorCode.NAME_TAKEN
        ) from None
    return ConnectionMade(connection, secret)


def webhook_secret_make(provider: ProviderName) -> str:
    """A new secret of 256 bits, in the form that the provider takes."""
    if provider == ProviderName.STANDARD:
        return f"whsec_{base64.b64encode(secrets.token_bytes(32)).decode()}"
    return secrets.token_urlsafe(32)


def connection_change(*, actor: Actor, connection_id: str, revision: int | None = None, **members: Any) -> Connection:
    """Change members of a connection: name, api_url, web_url, token, app_id, app_slug, private_key, facts.

    Others stay as they are, and None empties one. A change that changes nothing adds no audit event. Another server
    requires the token and the private key anew. With `revision`, the connection must still have this revision.

    Raises Forbidden, NotFound, InvalidInput, Unavailable, and Conflict with the code ``changed_meanwhile``.
    """
    connections_manage_require(actor)
    for _ in range(_TRIES):
        current = connection_get(connection_id)
        if revision is not None and revision != current.revision:
            break
        wanted = _members_check(current, members)
        _server_check(current, wanted, members)
        if not wanted:
            return current
        after = Connection(**{**current.attribute_values, **wanted})
        changed = changes_detail(_described(current), _described(after))
        for member in ("token", "private_key"):
            if f"encrypted_{member}" in wanted:
                changed[member] = "replaced" if wanted[f"encrypted_{member}"] else "removed"
        with suppress(TransactionFailed):
            return _commit(current, wanted, actor, Action.CONNECTION_CHANGED, changed)
    raise _changed_meanwhile()


def connection_secret_rotate(*, actor: Actor, connection_id: str, leaked: bool = False) -> ConnectionMade:
    """Give the connection a new webhook secret. The old one counts for 24 hours more, but not if it has `leaked`.

    A secret from before both ends at once. Within ten minutes of another rotation, whose answer may be lost, the secret
    from before both is the one that goes on counting.

    Raises Forbidden, NotFound, Unavailable, and Conflict with the code ``changed_meanwhile``.
    """
    connections_manage_require(actor)
    current = connection_get(connection_id)
    secret = webhook_secret_make(ProviderName(current.provider))
    now = clock.now()
    wanted = {
        "encrypted_webhook_secret": _encrypted(connection_id, "webhook_secret", secret),
        **_previous(current, leaked=leaked),
        "webhook_secret_changed_at": clock.timestamp(now),
        "refused_at": None,
        "refused_because": None,
    }
    until = wanted["previous_webhook_secret_until"]
    detail = {"previous": f"until {until}" if until else "ended"}
    try:
        changed = _commit(current, wanted, actor, Action.CONNECTION_WEBHOOK_SECRET_ROTATED, detail)
    except TransactionFailed:
        raise _changed_meanwhile() from None
    return ConnectionMade(changed, secret)


def _previous(current: Connection, *, leaked: bool) -> dict[str, Any]:
    """The attributes of the secret that counts beside a new one."""
    members = ("encrypted_previous_webhook_secret", "previous_webhook_secret_until")
    if leaked:
        return dict.fromkeys(members)
    now, changed = clock.now(), current.webhook_secret_changed_at
    is_repeated = changed is not None and now - clock.parse_timestamp(changed) < _REPEATED_WITHIN
    if is_repeated and current.previous_webhook_secret_until:
        return {member: getattr(current, member) for member in members}
    old = _encrypted(str(current.connection_id), "previous_webhook_secret", current.secret("webhook_secret"))
    return dict(zip(members, (old, clock.timestamp(now + OVERLAP) if old else None), strict=True))


def connection_delete(*, actor: Actor, connection_id: str) -> None:
    """Delete the connection. What it has delivered is listed no more.

    Raises Forbidden, NotFound, and Conflict with the code ``connection_in_use`` while pipelines are bound to it.
    """
    connections_manage_require(actor)
    connection = connection_get(connection_id)
    bound = pipelines_bound_to(connection_id)
    if bound:
        raise Conflict(
            f"Pipelines are bound to this connection: {', '.join(bound[:5])}. Unbind or delete them first.",
            code=ErrorCode.CONNECTION_IN_USE,
        )
    transaction = Transaction()
    transaction.delete("connection", connection, Connection.connection_id.exists())
    _audit(transaction, actor, Action.CONNECTION_DELETED, connection_id, _described(connection))
    try:
        transaction.commit()
    except TransactionFailed:
        # Another request has deleted it at the same moment.
        connection_get(connection_id)


def _commit(
    current: Connection, changes: Mapping[str, Any], actor: Actor, action: Action, detail: Mapping[str, Any]
) -> Connection:
    """Write the changes. Raises TransactionFailed if the connection has changed since it was read."""
    stamped = {**changes, "changed_at": clock.timestamp(clock.now()), "changed_by": actor.name}
    transaction = Transaction()
    transaction.update(
        "connection",
        current,
        actions=[*_actions(stamped), Connection.revision.add(1)],
        condition=(Connection.revision == current.revision) & (Connection.created_at == current.created_at),
    )
    _audit(transaction, actor, action, str(current.connection_id), detail)
    transaction.commit()
    return connection_get(str(current.connection_id))


def _members_check(current: Connection, members: Mapping[str, Any]) -> dict[str, Any]:
    """The attributes that change. Raises InvalidInput."""
    connection_id = str(current.connection_id)
    wanted: dict[str, Any] = {}
    for member, value in members.items():
        if member in ("token", "private_key"):
            if value is not None and value == current.secret(member):
                continue
            wanted[f"encrypted_{member}"] = _encrypted(connection_id, member, value)
        elif member in ("api_url", "web_url"):
            wanted[member] = _url_check(member, value)
        elif member in ("app_id", "app_slug"):
            wanted[member] = _app_check(member, value)
        elif member == "facts":
            wanted[member] = dict(value) if value else None
        elif member == "name":
            wanted[member] = _name_check(value) or connection_id
        else:
            raise TypeError(f"a connection has no {member}")
    return {member: value for member, value in wanted.items() if getattr(current, member) != value}


def _encrypted(connection_id: str, member: str, value: str | None) -> str | None:
    checked = _secret_check(member, value)
    return encrypt(checked.encode(), context=secret_context(connection_id, member)) if checked else None


def _secret_check(member: str, value: str | None) -> str | None:
    """The secret, or None for an empty one. Raises InvalidInput, whose message never has it."""
    if not value:
        return None
    if len(value) > _MAX_SECRET or not all(one.isprintable() or one in "\r\n" for one in value):
        raise InvalidInput.field(member, f"must have at most {_MAX_SECRET:,} characters that can be printed")
    return value


def _webhook_secret_check(provider: str, secret: str | None) -> str | None:
    """The secret, or None for an empty one. Raises InvalidInput."""
    if secret and provider == ProviderName.STANDARD:
        try:
            webhook_key(secret)
        except ValueError as error:
            raise InvalidInput.field("webhook_secret", str(error)) from error
    return _secret_check("webhook_secret", secret)


def _name_check(name: str | None) -> str | None:
    if name and (len(name) > _MAX_NAME or not name.isprintable()):
        raise InvalidInput.field("name", f"must have at most {_MAX_NAME} characters that can be printed")
    return (name or "").strip() or None


def _app_check(member: str, value: str | None) -> str | None:
    if value and not _APP_MEMBER.fullmatch(value):
        raise InvalidInput.field(member, "must be 1 to 100 letters, digits and . _ -")
    return value or None


def _url_check(member: str, url: str | None) -> str | None:
    """The URL without a slash at the end, or None for an empty one. Raises InvalidInput."""
    if not url:
        return None
    plain = url.rstrip("/")
    if len(plain) > _MAX_URL:
        raise InvalidInput.field(member, f"must have at most {_MAX_URL} characters")
    provider_url_require(plain, field=member)
    return plain


def _server_check(current: Connection, wanted: Mapping[str, Any], given: Mapping[str, Any]) -> None:
    """Raises InvalidInput if credentials that were given for one server would be sent to another one.

    They cannot be read, and must not be had by changing the address.
    """
    kept = [
        member for member in ("token", "private_key") if getattr(current, f"encrypted_{member}") and member not in given
    ]
    for member in ("api_url", "web_url"):
        before = getattr(current, member)
        # Without an address they were sent nowhere, so the first one is no change.
        if kept and before and member in wanted and _server(wanted[member]) != _server(before):
            missing = " and ".join(name.replace("_", " ") for name in kept)
            raise InvalidInput.field(
                member, f"must stay on the same server, or come with the {missing} for the new one"
            )


def _server(url: str | None) -> str:
    parts = urlsplit(url or "")
    return f"{parts.scheme}://{parts.netloc}".lower()


def _described(connection: Connection) -> dict[str, Any]:
    """The connection for an audit event, without its secrets."""
    return {
        "provider": str(connection.provider),
        "name": str(connection.name),
        "api_url": connection.api_url,
        "web_url": connection.web_url,
        "app_id": connection.app_id,
    }


def _audit(
    transaction: Transaction, actor: Actor, action: Action, connection_id: str, detail: Mapping[str, Any] | None
) -> None:
    audit_add(transaction, actor=actor, action=action, target=f"connection:{connection_id}", detail=detail)


def _changed_meanwhile() -> Conflict:
    return Conflict(
        "Another user changed this connection in the meantime. Check it and try again.",
        code=ErrorCode.CHANGED_MEANWHILE,
    )


def _actions(members: Mapping[str, Any]) -> list[Any]:
    """Set each member, or remove it when its value is None."""
    return [
        getattr(Connection, member).remove() if value is None else getattr(Connection, member).set(value)
        for member, value in members.items()
    ]
