"""Webhooks of GitHub: https://docs.github.com/webhooks. Those of an App, of an organisation and of a repository."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from django.conf import settings

from apps.sources.providers.github_format import event_of, pull_request_of, push_of
from apps.sources.providers.interface import Connection, SourceEvent, WebhookRequest
from apps.sources.providers.payloads import (
    EventReader,
    Payload,
    changed_paths,
    commit_of,
    hmac_verify,
    moment,
    payload_of,
)
from apps.sources.states import EventKind

# Without one of these headers, a request is not signed.
SIGNATURES = ("x-hub-signature-256",)
_PREFIX = "sha256="
# GitHub lists so many commits of a push at most.
_MOST_COMMITS = 2048
_MOST_NAMES = 100
_PULL_REQUEST_ACTIONS = ("opened", "synchronize", "reopened", "closed")


def verify(connection: Connection, request: WebhookRequest) -> None:
    """HMAC-SHA256 over the body as it was sent, in X-Hub-Signature-256. See `interface.Provider`."""
    signature = request.headers.get("x-hub-signature-256", "")
    hmac_verify(connection, request.body, signature.removeprefix(_PREFIX))


def delivery_id(request: WebhookRequest) -> str | None:
    """GitHub's id of the delivery. A redelivery has the same."""
    return request.headers.get("x-github-delivery")


def kind_of(request: WebhookRequest) -> str:
    """The event, as GitHub calls it."""
    return request.headers.get("x-github-event", "")


def app_of(request: WebhookRequest) -> str | None:
    """The id of the App whose webhook it is; None for that of a repository or an organisation."""
    is_app = request.headers.get("x-github-hook-installation-target-type") == "integration"
    return request.headers.get("x-github-hook-installation-target-id") if is_app else None


def events(request: WebhookRequest) -> list[SourceEvent]:
    """What a push, a pull request, a check that is to run again, an installation or a new name says."""
    read = _READERS.get(kind_of(request))
    if read is None:
        return []
    payload = payload_of(request)
    found = read(payload, _common(payload, delivery_id(request) or ""))
    return [found] if found else []


def _common(payload: Payload, delivery: str) -> SourceEvent:
    return replace(
        event_of(payload, delivery),
        installation_id=payload.identifier("installation", "id"),
        action=payload.text("action", limit=50),
        sender_identity=_identity(payload.at("sender")),
        sender_email=payload.text("pusher", "email"),
    )


def _identity(sender: Payload) -> str | None:
    """The identity of an account, if it is at the GitHub with which people sign in: each server counts its accounts."""
    signs_in = (sender.url("html_url") or "").startswith(f"{settings.GITHUB_URL.rstrip('/')}/")
    number = sender.number("id") if signs_in else None
    return f"github#{number}" if number else None


def _push(payload: Payload, common: SourceEvent) -> SourceEvent | None:
    push = push_of(payload, common)
    if push is None:
        return None
    commits, is_forced = payload.entries("commits"), payload.flag("forced")
    is_whole = push.before is not None and not is_forced and 0 < len(commits) < _MOST_COMMITS
    return replace(
        push,
        changed_paths=changed_paths(commits) if is_whole else None,
        is_forced=is_forced,
        action="deleted" if payload.flag("deleted") else "created" if payload.flag("created") else None,
        url=payload.url("compare"),
        at=moment(payload.at("repository", "pushed_at")),
    )


def _pull_request(payload: Payload, common: SourceEvent) -> SourceEvent | None:
    pull = pull_request_of(payload, common)
    if common.action not in _PULL_REQUEST_ACTIONS or pull is None:
        return None
    # The repository of the change is null once it is deleted: it was another one, then.
    source = payload.identifier("pull_request", "head", "repo", "id")
    return replace(pull, before=commit_of(payload, "before"), is_fork=source is None or source != common.repository_id)


def _check_run(payload: Payload, common: SourceEvent) -> SourceEvent | None:
    if common.action != "rerequested":
        return None
    check = payload.at("check_run")
    return replace(
        common,
        kind=EventKind.CHECK_RERUN,
        after=commit_of(check, "head_sha"),
        external_id=check.text("external_id", limit=200),
        title=check.text("name"),
        url=check.url("html_url"),
    )


def _check_suite(payload: Payload, common: SourceEvent) -> SourceEvent | None:
    if common.action != "rerequested":
        return None
    suite = payload.at("check_suite")
    return replace(common, kind=EventKind.CHECK_RERUN, after=commit_of(suite, "head_sha"))


def _installation(payload: Payload, common: SourceEvent) -> SourceEvent:
    added = payload.entries("repositories_added") or payload.entries("repositories")
    removed = payload.entries("repositories_removed")
    return replace(
        common,
        kind=EventKind.INSTALLATION,
        title=payload.text("installation", "account", "login"),
        repositories_added=_names(added),
        repositories_removed=_names(removed),
    )


def _names(repositories: Sequence[Payload]) -> list[str]:
    """The names of the first repositories: an installation may have thousands."""
    return [name for entry in repositories[:_MOST_NAMES] if (name := entry.text("full_name"))]


def _repository(payload: Payload, common: SourceEvent) -> SourceEvent | None:
    owner, _, name = common.repository.partition("/")
    if common.action == "renamed":
        name = payload.text("changes", "repository", "name", "from") or ""
    elif common.action == "transferred":
        before = payload.at("changes", "owner", "from")
        owner = before.text("user", "login") or before.text("organization", "login") or ""
    if common.action not in ("renamed", "transferred") or not owner or not name:
        return None
    return replace(common, kind=EventKind.REPOSITORY_RENAMED, old_repository=f"{owner}/{name}")


_READERS: Mapping[str, EventReader] = {
    "push": _push,
    "pull_request": _pull_request,
    "check_run": _check_run,
    "check_suite": _check_suite,
    "installation": _installation,
    "installation_repositories": _installation,
    "repository": _repository,
}
