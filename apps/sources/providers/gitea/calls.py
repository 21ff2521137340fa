"""Calls to the API of Gitea and Forgejo. See https://docs.gitea.com/api/."""

from typing import Any
from urllib.parse import quote

from apps.sources.models import Connection
from apps.sources.providers.calls import Reply, provider_call
from apps.sources.providers.names import repository_require
from apps.sources.providers.tokens import token_require


def gitea_headers(connection: Connection) -> dict[str, str]:
    """The headers of each call. Raises Unprocessable for a connection without a token."""
    return {"Authorization": f"token {token_require(connection)}"}


def repository_call(
    connection: Connection,
    method: str,
    repository: str,
    path: str = "",
    *,
    body: Any = None,
    accept: tuple[int, ...] = (),
) -> Reply:
    """A call below ``/repos/{repository}``. Raises as `provider_call` and `gitea_headers`."""
    url = f"{connection.api_url}/repos/{quote(repository_require(repository))}{path}"
    return provider_call(method, url, headers=gitea_headers(connection), body=body, accept=accept)
