"""Webhooks of any sender, signed as Standard Webhooks 1.0 has it: https://www.standardwebhooks.com.

The body is ``{"type": "push", "timestamp": …, "data": {…}}``; docs/webhooks.md has its members.
"""

import base64
import hashlib
import hmac
import re
from collections.abc import Mapping
from dataclasses import replace

from apps.sources.providers.interface import Connection, SourceEvent, WebhookRequest
from apps.sources.providers.payloads import (
    MAX_MESSAGE,
    EventReader,
    Payload,
    commit_of,
    moment,
    paths_kept,
    payload_of,
    ref_pushed,
    signature_invalid,
    webhook_secrets,
)
from apps.sources.states import EventKind
from controlplane.lib import clock
from controlplane.lib.error_codes import ErrorCode
from controlplane.lib.errors import Forbidden
from controlplane.lib.webhook_signature import webhook_key

# Without one of these headers, a request is not signed.
SIGNATURES = ("webhook-signature",)
# How far the sender's clock may be off, in seconds, so that a message that was overheard is soon worth nothing.
TOLERANCE_SECONDS = 300
_ID = re.compile(r"[!-~]{1,200}")
_TIME = re.compile(r"[0-9]{1,12}")
_VERSION = "v1,"
_ACTIONS = ("opened", "synchronize", "reopened", "closed")


def verify(connection: Connection, request: WebhookRequest) -> None:
    """HMAC-SHA256 over id, time and body. See `interface.Provider`."""
    headers = request.headers
    said, message_id, timestamp = (
        headers.get("webhook-signature", ""),
        headers.get("webhook-id", ""),
        headers.get("webhook-timestamp", ""),
    )
    if not _ID.fullmatch(message_id) or not _TIME.fullmatch(timestamp):
        raise signature_invalid()
    signed = b".".join((message_id.encode(), timestamp.encode(), request.body))
    given = [entry.removeprefix(_VERSION).encode("ascii", "replace") for entry in said.split(" ")[:10]]
    expected = [
        base64.b64encode(hmac.digest(webhook_key(secret), signed, hashlib.sha256))
        for secret in webhook_secrets(connection)
    ]
    if not any(hmac.compare_digest(one, other) for one in expected for other in given):
        raise signature_invalid()
    if abs(clock.epoch() - int(timestamp)) > TOLERANCE_SECONDS:
        raise Forbidden(
            f"The time in webhook-timestamp is off by more than {TOLERANCE_SECONDS} s. Check the sender's clock, and "
            "sign each attempt anew.",
            code=ErrorCode.SIGNATURE_EXPIRED,
        )


def delivery_id(request: WebhookRequest) -> str | None:
    """The sender's id of the message. A repetition has the same."""
    return request.headers.get("webhook-id")


def kind_of(request: WebhookRequest) -> str:
    """The kind of event, which is in the body. Raises InvalidInput."""
    return payload_of(request).text("type", limit=50) or ""


def events(request: WebhookRequest) -> list[SourceEvent]:
    """What a push, a tag or a pull request says."""
    payload = payload_of(request)
    read = _READERS.get(payload.text("type") or "")
    data = payload.at("data")
    common = SourceEvent(
        kind=EventKind.PUSH,
        repository=data.text("repository") or "",
        clone_url=data.url("clone_url"),
        web_url=data.url("web_url"),
        default_branch=data.text("default_branch"),
        delivery_id=delivery_id(request) or "",
        author=data.text("author", limit=100),
        sender_email=data.text("author_email"),
        url=data.url("url"),
        at=moment(payload.at("timestamp")),
    )
    found = read(data, common) if read else None
    return [found] if found else []


def _push(data: Payload, common: SourceEvent) -> SourceEvent | None:
    push = ref_pushed(data, common, message=data.text("message", limit=MAX_MESSAGE))
    if push is None:
        return None
    after = commit_of(data, "after")
    return replace(
        push,
        before=commit_of(data, "before"),
        after=after,
        changed_paths=paths_kept({*data.texts("changed_paths")}) if data.at("changed_paths").is_there else None,
        is_forced=data.flag("forced"),
        action="deleted" if after is None else None,
    )


def _pull_request(data: Payload, common: SourceEvent) -> SourceEvent | None:
    number, action = data.number("number"), data.text("action")
    if number is None or action not in _ACTIONS:
        return None
    title = data.text("title")
    return replace(
        common,
        kind=EventKind.PULL_REQUEST,
        action=action,
        number=number,
        ref=data.text("ref") or f"refs/pull/{number}/head",
        branch=data.text("branch"),
        before=commit_of(data, "before"),
        after=commit_of(data, "after"),
        base=data.text("base"),
        head_repository=data.text("head_repository"),
        # Who does not say that it is the repository's own is taken for a stranger.
        is_fork=data.text("head_repository") != common.repository,
        title=title,
        message="\n".join(filter(None, [title, data.text("message", limit=MAX_MESSAGE)])),
    )


_READERS: Mapping[str, EventReader] = {
    "push": _push,
    "pull_request": _pull_request,
}
