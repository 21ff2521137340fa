"""The pages of the audit trail: its search, and one event."""

from typing import Any
from urllib.parse import urlencode

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.urls import NoReverseMatch, reverse

from apps.accounts.policies import Permission
from apps.audit.selectors import LISTED_DAYS, AuditPage, audit_search
from apps.audit.selectors.overview import trail_protection
from apps.audit.selectors.seals import event_find, position_find
from apps.dashboard.forms.audit import AuditForm
from apps.dashboard.pages import page, shared_context
from controlplane.lib.error_codes import ErrorCode
from controlplane.lib.errors import NotFound

PAGE_SIZE = 50
# As many events a file of the API has at most.
EXPORTED = 5_000
# The pages of targets, for those who may read the trail.
_PAGES = {
    "agent": "dashboard:agent",
    "environment": "dashboard:environment",
    "job": "dashboard:job",
    "pipeline": "dashboard:pipeline",
    "run": "dashboard:run",
    "secret": "dashboard:secret",
}


@page(Permission.AUDIT_READ)
def audit_page(request: HttpRequest) -> HttpResponse:
    """Audit events, newest first. Without a search these are the last days, of which each takes eight queries."""
    form = AuditForm(request.GET)
    cursor = request.GET.get("cursor") or None
    is_valid = form.is_valid()
    found = AuditPage([], None)
    if is_valid:
        found = audit_search(**form.conditions, limit=PAGE_SIZE, cursor=cursor)
    asked = {name: value for name, value in request.GET.items() if name in form.fields and value}
    context = {
        "section": "audit",
        "form": form,
        "events": [_row(record) for record in found.records],
        "searched": bool(asked),
        "listed_days": LISTED_DAYS,
        "cursor": cursor,
        "first_query": urlencode(asked),
        "next_query": urlencode({**asked, "cursor": found.next_cursor}) if found.next_cursor else "",
        "export_query": _export_query(form) if is_valid else "",
        "exported": EXPORTED,
        "protection": trail_protection(),
    }
    return render(
        request, "dashboard/audit.html", {**shared_context(request), **context}, status=200 if is_valid else 400
    )


@page(Permission.AUDIT_READ)
def audit_event_page(request: HttpRequest, entry: str) -> HttpResponse:
    """One event with all that was recorded, and the seal that protects it."""
    record = event_find(entry)
    if record is None:
        raise NotFound("There is no such audit event.", code=ErrorCode.EVENT_NOT_FOUND)
    position = position_find(entry)
    context = {
        "section": "audit",
        "event": _row(record),
        "record": record,
        "position": position,
        "leaf": position.leaf + 1 if position else None,
    }
    return render(request, "dashboard/audit_event.html", {**shared_context(request), **context})


def _row(record: Any) -> dict[str, Any]:
    """An event as the pages show it."""
    actor = record.actor_kind if record.actor_kind == "system" else f"{record.actor_kind}:{record.actor_id}"
    return {
        "entry": record.entry,
        "at": record.at,
        "who": record.actor_name,
        "kind": record.actor_kind,
        "by_actor": urlencode({"actor": actor}),
        "action": record.action.replace(".", " ").replace("_", " "),
        "target": record.target,
        "by_target": urlencode({"target": record.target}),
        "page": _page_of(record.target),
        "result": record.result,
        "detail": {name: value for name, value in (record.detail or {}).items() if value not in (None, "")},
    }


def _page_of(target: str) -> str | None:
    """The address of the target's own page; None if it has none."""
    kind, _, name = target.partition(":")
    if kind not in _PAGES:
        return None
    try:
        return reverse(_PAGES[kind], args=[name])
    except NoReverseMatch:
        return None


def _export_query(form: AuditForm) -> str:
    """The same search as the query of ``GET /audit/export``."""
    names = {"first_day": "from", "last_day": "to"}
    asked = {names.get(name, name): str(value) for name, value in form.conditions.items() if value}
    return urlencode({**asked, "format": "csv", "limit": EXPORTED})
