"""Projects at GitLab: which ones a connection reaches and what is between two commits."""

from typing import Any
from urllib.parse import urlencode

from apps.pipelines.refs import ref_validate
from apps.sources.models import Connection
from apps.sources.providers.calls import provider_pages
from apps.sources.providers.gitlab.calls import gitlab_headers, project_call
from apps.sources.providers.interface import Comparison, Repository
from apps.sources.providers.names import by_name
from controlplane.lib.errors import Unavailable


def repositories(connection: Connection) -> list[Repository]:
    """The projects that the connection's token reaches as a member, by their names. Raises as `provider_call`."""
    url = f"{connection.api_url}/projects?membership=true&archived=false&per_page=100"
    return by_name(_repository(one) for one in provider_pages(url, headers=gitlab_headers(connection)))


def repository_get(connection: Connection, repository: str) -> Repository | None:
    """The project of this full name, or None if the connection does not reach it. Raises as `project_call`."""
    reply = project_call(connection, "GET", repository, accept=(404,))
    return _repository(reply.document) if reply.status == 200 else None


def compare(connection: Connection, repository: str, base: str, head: str) -> Comparison:
    """What is in `head` and not in `base`. Raises InvalidInput, and as `project_call`.

    https://docs.gitlab.com/ee/api/repositories.html#compare-branches-tags-or-commits. GitLab does not say how far
    `head` is behind, so this asks the other way round, too.
    """
    ref_validate(base, field="base")
    ref_validate(head, field="head")
    forward, back = _between(connection, repository, base, head), _between(connection, repository, head, base)
    try:
        commits = [
            {
                "commit": str(one["id"]),
                "author": str(one.get("author_name") or ""),
                "message": str(one.get("title") or "")[:500],
                "url": str(one.get("web_url") or ""),
            }
            for one in forward["commits"]
        ]
        is_whole = not forward.get("compare_timeout") and not any(one.get("overflow") for one in forward["diffs"])
        return Comparison(
            ahead_by=len(commits),
            behind_by=len(back["commits"]),
            commits=commits,
            paths=_paths(forward["diffs"]) if is_whole else None,
            url=str(forward["web_url"]) if forward.get("web_url") else None,
        )
    except (KeyError, TypeError, AttributeError):
        raise Unavailable("GitLab's answer has no comparison. Check the address of its API.") from None


def _between(connection: Connection, repository: str, base: str, head: str) -> Any:
    query = urlencode({"from": base, "to": head})
    return project_call(connection, "GET", repository, f"/repository/compare?{query}").document


def _paths(diffs: list[dict[str, object]]) -> list[str]:
    return sorted({str(one[member]) for one in diffs for member in ("old_path", "new_path") if one.get(member)})


def _repository(found: dict[str, object]) -> Repository:
    try:
        return Repository(
            full_name=str(found["path_with_namespace"]),
            clone_url=str(found["http_url_to_repo"]),
            web_url=str(found["web_url"]) if found.get("web_url") else None,
            ssh_url=str(found["ssh_url_to_repo"]) if found.get("ssh_url_to_repo") else None,
            default_branch=str(found["default_branch"]) if found.get("default_branch") else None,
            is_private=found.get("visibility") != "public",
            repository_id=str(found["id"]) if found.get("id") else None,
        )
    except (KeyError, TypeError):
        raise Unavailable("GitLab's answer has no projects. Check the address of its API.") from None
