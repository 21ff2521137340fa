"""Tokens of a GitHub App's installations, in the memory of this process alone, until 5 minutes before their end.

https://docs.github.com/en/apps/creating-github-apps/authenticating-with-a-github-app
"""

import threading
from collections.abc import Mapping
from dataclasses import field
from datetime import datetime, timedelta
from typing import Any
from urllib.parse import quote

from apps.sources.models import Connection
from apps.sources.providers.calls import ProviderRefused, Reply, provider_call
from apps.sources.providers.github.app import app_call, github_headers
from apps.sources.providers.names import repository_require
from apps.sources.providers.tokens import token_require
from controlplane.lib import clock
from controlplane.lib.errors import Unavailable
from controlplane.lib.frozen import frozen

# A token must outlast what it is given for.
ENDS_EARLY = timedelta(minutes=5)
# A repository keeps its installation, but may be moved to another owner.
_INSTALLATION_KNOWN_FOR = timedelta(hours=1)
_MOST_KEPT = 2000
# All that fetching takes.
FETCH_PERMISSIONS = {"contents": "read"}


@frozen
class Token:
    """A token and its end; None if it has none."""

    text: str = field(repr=False)
    expires_at: datetime | None = None


_tokens: dict[tuple[str, ...], Token] = {}
_installations: dict[tuple[str, ...], tuple[str, datetime]] = {}
_lock = threading.Lock()


def installation_token(
    connection: Connection, repository: str, *, permissions: Mapping[str, str] | None = None
) -> Token:
    """A token for one repository, which is valid for at least 5 minutes more.

    It may do what `permissions` say, None for all that was granted to the app. Raises ProviderRefused if the app is not
    installed there, and as `app_call`.
    """
    repository_require(repository)
    key = (*_of(connection), repository.lower(), str(sorted((permissions or {}).items())))
    with _lock:
        known = _tokens.get(key)
    if known is not None and known.expires_at and clock.now() < known.expires_at - ENDS_EARLY:
        return known
    body: dict[str, Any] = {"repositories": [repository.partition("/")[2]]}
    if permissions is not None:
        body["permissions"] = dict(permissions)
    reply = _token_make(connection, repository, body, accept=(404,))
    if reply.status == 404:
        # The app was removed there, and perhaps installed again.
        installation_forget(connection, repository)
        reply = _token_make(connection, repository, body)
    token = _token(reply)
    with _lock:
        if len(_tokens) >= _MOST_KEPT:
            _tokens.clear()
        _tokens[key] = token
    return token


def installation_of(connection: Connection, repository: str) -> str:
    """The id of the app's installation that has the repository. Raises as `installation_token`."""
    repository_require(repository)
    key = (*_of(connection), repository.lower())
    with _lock:
        known = _installations.get(key)
    if known is not None and clock.now() < known[1]:
        return known[0]
    reply = app_call(connection, "GET", f"/repos/{quote(repository)}/installation", accept=(404,))
    found = reply.member("id") if reply.status == 200 else None
    if not isinstance(found, int):
        raise ProviderRefused(
            f"The GitHub App of the connection {connection.connection_id} is not installed for {repository}, or there "
            "is no such repository. Install it there.",
            http_status=404,
        )
    with _lock:
        if len(_installations) >= _MOST_KEPT:
            _installations.clear()
        _installations[key] = (str(found), clock.now() + _INSTALLATION_KNOWN_FOR)
    return str(found)


def installation_forget(connection: Connection, repository: str) -> None:
    """Forget the repository's tokens and its installation: GitHub does not accept them any more."""
    mine = (*_of(connection), repository.lower())
    with _lock:
        _installations.pop(mine, None)
        for key in [key for key in _tokens if key[: len(mine)] == mine]:
            del _tokens[key]


def tokens_forget() -> None:
    """Forget all tokens and installations."""
    with _lock:
        _tokens.clear()
        _installations.clear()


def access_token(connection: Connection, repository: str) -> Token:
    """A token for calls about the repository: of the connection's app, or else the token that users gave it.

    Raises as `installation_token`; Unprocessable if there is neither.
    """
    return installation_token(connection, repository) if connection.app_id else Token(token_require(connection))


def repository_call(
    connection: Connection,
    method: str,
    repository: str,
    path: str,
    *,
    body: Any = None,
    accept: tuple[int, ...] = (),
) -> Reply:
    """A call below ``/repos/{repository}``. A token that GitHub does not accept any more is replaced once.

    Raises as `provider_call` and `access_token`.
    """
    repository_require(repository)
    url = f"{connection.api_url}/repos/{quote(repository)}{path}"
    headers = github_headers(access_token(connection, repository).text)
    reply = provider_call(method, url, headers=headers, body=body, accept=(401, *accept))
    if reply.status == 401 and connection.app_id:
        installation_forget(connection, repository)
        headers = github_headers(access_token(connection, repository).text)
        return provider_call(method, url, headers=headers, body=body, accept=accept)
    if reply.status == 401:
        raise ProviderRefused(
            f"GitHub does not accept the token of the connection {connection.connection_id}. Set another one.",
            http_status=401,
        )
    return reply


def _token_make(
    connection: Connection, repository: str, body: Mapping[str, Any], *, accept: tuple[int, ...] = ()
) -> Reply:
    path = f"/app/installations/{installation_of(connection, repository)}/access_tokens"
    return app_call(connection, "POST", path, body=body, accept=accept)


def _of(connection: Connection) -> tuple[str, ...]:
    return (str(connection.connection_id), str(connection.api_url), str(connection.app_id))


def _token(reply: Reply) -> Token:
    text, ends = reply.member("token"), reply.member("expires_at")
    try:
        if isinstance(text, str) and text:
            return Token(text, clock.parse_timestamp(str(ends)))
    except ValueError:
        pass
    raise Unavailable("GitHub's answer has no token. Check the address of its API.")
