"""A GitHub App as itself: the manifest flow that makes it, its signature, its installations.

https://docs.github.com/en/apps/sharing-github-apps/registering-a-github-app-from-a-manifest
"""

from collections.abc import Iterator, Mapping
from dataclasses import field
from datetime import datetime, timedelta
from typing import Any
from urllib.parse import quote

from apps.sources.models import Connection
from apps.sources.providers.calls import Reply, provider_call, provider_pages
from controlplane.lib import clock
from controlplane.lib.envelope import DecryptionFailed
from controlplane.lib.error_codes import ErrorCode
from controlplane.lib.errors import InvalidInput, Unavailable, Unprocessable
from controlplane.lib.frozen import frozen

# What an app of ours may do. Contents are read to fetch them and to compare commits.
PERMISSIONS = {
    "checks": "write",
    "contents": "read",
    "metadata": "read",
    "pull_requests": "read",
    "statuses": "write",
}
# GitHub sends those of the installation itself without being asked.
EVENTS = ("check_run", "check_suite", "create", "delete", "pull_request", "push", "repository")
# GitHub's limit.
NAME_CHARACTERS = 34

API_VERSION = "2022-11-28"
# GitHub refuses signatures for more than 10 minutes, counted from `iat`, and clocks differ.
_SIGNED_BEFORE = timedelta(seconds=60)
_SIGNED_FOR = timedelta(minutes=8)
_SERVES_FOR = timedelta(minutes=4)
_MOST_SIGNED = 100

# By the connection and its key: a signature, and when it was made.
_signed: dict[tuple[str, ...], tuple[str, datetime]] = {}


@frozen
class NewApp:
    """An app that GitHub has just made. Its secrets are given out this once."""

    app_id: str
    slug: str
    name: str
    owner: str | None
    url: str | None
    client_id: str | None
    webhook_secret: str = field(repr=False)
    private_key: str = field(repr=False)


@frozen
class Installation:
    """Where an app is installed: the user or organisation, and how much of it the app may see."""

    installation_id: str
    account: str
    selects_all: bool
    is_suspended: bool
    url: str | None
    permissions: Mapping[str, str]


def app_manifest(*, name: str, base_url: str, webhook_url: str, redirect_url: str, setup_url: str) -> dict[str, Any]:
    """The manifest of an app, as a browser posts it to GitHub."""
    return {
        "name": name[:NAME_CHARACTERS],
        "url": base_url,
        "description": "Runs the pipelines of repositories and shows their checks.",
        "hook_attributes": {"url": webhook_url, "active": True},
        "redirect_url": redirect_url,
        "setup_url": setup_url,
        "setup_on_update": False,
        "public": False,
        "request_oauth_on_install": False,
        "default_permissions": PERMISSIONS,
        "default_events": list(EVENTS),
    }


def app_convert(*, api_url: str, code: str) -> NewApp:
    """Exchange the code that GitHub gave the browser for the app. A code serves once, for an hour.

    Raises InvalidInput for ``code``, Unavailable and RetryLater. After Unavailable the app may exist, unknown to us.
    """
    url = f"{api_url}/app-manifests/{quote(code, safe='')}/conversions"
    reply = provider_call("POST", url, headers=github_headers(), accept=(404, 422))
    if reply.status >= 400:
        message = "must be a code that GitHub has given out within the last hour, and that nothing has used"
        raise InvalidInput.field("code", message)
    found = reply.document
    try:
        return NewApp(
            app_id=str(int(found["id"])),
            slug=str(found["slug"])[:100],
            name=str(found["name"])[:100],
            owner=_text(reply.member("owner", "login")),
            url=_text(found.get("html_url")),
            client_id=_text(found.get("client_id")),
            webhook_secret=str(found["webhook_secret"]),
            private_key=str(found["pem"]),
        )
    except (KeyError, TypeError, ValueError):
        raise Unavailable("GitHub's answer has no app. Check the address of its API.") from None


def app_token(connection: Connection) -> str:
    """The signature by which GitHub knows the app itself: a JWT, for four to eight minutes.

    A signature takes KMS a call and this process a tenth of a second, so it serves for some minutes. Raises
    Unprocessable for a connection without an app, and Unavailable when KMS does not answer.
    """
    key = tuple(
        str(getattr(connection, member)) for member in ("connection_id", "api_url", "app_id", "encrypted_private_key")
    )
    known = _signed.get(key)
    now = clock.now()
    if known is None or not known[1] <= now < known[1] + _SERVES_FOR:
        if len(_signed) >= _MOST_SIGNED:
            _signed.clear()
        known = _signed[key] = (_sign(connection), now)
    return known[0]


def signatures_forget() -> None:
    """Forget the signatures of apps."""
    _signed.clear()


def _sign(connection: Connection) -> str:
    # Only what acts as an app needs it.
    import jwt

    try:
        key = connection.secret("private_key")
    except DecryptionFailed:
        raise Unprocessable(
            f"The private key of the connection {connection.connection_id} cannot be decrypted: another key encrypted "
            "it, or its record was changed. Create the app again.",
            code=ErrorCode.SOURCE_REFUSED,
        ) from None
    if not key or not connection.app_id:
        message = f"The connection {connection.connection_id} has no GitHub App. Create one for it."
        raise Unprocessable(message, code=ErrorCode.SOURCE_REFUSED)
    now = clock.now()
    claims = {"iss": str(connection.app_id), "iat": now - _SIGNED_BEFORE, "exp": now + _SIGNED_FOR}
    try:
        return jwt.encode(claims, key, algorithm="RS256")
    except (ValueError, TypeError, jwt.exceptions.PyJWTError):
        message = f"The private key of the connection {connection.connection_id} is malformed. Set it again."
        raise Unprocessable(message, code=ErrorCode.SOURCE_REFUSED) from None


def app_call(
    connection: Connection, method: str, path: str, *, body: Any = None, accept: tuple[int, ...] = ()
) -> Reply:
    """A call as the app itself. Raises as `provider_call` and `app_token`."""
    headers = github_headers(app_token(connection))
    url, who = f"{connection.api_url}{path}", f"app {connection.app_id}"
    return provider_call(method, url, headers=headers, body=body, accept=accept, who=who)


def app_pages(connection: Connection, path: str) -> Iterator[Any]:
    """The entries of a list that the app itself may read. Raises as `app_call`."""
    headers = github_headers(app_token(connection))
    return provider_pages(f"{connection.api_url}{path}", headers=headers, who=f"app {connection.app_id}")


def installations(connection: Connection) -> list[Installation]:
    """Where the app is installed. Raises as `app_call`."""
    return [
        Installation(
            installation_id=str(one["id"]),
            account=str((one.get("account") or {}).get("login") or "?"),
            selects_all=one.get("repository_selection") == "all",
            is_suspended=bool(one.get("suspended_at")),
            url=_text(one.get("html_url")),
            permissions={str(name): str(level) for name, level in (one.get("permissions") or {}).items()},
        )
        for one in app_pages(connection, "/app/installations?per_page=100")
        if isinstance(one, dict) and one.get("id")
    ]


def github_headers(token: str | None = None) -> dict[str, str]:
    """The headers of a call with this token."""
    headers = {"Accept": "application/vnd.github+json", "X-GitHub-Api-Version": API_VERSION}
    return {**headers, "Authorization": f"Bearer {token}"} if token else headers


def _text(value: Any) -> str | None:
    return str(value)[:500] if value else None
