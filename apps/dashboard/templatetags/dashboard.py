"""Template filters and tags for times, states and figures."""

import json
import re
from datetime import datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from django import template
from django.templatetags.static import static
from django.utils.html import format_html
from django.utils.safestring import SafeString

from controlplane.lib import clock

register = template.Library()

# The shape (in static/icons.svg) and the tone (a class of app.css) of each state of jobs, steps and agents.
_LOOKS = {
    "waiting": ("hollow", "idle"),
    "pending": ("hollow", "idle"),
    "queued": ("clock", "idle"),
    "assigned": ("dots", "busy"),
    "running": ("play", "busy"),
    "completed": ("tick", "good"),
    "failed": ("cross", "bad"),
    "timed_out": ("warning", "warn"),
    "cancelled": ("bar", "idle"),
    "skipped": ("skip", "idle"),
    "in_progress": ("play", "busy"),
    "rejected": ("cross", "bad"),
    "frozen": ("warning", "warn"),
    "healthy": ("tick", "good"),
    "ok": ("tick", "good"),
    "degraded": ("warning", "warn"),
    "failing": ("cross", "bad"),
    "unhealthy": ("warning", "warn"),
    "lost": ("warning", "warn"),
    "agent_fault": ("warning", "warn"),
    "moved": ("down", "busy"),
    "not_started": ("hollow", "idle"),
    "dead": ("cross", "bad"),
    "draining": ("down", "busy"),
    "retired": ("bar", "idle"),
    "rotating": ("play", "busy"),
    "overlap": ("clock", "busy"),
    "retiring": ("down", "busy"),
    "reverting": ("warning", "warn"),
    "delivered": ("tick", "good"),
    "retrying": ("warning", "warn"),
}
# The columns of reports that say how something is, and how their words look.
_REPORT_STATES = frozenset({"Alarm", "Result", "State", "Status"})
_REPORT_LOOKS = {
    "as it was sealed": "completed",
    "in time": "completed",
    "missing or damaged": "failed",
    "no rotation": "unhealthy",
    "overdue": "failed",
    "rings": "failed",
    "sealed": "completed",
    "something was changed": "failed",
}
_UNKNOWN = ("hollow", "idle")

# As `controlplane.lib.clock.timestamp` writes it.
_TRAIL_TIME = re.compile(r"\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}\.\d{6}Z")

_NOTHING = format_html('<span class="muted">{}</span>', "–")


@register.simple_tag
def state(value: str, label: str = "") -> SafeString:
    """The state as a shape and a word."""
    shape, tone = _LOOKS.get(value, _UNKNOWN)
    return format_html(
        '<span class="state state-{}"><svg class="icon" aria-hidden="true"><use href="{}#{}"></use></svg>{}</span>',
        tone,
        static("icons.svg"),
        shape,
        label or words(value),
    )


@register.filter
def tone(value: str) -> str:
    """The tone of a state: good, bad, warn, busy or idle."""
    return _LOOKS.get(value, _UNKNOWN)[1]


@register.filter
def shape(value: str) -> str:
    """The shape of a state, by its name in static/icons.svg."""
    return _LOOKS.get(value, _UNKNOWN)[0]


@register.filter
def choose(shown: Any, name: str) -> str:
    """The query of an address of the run's page with this job beside the graph."""
    return str(shown.query(chosen=name))


@register.filter
def toggle(shown: Any, name: str) -> str:
    """The query of an address of the run's page with this matrix unfolded, or folded if it is unfolded."""
    return str(shown.toggle(name))


@register.filter
def took(job: Any) -> str:
    """How long the record of a job or a run took, or takes so far; empty before it has started."""
    began = getattr(job, "started_at", None)
    if not began:
        return ""
    seconds = ((_moment(job.completed_at) or clock.now()) - clock.parse_timestamp(began)).total_seconds()
    return span(max(0.0, seconds))


@register.filter
def job_name(job: Any) -> str:
    """The name of a job in its run. Empty for the only job of a run, which has none."""
    node = str(job.node or "")
    return "" if node.startswith("#") else node


@register.filter(name="json")
def json_text(value: Any) -> str:
    """The value as JSON, for an attribute."""
    return json.dumps(value, separators=(",", ":"))


@register.filter
def parameter(value: Any) -> str:
    """The value of a parameter as pipeline files and requests write it: true or false for a flag."""
    return str(value).lower() if isinstance(value, bool) else str(value)


@register.filter
def favicon(value: str) -> str:
    """The address of the icon with which a browser's tab shows the state."""
    shape, tone = _LOOKS.get(value, _UNKNOWN)
    return static(f"favicons/{shape}-{tone}.svg")


@register.filter
def words(value: str) -> str:
    """``timed_out`` as ``Timed out``."""
    return str(value).replace("_", " ").capitalize()


@register.filter
def health_words(value: str) -> str:
    """How the control plane is, as a sentence."""
    sentences = {"ok": "All works.", "degraded": "It works, and something needs a look."}
    return sentences.get(value, "Something does not work.")


@register.filter
def report_cell(value: Any) -> Any:
    """A cell of a report: a time of the audit trail as people read it, and everything else as it is."""
    text = str(value)
    if not _TRAIL_TIME.fullmatch(text):
        return value
    return format_html('<time datetime="{}"><span>{}</span> <span>{}</span></time>', text, text[:10], text[11:19])


@register.simple_tag
def report_field(title: str, value: Any) -> Any:
    """A cell of a report on its page: in some columns, words that say how something is have its shape and colour."""
    if value is None or value == "":
        return _NOTHING
    text = str(value)
    look = _REPORT_LOOKS.get(text, text)
    return state(look, text) if title in _REPORT_STATES and look in _LOOKS else report_cell(value)


@register.simple_tag
def moment(value: str | datetime | None) -> SafeString:
    """A time relative to now ("3 min ago"). The tooltip shows the exact time."""
    when = _moment(value)
    if when is None:
        return _NOTHING
    return format_html(
        '<time datetime="{}" title="{}">{}</time>',
        clock.timestamp(when),
        when.strftime("%a %-d %b %Y, %H:%M:%S UTC"),
        _ago(clock.now() - when, when),
    )


@register.simple_tag
def zoned(value: str, zone: str) -> SafeString:
    """A time on the clocks of a time zone: ``Sat 28 Nov 2026, 03:17``. The tooltip has how far off it is."""
    when = clock.parse_timestamp(value)
    try:
        local = when.astimezone(ZoneInfo(zone))
    except (ValueError, OSError, LookupError):
        # This server does not know the zone.
        local = when
    text = local.strftime("%a %-d %b %Y, %H:%M")
    return format_html('<time datetime="{}" title="{}">{}</time>', value, _ago(clock.now() - when, when), text)


@register.filter
def weekday(value: str) -> str:
    """A time by its day: ``now`` if it has come, ``today``, ``Friday`` within a week, or ``2 Jan`` later."""
    when, now = _moment(value), clock.now()
    if when is None or when <= now:
        return "now"
    days = (when.date() - now.date()).days
    return "today" if days == 0 else when.strftime("%A" if days < 7 else "%-d %b")


@register.filter
def utc_time(value: str) -> str:
    """A time to the second: ``27 Nov 2026, 03:00:12 UTC``."""
    when = _moment(value)
    return when.strftime("%-d %b %Y, %H:%M:%S UTC") if when else ""


@register.simple_tag
def duration(start: str | datetime | None, end: str | datetime | None = None) -> SafeString:
    """The time between `start` and `end`, or until now."""
    began = _moment(start)
    if began is None:
        return _NOTHING
    seconds = max(0.0, ((_moment(end) or clock.now()) - began).total_seconds())
    return format_html('<span class="nowrap">{}</span>', span(seconds))


@register.filter
def span(seconds: float | None) -> str:
    """A duration in its two largest units."""
    if seconds is None:
        return "–"
    if seconds < 10:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    for size, unit, lower_size, lower in ((86400, "d", 3600, "h"), (3600, "h", 60, "min"), (60, "min", 1, "s")):
        if whole >= size:
            rest = whole % size // lower_size
            return f"{whole // size} {unit} {rest} {lower}" if rest else f"{whole // size} {unit}"
    return f"{whole} s"


@register.filter
def fine_span(seconds: float | None) -> str:
    """A duration of a test: as `span`, but less than a second in milliseconds."""
    return span(seconds) if seconds is None or seconds >= 1 else f"{seconds * 1000:.0f} ms"


@register.filter
def percent(share: float | None) -> str:
    """A share (0 to 1) in per cent. Smaller shares get more digits."""
    if share is None:
        return "–"
    value = share * 100
    return f"{value:.0f} %" if value >= 10 or value == 0 else f"{value:.1f} %" if value >= 1 else f"{value:.2f} %"


@register.filter
def short(identifier: str | None) -> str:
    """The last characters of an identifier, where identifiers differ; the first ones of a commit."""
    text = str(identifier or "")
    return text[:10] if len(text) == 40 else text[-8:]


@register.simple_tag
def gauge(value: float | None, label: str) -> SafeString:
    """A figure from 0 to 100 with its bar."""
    if value is None:
        return _NOTHING
    filled = min(100.0, max(0.0, float(value)))
    tone = "bad" if filled >= 90 else "warn" if filled >= 75 else "good"
    return format_html(
        '<span class="gauge"><span class="gauge-label">{}</span>'
        '<svg class="gauge-bar" viewBox="0 0 100 8" preserveAspectRatio="none" aria-hidden="true">'
        '<rect class="gauge-track" width="100" height="8"></rect>'
        '<rect class="gauge-fill gauge-{}" width="{}" height="8"></rect></svg>'
        '<span class="gauge-value">{} %</span></span>',
        label,
        tone,
        f"{filled:.1f}",
        f"{filled:.0f}",
    )


def _moment(value: Any) -> datetime | None:
    if not value:
        return None
    return value if isinstance(value, datetime) else clock.parse_timestamp(str(value))


def _ago(age: timedelta, when: datetime) -> str:
    seconds = age.total_seconds()
    if seconds < 0:
        return f"in {span(-seconds)}" if seconds < -5 else "now"
    if seconds < 5:
        return "now"
    if seconds < 60:
        return f"{seconds:.0f} s ago"
    if seconds < 3600:
        return f"{seconds // 60:.0f} min ago"
    if seconds < 86400:
        return f"{seconds // 3600:.0f} h ago"
    if seconds < 7 * 86400:
        return f"{seconds // 86400:.0f} d ago"
    return when.strftime("%-d %b %Y")
