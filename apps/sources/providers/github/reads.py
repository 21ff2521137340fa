"""Repositories at GitHub: which ones a connection reaches, how to fetch them, and what is between two commits."""

from dataclasses import replace
from urllib.parse import quote

from apps.pipelines.refs import ref_validate
from apps.sources.models import Connection
from apps.sources.providers.calls import ProviderRefused, provider_pages
from apps.sources.providers.github.app import app_call, github_headers, installations
from apps.sources.providers.github.tokens import (
    FETCH_PERMISSIONS,
    installation_token,
    repository_call,
)
from apps.sources.providers.github_format import commits_of, repository_of
from apps.sources.providers.interface import CloneCredentials, Comparison, Repository
from apps.sources.providers.names import by_name
from apps.sources.providers.tokens import token_require
from controlplane.lib.errors import Unavailable

# The user name that GitHub expects with a token. Of other tokens it ignores the name.
TOKEN_USER = "x-access-token"
# So many files a comparison names at most.
_MOST_FILES = 300
# Accounts in which an app is installed; of more, not all repositories are listed.
_MOST_INSTALLATIONS = 50


def repositories(connection: Connection) -> list[Repository]:
    """The repositories that the connection reaches, by their names. Raises as `provider_call`."""
    if not connection.app_id:
        headers = github_headers(token_require(connection))
        url = f"{connection.api_url}/user/repos?per_page=100"
        found = [repository_of(one) for one in provider_pages(url, headers=headers)]
    else:
        found = [
            repository
            for installation in installations(connection)[:_MOST_INSTALLATIONS]
            if not installation.is_suspended
            for repository in _of_installation(connection, installation.installation_id)
        ]
    return by_name(found)


def repository_get(connection: Connection, repository: str) -> Repository | None:
    """The repository of this full name, or None if the connection does not reach it. Raises as `repository_call`."""
    try:
        reply = repository_call(connection, "GET", repository, "", accept=(404,))
    except ProviderRefused as refusal:
        if refusal.http_status == 404:
            # The app is not installed there.
            return None
        raise
    return repository_of(reply.document) if reply.status == 200 else None


def compare(connection: Connection, repository: str, base: str, head: str) -> Comparison:
    """What is in `head` and not in `base`. Raises InvalidInput, and as `repository_call`.

    https://docs.github.com/en/rest/commits/commits#compare-two-commits
    """
    ref_validate(base, field="base")
    ref_validate(head, field="head")
    reply = repository_call(connection, "GET", repository, f"/compare/{quote(base)}...{quote(head)}?per_page=250")
    found = reply.document
    try:
        total, files = int(found["total_commits"]), found.get("files")
        commits = commits_of(found["commits"])
        return Comparison(
            ahead_by=int(found["ahead_by"]),
            behind_by=int(found["behind_by"]),
            commits=commits if len(commits) == total else None,
            paths=_paths(files) if isinstance(files, list) and len(files) < _MOST_FILES else None,
            url=str(found["html_url"]) if found.get("html_url") else None,
        )
    except (KeyError, TypeError, ValueError, AttributeError):
        raise Unavailable("GitHub's answer has no comparison. Check the address of its API.") from None


def clone_credentials(connection: Connection, repository: str) -> CloneCredentials | None:
    """With what an agent fetches the repository: a token that may read it alone. None for a connection without an app.

    A token that users gave may do more, so no agent gets it: a pipeline names a secret instead. Raises as
    `installation_token`.
    """
    if not connection.web_url or not connection.app_id:
        return None
    token = installation_token(connection, repository, permissions=FETCH_PERMISSIONS)
    return CloneCredentials(
        url=f"{connection.web_url}/", username=TOKEN_USER, password=token.text, expires_at=token.expires_at
    )


def _of_installation(connection: Connection, number: str) -> list[Repository]:
    # A token for all repositories of the installation, which leaves this function only as a header.
    body = {"permissions": {"metadata": "read"}}
    try:
        reply = app_call(connection, "POST", f"/app/installations/{number}/access_tokens", body=body)
    except ProviderRefused as refusal:
        if refusal.http_status in (403, 404):
            # It was removed or suspended at this moment.
            return []
        raise
    token = reply.member("token")
    if not isinstance(token, str):
        raise Unavailable("GitHub's answer has no token. Check the address of its API.")
    url = f"{connection.api_url}/installation/repositories?per_page=100"
    listed = provider_pages(url, headers=github_headers(token), member="repositories")
    return [replace(repository_of(one), installation_id=number) for one in listed]


def _paths(files: list[dict[str, object]]) -> list[str]:
    """The paths that differ. A renamed file counts at both."""
    names = {str(one[member]) for one in files for member in ("filename", "previous_filename") if one.get(member)}
    return sorted(names)
