"""Compliance reports as pages, as CSV and as HTML to print."""

from datetime import date, timedelta
from typing import Any
from urllib.parse import urlencode

from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse

from apps.accounts.authentication import request_actor
from apps.accounts.policies import Permission
from apps.audit.services.sign_offs import report_sign_off
from apps.dashboard.chart import outcome_chart
from apps.dashboard.pages import page, shared_context, show
from apps.dashboard.selectors.report_kinds import KINDS
from apps.dashboard.selectors.reports import Kind, Report, in_words, period_of, report_make, sign_offs
from controlplane.lib import clock
from controlplane.lib.csv_lines import csv_line
from controlplane.lib.error_codes import ErrorCode
from controlplane.lib.errors import Conflict, InvalidInput, NotFound


@page(Permission.AUDIT_READ)
def report_list_page(request: HttpRequest) -> HttpResponse:
    """Which reports there are, and the form that asks for the period of one."""
    period = period_of(None, None)
    return show(request, "reports", {"section": "reports", "kinds": KINDS.values(), "period": period})


@page(Permission.AUDIT_READ)
def report_page(request: HttpRequest, name: str) -> HttpResponse:
    """A report of a period, with its sign-offs. A period that is not possible is explained beside the form."""
    kind = _kind(name)
    asked = {end: request.GET.get(end, "") for end in ("from", "to")}
    context: dict[str, Any] = {"section": "reports", "kind": kind, "asked": asked, "problem": ""}
    try:
        report = _report(request, kind)
    except InvalidInput as error:
        context["problem"] = error.message
        return render(request, "dashboard/report.html", {**shared_context(request), **context}, status=400)
    context |= _context(report)
    context["chart"] = outcome_chart(report.contents.days, report.contents.outcomes)
    context["up_to_today"] = _up_to_today(report)
    context["asked"] = {"from": report.period.first.isoformat(), "to": report.period.last.isoformat()}
    if kind.signed_off:
        context["sign_offs"] = sign_offs(report)
    return show(request, "report", context)


@page(Permission.AUDIT_READ)
def report_csv(request: HttpRequest, name: str) -> HttpResponse:
    """The report as CSV. Its last lines say what it covers, as the foot of the page does."""
    report = _report(request, _kind(name))
    lines = [csv_line(column.title for column in report.kind.columns), *map(csv_line, report.rows), csv_line([])]
    lines += [csv_line([f"# {title}", text]) for title, text in _foot(report)]
    file = f"{name}-{report.period.first}-{report.period.last}.csv"
    headers = {"Content-Disposition": f'attachment; filename="{file}"', "X-Content-Type-Options": "nosniff"}
    return HttpResponse("".join(lines), content_type="text/csv; charset=utf-8", headers=headers)


@page(Permission.AUDIT_READ)
def report_print(request: HttpRequest, name: str) -> HttpResponse:
    """The report as a page to print or to keep: it needs nothing but its style sheet."""
    report = _report(request, _kind(name))
    context = {"kind": report.kind, **_context(report)}
    if report.kind.signed_off:
        context["sign_offs"] = sign_offs(report)
    return render(request, "dashboard/report_print.html", context)


@page(Permission.AUDIT_READ, "POST")
def report_sign_off_action(request: HttpRequest, name: str) -> HttpResponse:
    """Sign off the report that the reviewer has seen, and redirect to it. Signing it off again changes nothing."""
    kind = _kind(name)
    if not kind.signed_off:
        raise NotFound("This report is not signed off.")
    first, last = (_day(request.POST.get(end, ""), end) for end in ("from", "to"))
    report = report_make(kind, period_of(first, last))
    actor = request_actor(request)
    if not report.period.has_ended:
        raise Conflict("The period has not ended yet, so the report can still change. Sign off one that is over.")
    if request.POST.get("digest") != report.digest:
        raise Conflict(
            "The report differs from the one that you have seen. Load it again.", code=ErrorCode.CHANGED_MEANWHILE
        )
    if not any(found.is_of_this and found.actor_id == actor.id for found in sign_offs(report)):
        report_sign_off(
            actor=actor,
            report=kind.name,
            first=report.period.first.isoformat(),
            last=report.period.last.isoformat(),
            digest=report.digest,
            rows=len(report.rows),
            comment=request.POST.get("comment", "").strip(),
        )
    messages.success(request, "The report is signed off. The audit trail has the sign-off.")
    query = urlencode({"from": report.period.first, "to": report.period.last})
    return redirect(f"{reverse('dashboard:report', args=[name])}?{query}")


def _up_to_today(report: Report) -> str:
    """The query for a period as long as this one that includes today; of an empty report that ended yesterday."""
    day = timedelta(days=1)
    if report.rows or report.period.last + day != clock.now().date():
        return ""
    return urlencode({"from": report.period.first + day, "to": report.period.last + day})


def _kind(name: str) -> Kind:
    if name not in KINDS:
        raise NotFound(f"There is no such report. The reports are {', '.join(KINDS)}.")
    return KINDS[name]


def _report(request: HttpRequest, kind: Kind) -> Report:
    first, last = (_day(request.GET.get(end, ""), end) for end in ("from", "to"))
    return report_make(kind, period_of(first, last))


def _day(text: str, field: str) -> date | None:
    """The day of a field; None if it is empty. Raises InvalidInput."""
    if not text:
        return None
    try:
        if len(text) != len("2026-11-21"):
            raise ValueError
        return date.fromisoformat(text)
    except ValueError:
        raise InvalidInput.field(field, "must be a day, as 2026-11-21") from None


def _context(report: Report) -> dict[str, Any]:
    titles = [column.title for column in report.kind.columns]
    return {
        "report": report,
        "rows": [list(zip(titles, row, strict=True)) for row in report.rows],
        "foot": _foot(report),
        "query": urlencode({"from": report.period.first, "to": report.period.last}),
    }


def _foot(report: Report) -> list[tuple[str, str]]:
    """What a report covers, and by what it can be recognized later."""
    period = report.period
    ended = "" if period.has_ended else f"; it has not ended: events from {in_words(period.until)} UTC on are missing"
    today = [column.title for column in report.kind.columns if not column.proven]
    notes = list(report.contents.notes)
    if today:
        notes.append(f"Columns from today's records, which are no part of the digest: {', '.join(today)}.")
    return [
        ("Report", report.kind.title),
        ("Period", f"{period.first} to {period.last}, days in UTC{ended}"),
        ("Scope", f"{report.contents.scope}; stage {report.stage}"),
        ("Rows", str(len(report.rows))),
        ("Made", f"{in_words(report.made_at)} UTC"),
        ("SHA-256", report.digest),
        ("Seal", report.seal),
        *(("Note", note) for note in notes),
    ]
