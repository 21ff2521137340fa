"""Calls to GitLab's API. See https://docs.gitlab.com/ee/api/rest/."""

from typing import Any
from urllib.parse import quote

from apps.sources.models import Connection
from apps.sources.providers.calls import Reply, provider_call
from apps.sources.providers.names import repository_require
from apps.sources.providers.tokens import token_require


def gitlab_headers(connection: Connection) -> dict[str, str]:
    """The headers of each call. Raises Unprocessable for a connection without a token."""
    return {"PRIVATE-TOKEN": token_require(connection)}


def project_call(
    connection: Connection,
    method: str,
    project: str,
    path: str = "",
    *,
    body: Any = None,
    accept: tuple[int, ...] = (),
) -> Reply:
    """A call about one project, by its full name. Raises as `provider_call` and `gitlab_headers`."""
    url = f"{connection.api_url}/projects/{quote(repository_require(project), safe='')}{path}"
    return provider_call(method, url, headers=gitlab_headers(connection), body=body, accept=accept)
