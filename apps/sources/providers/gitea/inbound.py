"""Webhooks of Gitea and Forgejo: https://docs.gitea.com/usage/webhooks. Their payloads are like GitHub's."""

from collections.abc import Callable, Mapping
from dataclasses import replace

from apps.sources.providers.interface import Connection, SourceEvent, WebhookRequest
from apps.sources.providers.payloads import (
    MAX_MESSAGE,
    Payload,
    changed_paths,
    commit_of,
    first_line,
    hmac_verify,
    moment,
    payload_of,
    ref_parts,
)
from apps.sources.states import EventKind

# Without one of these headers, a request is not signed.
SIGNATURES = ("x-gitea-signature", "x-forgejo-signature")
_ACTIONS = {"opened": "opened", "synchronized": "synchronize", "reopened": "reopened", "closed": "closed"}


def verify(connection: Connection, request: WebhookRequest) -> None:
    """HMAC-SHA256 over the body as it was sent, in X-Gitea-Signature. See `interface.Provider`."""
    signature = request.headers.get("x-gitea-signature") or request.headers.get("x-forgejo-signature", "")
    hmac_verify(connection, request.body, signature)


def delivery_id(request: WebhookRequest) -> str | None:
    """Gitea's id of the delivery. A redelivery has the same."""
    return request.headers.get("x-gitea-delivery") or request.headers.get("x-forgejo-delivery")


def kind_of(request: WebhookRequest) -> str:
    """The event, as Gitea calls it."""
    return request.headers.get("x-gitea-event") or request.headers.get("x-forgejo-event", "")


def events(request: WebhookRequest) -> list[SourceEvent]:
    """What a push or a pull request says."""
    read = _READERS.get(kind_of(request))
    if read is None:
        return []
    payload = payload_of(request)
    found = read(payload, _common(payload, delivery_id(request) or ""))
    return [found] if found else []


def _common(payload: Payload, delivery: str) -> SourceEvent:
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
    )


def _push(payload: Payload, common: SourceEvent) -> SourceEvent | None:
    branch, tag = ref_parts(payload.text("ref"))
    if branch is None and tag is None:
        return None
    commits, before, after = payload.entries("commits"), commit_of(payload, "before"), commit_of(payload, "after")
    # Gitea lists some commits, and says how many there are.
    is_whole = before is not None and 0 < len(commits) == payload.number("total_commits")
    message = payload.text("head_commit", "message", limit=MAX_MESSAGE)
    return replace(
        common,
        kind=EventKind.TAG if tag is not None else EventKind.PUSH,
        ref=payload.text("ref"),
        branch=branch,
        tag=tag,
        before=before,
        after=(commit_of(payload, "head_commit", "id") if tag is not None else None) or after,
        changed_paths=changed_paths(commits) if is_whole else None,
        action="deleted" if after is None else "created" if before is None else None,
        message=message,
        title=first_line(message),
        url=payload.url("compare_url"),
    )


def _pull_request(payload: Payload, common: SourceEvent) -> SourceEvent | None:
    pull, number = payload.at("pull_request"), payload.number("number")
    action = _ACTIONS.get(payload.text("action") or "")
    if action is None or number is None:
        return None
    head, base = pull.at("head"), pull.at("base")
    source = head.identifier("repo_id")
    title = pull.text("title")
    return replace(
        common,
        kind=EventKind.PULL_REQUEST,
        action=action,
        number=number,
        ref=f"refs/pull/{number}/head",
        branch=head.text("ref"),
        after=commit_of(head, "sha"),
        base=base.text("ref"),
        base_commit=commit_of(base, "sha"),
        head_repository=head.text("repo", "full_name"),
        is_fork=source is None or source != common.repository_id,
        title=title,
        message=title,
        author=pull.text("user", "login", limit=100) or common.author,
        url=pull.url("html_url"),
        at=moment(pull.at("updated_at")),
    )


_READERS: Mapping[str, Callable[[Payload, SourceEvent], SourceEvent | None]] = {
    "push": _push,
    "pull_request": _pull_request,
}
