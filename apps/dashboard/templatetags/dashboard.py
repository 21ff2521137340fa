"""Template filters and tags for times, states and figures."""

from datetime import datetime, timedelta
from typing import Any

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
    "skipped": ("bar", "idle"),
    "healthy": ("tick", "good"),
    "unhealthy": ("warning", "warn"),
    "dead": ("cross", "bad"),
    "draining": ("down", "busy"),
    "retired": ("bar", "idle"),
}
_UNKNOWN = ("hollow", "idle")

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
def words(value: str) -> str:
    """``timed_out`` as ``Timed out``."""
    return str(value).replace("_", " ").capitalize()


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
