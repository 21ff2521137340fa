"""Checks at GitHub: check runs, or commit statuses where the connection has no app or its app may not write checks.

https://docs.github.com/en/rest/checks/runs and https://docs.github.com/en/rest/commits/statuses
"""

from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import quote, urlencode

from apps.sources.models import Connection
from apps.sources.providers.calls import ProviderRefused
from apps.sources.providers.github.tokens import repository_call
from apps.sources.providers.interface import Annotation, Check
from apps.sources.providers.statuses import STATUS_ID, check_line, check_state
from controlplane.lib.errors import Unavailable

# GitHub's limits: how many annotations a request has, their texts in characters, and a summary in bytes.
ANNOTATIONS_AT_ONCE = 50
_TITLE, _MESSAGE, _SUMMARY = 255, 16_000, 65_000

_STATES = {
    "queued": "pending",
    "in_progress": "pending",
    "failure": "failure",
    "timed_out": "failure",
    "action_required": "failure",
    "cancelled": "error",
}


def check_send(connection: Connection, check: Check) -> str | None:
    """Show the check as a check run, or as a commit status. Returns the id of the check run, or `STATUS_ID`.

    Raises as `repository_call`.
    """
    if connection.app_id and check.provider_id != STATUS_ID:
        try:
            return _run_send(connection, check)
        except ProviderRefused as refusal:
            # The app lacks the permission, or its owner has not accepted it yet.
            if refusal.http_status != 403:
                raise
    return _status_send(connection, check)


def _status_send(connection: Connection, check: Check) -> str:
    """The newest status of a name counts, so that a repeated one changes nothing."""
    body = {
        # What ended otherwise, such as skipped, holds nothing up.
        "state": _STATES.get(check_state(check), "success"),
        "context": check.name,
        "description": check_line(check),
        **({"target_url": check.details_url} if check.details_url else {}),
    }
    repository_call(connection, "POST", check.repository, f"/statuses/{quote(check.commit, safe='')}", body=body)
    return STATUS_ID


def _run_send(connection: Connection, check: Check) -> str:
    """Create or update the check run; where an earlier call may have done so, look that up before."""
    number = None if check.is_new else check.provider_id
    shown = 0
    if check.maybe_sent:
        found = _run_find(connection, check, number)
        if found is not None:
            number = str(found["id"])
            shown = _annotations_shown(found)
    annotations = list(check.annotations)[shown:]
    body = {**_described(check), "output": _output(check, annotations[:ANNOTATIONS_AT_ONCE])}
    if number is not None:
        reply = repository_call(
            connection, "PATCH", check.repository, f"/check-runs/{number}", body=body, accept=(404,)
        )
        # GitHub has removed it, as it does with those of old commits.
        number = number if reply.status == 200 else None
    if number is None:
        reply = repository_call(
            connection,
            "POST",
            check.repository,
            "/check-runs",
            body={"head_sha": check.commit, "external_id": check.external_id, **body},
        )
        number = _id(reply.document)
    _annotations_add(connection, check, number, annotations[ANNOTATIONS_AT_ONCE:])
    return number


def _annotations_add(connection: Connection, check: Check, number: str, annotations: Sequence[Annotation]) -> None:
    """Add the annotations that the first request had no room for: each request adds some to those that are there."""
    for begin in range(0, len(annotations), ANNOTATIONS_AT_ONCE):
        body = {"output": _output(check, annotations[begin : begin + ANNOTATIONS_AT_ONCE])}
        repository_call(connection, "PATCH", check.repository, f"/check-runs/{number}", body=body)


def _run_find(connection: Connection, check: Check, number: str | None) -> Mapping[str, Any] | None:
    """The check run as GitHub has it: that of this number, or the newest of ours that is newer than the last one."""
    if number is not None:
        reply = repository_call(connection, "GET", check.repository, f"/check-runs/{number}", accept=(404,))
        return reply.document if reply.status == 200 else None
    query = urlencode({"check_name": check.name, "filter": "all", "per_page": 100})
    path = f"/commits/{quote(check.commit, safe='')}/check-runs?{query}"
    runs = repository_call(connection, "GET", check.repository, path).member("check_runs")
    last = int(check.provider_id) if check.provider_id else 0
    ours = [
        run
        for run in runs or ()
        if isinstance(run, dict) and run.get("external_id") == check.external_id and int(_id(run)) > last
    ]
    return max(ours, key=lambda run: int(run["id"]), default=None)


def _annotations_shown(run: Mapping[str, Any]) -> int:
    """How many annotations a check run has."""
    count = (run.get("output") or {}).get("annotations_count")
    return count if isinstance(count, int) else 0


def _described(check: Check) -> dict[str, Any]:
    """What a check run says of itself, without its texts."""
    described = {
        "name": check.name,
        "details_url": check.details_url,
        "status": check.status,
        "started_at": check.started_at,
        "conclusion": check.conclusion,
        "completed_at": check.completed_at,
    }
    return {name: value for name, value in described.items() if value}


def _output(check: Check, annotations: Sequence[Annotation]) -> dict[str, Any]:
    # GitHub wants both.
    output = {"title": check_line(check), "summary": _cut(check.summary) or check_line(check)}
    return {**output, **({"annotations": [_annotation(one) for one in annotations]} if annotations else {})}


def _cut(text: str) -> str:
    """The text in as many bytes as GitHub takes."""
    return text.encode(errors="replace")[:_SUMMARY].decode(errors="ignore")


def _annotation(annotation: Annotation) -> dict[str, Any]:
    described = {
        "path": annotation.path,
        "start_line": annotation.line,
        "end_line": annotation.end_line or annotation.line,
        "annotation_level": annotation.level,
        "message": annotation.message[:_MESSAGE],
    }
    return {**described, **({"title": annotation.title[:_TITLE]} if annotation.title else {})}


def _id(run: Any) -> str:
    number = run.get("id") if isinstance(run, dict) else None
    if not isinstance(number, int):
        raise Unavailable("GitHub's answer has no check run. Check the address of its API.")
    return str(number)
