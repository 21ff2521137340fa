"""Webhooks of Gitea and Forgejo: https://docs.gitea.com/usage/webhooks. Their payloads are like GitHub's."""

from collections.abc import Mapping
from dataclasses import replace

from apps.sources.providers.github_format import event_of, pull_request_of, push_of
from apps.sources.providers.interface import Connection, SourceEvent, WebhookRequest
from apps.sources.providers.payloads import EventReader, Payload, changed_paths, commit_of, hmac_verify, payload_of

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
    found = read(payload, event_of(payload, delivery_id(request) or ""))
    return [found] if found else []


def _push(payload: Payload, common: SourceEvent) -> SourceEvent | None:
    push = push_of(payload, common)
    if push is None:
        return None
    commits = payload.entries("commits")
    # Gitea lists some commits, and says how many there are.
    is_whole = push.before is not None and 0 < len(commits) == payload.number("total_commits")
    is_deleted = commit_of(payload, "after") is None
    return replace(
        push,
        changed_paths=changed_paths(commits) if is_whole else None,
        action="deleted" if is_deleted else "created" if push.before is None else None,
        url=payload.url("compare_url"),
    )


def _pull_request(payload: Payload, common: SourceEvent) -> SourceEvent | None:
    action = _ACTIONS.get(payload.text("action") or "")
    pull = pull_request_of(payload, common)
    if action is None or pull is None:
        return None
    source = payload.identifier("pull_request", "head", "repo_id")
    return replace(pull, action=action, is_fork=source is None or source != common.repository_id)


_READERS: Mapping[str, EventReader] = {
    "push": _push,
    "pull_request": _pull_request,
}
