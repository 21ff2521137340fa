"""Repositories at Gitea and Forgejo: which ones a connection reaches, and how to compare them."""

from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

from apps.pipelines.refs import ref_validate
from apps.sources.models import Connection
from apps.sources.providers.calls import provider_pages
from apps.sources.providers.gitea.calls import gitea_headers, repository_call
from apps.sources.providers.github_format import commits_of, repository_of
from apps.sources.providers.interface import Comparison, Repository
from apps.sources.providers.names import by_name
from controlplane.lib.errors import Unavailable


def repositories(connection: Connection) -> list[Repository]:
    """The repositories that the connection's token reaches, by their names. Raises as `provider_call`."""
    url = f"{connection.api_url}/user/repos?limit=50"
    return by_name(_repository(one) for one in provider_pages(url, headers=gitea_headers(connection)))


def repository_get(connection: Connection, repository: str) -> Repository | None:
    """The repository of this full name, or None if the connection does not reach it. Raises as `repository_call`."""
    reply = repository_call(connection, "GET", repository, accept=(404,))
    return _repository(reply.document) if reply.status == 200 else None


def compare(connection: Connection, repository: str, base: str, head: str) -> Comparison:
    """What is in `head` and not in `base`. Raises InvalidInput, and as `repository_call`.

    Gitea does not say how far `head` is behind, so this asks the other way round, too. It names the paths of each
    commit, not those that differ in the end: a change that was taken back counts.
    """
    ref_validate(base, field="base")
    ref_validate(head, field="head")
    forward, back = _between(connection, repository, base, head), _between(connection, repository, head, base)
    try:
        # The newest is first.
        commits = commits_of(reversed(forward["commits"]))
        total = int(forward["total_commits"])
        is_whole = len(commits) == total and all(isinstance(one.get("files"), list) for one in forward["commits"])
        paths = {str(file["filename"]) for one in forward["commits"] for file in one.get("files") or ()}
        return Comparison(
            ahead_by=total,
            behind_by=int(back["total_commits"]),
            commits=commits if len(commits) == total else None,
            paths=sorted(paths) if is_whole else None,
            url=f"{connection.web_url}/{repository}/compare/{quote(base)}...{quote(head)}",
        )
    except (KeyError, TypeError, ValueError, AttributeError):
        raise Unavailable("Gitea's answer has no comparison. Check the address of its API.") from None


def _between(connection: Connection, repository: str, base: str, head: str) -> Any:
    return repository_call(connection, "GET", repository, f"/compare/{quote(base)}...{quote(head)}").document


def _repository(found: Mapping[str, object]) -> Repository:
    return repository_of(found, product="Gitea")
