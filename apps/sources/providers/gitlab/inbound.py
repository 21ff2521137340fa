"""Webhooks of GitLab, of projects, groups and systems: https://docs.gitlab.com/user/project/integrations/webhooks."""

import hmac
from collections.abc import Mapping
from dataclasses import replace

from apps.sources.providers.interface import Connection, SourceEvent, WebhookRequest
from apps.sources.providers.payloads import (
    MAX_MESSAGE,
    EventReader,
    Payload,
    changed_paths,
    commit_of,
    moment,
    payload_of,
    ref_pushed,
    signature_invalid,
    webhook_secrets,
)
from apps.sources.states import EventKind

# Without one of these headers, a request is not signed.
SIGNATURES = ("x-gitlab-token",)
_ACTIONS = {"open": "opened", "reopen": "reopened", "close": "closed", "merge": "closed"}


def verify(connection: Connection, request: WebhookRequest) -> None:
    """GitLab signs nothing: it sends the secret itself, in X-Gitlab-Token. See `interface.Provider`."""
    token = request.headers.get("x-gitlab-token", "").encode("utf-8", "replace")
    if not any(hmac.compare_digest(secret.encode(), token) for secret in webhook_secrets(connection)):
        raise signature_invalid()


def delivery_id(request: WebhookRequest) -> str | None:
    """GitLab's id of the delivery. A retry has the same."""
    return request.headers.get("idempotency-key") or request.headers.get("x-gitlab-event-uuid")


def kind_of(request: WebhookRequest) -> str:
    """The event, as GitLab calls it."""
    return request.headers.get("x-gitlab-event", "")


def events(request: WebhookRequest) -> list[SourceEvent]:
    """What a push, a merge request or a new name says."""
    payload = payload_of(request)
    # Those of the whole system have the other name.
    read = _READERS.get(payload.text("object_kind") or payload.text("event_name") or "")
    found = read(payload, _common(payload, delivery_id(request) or "")) if read else None
    return [found] if found else []


def _common(payload: Payload, delivery: str) -> SourceEvent:
    project = payload.at("project")
    return SourceEvent(
        kind=EventKind.PUSH,
        repository=project.text("path_with_namespace") or "",
        repository_id=project.identifier("id") or payload.identifier("project_id"),
        clone_url=project.url("git_http_url"),
        web_url=project.url("web_url"),
        default_branch=project.text("default_branch"),
        delivery_id=delivery,
        author=payload.text("user_username", limit=100) or payload.text("user", "username", limit=100),
        sender_email=payload.text("user_email") or payload.text("user", "email"),
    )


def _push(payload: Payload, common: SourceEvent) -> SourceEvent | None:
    commits, before = payload.entries("commits"), commit_of(payload, "before")
    after = commit_of(payload, "checkout_sha") or commit_of(payload, "after")
    head = next((commit for commit in commits if commit_of(commit, "id") == after), Payload(None))
    push = ref_pushed(payload, common, message=head.text("message", limit=MAX_MESSAGE))
    if push is None:
        return None
    # GitLab lists 20 commits, and says how many there are.
    is_whole = before is not None and 0 < len(commits) == payload.number("total_commits_count")
    is_deleted = commit_of(payload, "after") is None
    return replace(
        push,
        before=before,
        after=after,
        changed_paths=changed_paths(commits) if is_whole else None,
        action="deleted" if is_deleted else "created" if before is None else None,
    )


def _merge_request(payload: Payload, common: SourceEvent) -> SourceEvent | None:
    merge = payload.at("object_attributes")
    number, said = merge.number("iid"), merge.text("action", limit=50) or ""
    old = commit_of(merge, "oldrev")
    action = "synchronize" if said == "update" and old else _ACTIONS.get(said)
    if number is None or action is None:
        return None
    is_own = merge.identifier("source_project_id") == merge.identifier("target_project_id")
    commit, title = merge.at("last_commit"), merge.text("title")
    return replace(
        common,
        kind=EventKind.PULL_REQUEST,
        action=action,
        number=number,
        ref=f"refs/merge-requests/{number}/head",
        branch=merge.text("source_branch"),
        before=old,
        after=commit_of(commit, "id"),
        base=merge.text("target_branch"),
        head_repository=merge.text("source", "path_with_namespace"),
        is_fork=not is_own or merge.identifier("source_project_id") is None,
        title=title,
        message="\n".join(filter(None, [title, commit.text("message", limit=MAX_MESSAGE)])) or None,
        url=merge.url("url"),
        at=moment(merge.at("updated_at")),
    )


def _renamed(payload: Payload, common: SourceEvent) -> SourceEvent | None:
    old, new = payload.text("old_path_with_namespace"), payload.text("path_with_namespace")
    if not old or not new:
        return None
    return replace(common, kind=EventKind.REPOSITORY_RENAMED, action="renamed", repository=new, old_repository=old)


_READERS: Mapping[str, EventReader] = {
    "push": _push,
    "tag_push": _push,
    "merge_request": _merge_request,
    "project_rename": _renamed,
    "project_transfer": _renamed,
}
