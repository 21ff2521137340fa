"""The one place in the agent that reads the wall clock."""

from __future__ import annotations

import time
from datetime import datetime, timezone


def epoch() -> int:
    """The current time in whole seconds since 1970, as in RFC 9421's `created`."""
    return int(time.time())  # noqa: TID251 — this is the agent's clock


def timestamp() -> str:
    """The current time in UTC as RFC 3339 with microseconds."""
    return datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%S.%fZ")  # noqa: TID251 — this is the agent's clock
