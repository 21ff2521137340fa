"""Webhooks and answers in GitHub's format, which Gitea and Forgejo follow. Here is what is the same at all of them.

https://docs.github.com/webhooks/webhook-events-and-payloads, https://docs.github.com/rest and
https://docs.gitea.com/usage/webhooks
"""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from apps.sources.providers.interface import Repository, SourceEvent
from apps.sources.providers.payloads import MAX_MESSAGE, Payload, commit_of, moment, ref_pushed
from apps.sources.states import EventKind
from controlplane.lib.errors import Unavailable


def event_of(payload: Payload, delivery: str) -> SourceEvent:
    """What each webhook says: its repository and its sender. `delivery` is the provider's id of it."""
    repository = payload.at("repository")
    return SourceEvent(
        kind=EventKind.PUSH,
        repository=repository.text("full_name") or "",
        repository_id=repository.identifier("id"),
        clone_url=repository.url("clone_url"),
        web_url=repository.url("html_url"),
        default_branch=repository.text("default_branch"),
        delivery_id=delivery,
        author=payload.text("sender", "login", limit=100),
        sender_email=payload.text("sender", "email"),
    )


def push_of(payload: Payload, common: SourceEvent) -> SourceEvent | None:
    """`common` as the push that the payload tells of; None for a ref that is no branch and no tag.

    Which paths it changes, and whether it creates or deletes the ref, each provider says in its own way.
    """
    push = ref_pushed(payload, common, message=payload.text("head_commit", "message", limit=MAX_MESSAGE))
    if push is None:
        return None
    # Of an annotated tag, `after` is the tag's own hash, and the commit is here.
    head = commit_of(payload, "head_commit", "id") if push.tag is not None else None
    return replace(push, before=commit_of(payload, "before"), after=head or commit_of(payload, "after"))


def pull_request_of(payload: Payload, common: SourceEvent) -> SourceEvent | None:
    """`common` as the pull request that the payload tells of; None if it has no number.

    Whether it comes from a fork, each provider says in its own way.
    """
    pull, number = payload.at("pull_request"), payload.number("number")
    if number is None:
        return None
    head, base, title = pull.at("head"), pull.at("base"), pull.text("title")
    return replace(
        common,
        kind=EventKind.PULL_REQUEST,
        number=number,
        ref=f"refs/pull/{number}/head",
        branch=head.text("ref"),
        after=commit_of(head, "sha"),
        base=base.text("ref"),
        base_commit=commit_of(base, "sha"),
        head_repository=head.text("repo", "full_name"),
        title=title,
        message=title,
        author=pull.text("user", "login", limit=100) or common.author,
        url=pull.url("html_url"),
        at=moment(pull.at("updated_at")),
    )


def repository_of(found: Mapping[str, object], *, product: str = "The provider") -> Repository:
    """A repository as the API answers it. Raises Unavailable for something else, with `product` in the message."""
    try:
        return Repository(
            full_name=str(found["full_name"]),
            clone_url=str(found["clone_url"]),
            web_url=str(found["html_url"]) if found.get("html_url") else None,
            ssh_url=str(found["ssh_url"]) if found.get("ssh_url") else None,
            default_branch=str(found["default_branch"]) if found.get("default_branch") else None,
            is_private=bool(found.get("private", True)),
            repository_id=str(found["id"]) if found.get("id") else None,
        )
    except (KeyError, TypeError):
        raise Unavailable(f"{product}'s answer has no repositories. Check the address of its API.") from None


def commits_of(found: Iterable[Any]) -> list[dict[str, str]]:
    """The commits of a comparison as `Comparison` has them.

    Raises KeyError, TypeError or AttributeError for something else than commits.
    """
    return [
        {
            "commit": str(one["sha"]),
            "author": str((one.get("author") or {}).get("login") or one["commit"]["author"]["name"]),
            "message": str(one["commit"]["message"]).partition("\n")[0][:500],
            "url": str(one.get("html_url") or ""),
        }
        for one in found
    ]
