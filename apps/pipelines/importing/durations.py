"""Times as other products write them."""

from __future__ import annotations

import re

_PART = re.compile(r"(\d{1,7}(?:\.\d{1,3})?)\s*([a-z]*)\s*(?:and|,)?\s*")
_UNITS = {
    "": 1, "s": 1, "sec": 1, "secs": 1, "second": 1, "seconds": 1,
    "m": 60, "min": 60, "mins": 60, "minute": 60, "minutes": 60,
    "h": 3600, "hr": 3600, "hrs": 3600, "hour": 3600, "hours": 3600,
    "d": 86400, "day": 86400, "days": 86400,
    "w": 604800, "wk": 604800, "wks": 604800, "week": 604800, "weeks": 604800,
    "mo": 2592000, "mos": 2592000, "month": 2592000, "months": 2592000,
    "y": 31536000, "yr": 31536000, "yrs": 31536000, "year": 31536000, "years": 31536000,
}  # fmt: skip


def seconds_read(text: str) -> int | None:
    """The seconds of a text such as "1 week", "3h 30m" or "90". None if it is none."""
    rest = text.strip().lower()
    total = 0.0
    if not rest or len(rest) > 100:
        return None
    while rest:
        match = _PART.match(rest)
        if match is None or match[2] not in _UNITS:
            return None
        total += float(match[1]) * _UNITS[match[2]]
        rest = rest[match.end() :]
    return int(total)
