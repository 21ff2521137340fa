"""Times and durations as people write and read them."""

from __future__ import annotations

import re
from datetime import datetime, timedelta, timezone

from hci.errors import UsageProblem

_AGO = re.compile(r"(\d{1,6})(s|m|h|d)")
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}


def now() -> datetime:
    return datetime.now(timezone.utc)


def moment(text: object) -> datetime | None:
    """A time of the API (RFC 3339). None for everything else."""
    if not isinstance(text, str):
        return None
    # Python 3.9 knows no Z, and only three or six digits of a second.
    text = re.sub(r"\.(\d+)", lambda found: f".{found[1][:6]:0<6}", text.replace("Z", "+00:00").replace("z", "+00:00"))
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        return None
    return found if found.tzinfo else found.replace(tzinfo=timezone.utc)


def since(text: str) -> datetime:
    """The time that a user means: 90s, 10m, 2h or 1d before now, or a time in RFC 3339. Raises UsageProblem."""
    ago = _AGO.fullmatch(text)
    if ago:
        return now() - timedelta(**{_UNITS[ago[2]]: int(ago[1])})
    found = moment(text)
    if found is None:
        raise UsageProblem(
            f"--since must be a duration such as 90s, 10m, 2h or 1d, or a time such as {now():%Y-%m-%dT%H:%M:%SZ}."
        )
    return found


def age(text: object) -> str:
    """How long ago it was, in one unit: 5m."""
    found = moment(text)
    return "" if found is None else coarse((now() - found).total_seconds())


def coarse(seconds: float) -> str:
    """So many seconds in the largest unit that they fill: 5m."""
    seconds = max(0, int(seconds))
    for size, unit in ((86400, "d"), (3600, "h"), (60, "m")):
        if seconds >= size:
            return f"{seconds // size}{unit}"
    return f"{seconds}s"


def took(start: object, end: object) -> str:
    """How long it took, or has taken until now: 1h02m, 3m20s, 8s."""
    began, ended = moment(start), moment(end)
    if began is None:
        return ""
    seconds = max(0, int(((ended or now()) - began).total_seconds()))
    if seconds >= 3600:
        return f"{seconds // 3600}h{seconds % 3600 // 60:02}m"
    return f"{seconds // 60}m{seconds % 60:02}s" if seconds >= 60 else f"{seconds}s"
