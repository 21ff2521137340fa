"""The one place in the agent that reads the wall clock."""

from __future__ import annotations

import time
from datetime import datetime, timezone


def epoch() -> int:
    """The present moment in whole seconds since 1970, as RFC 9421's `created` has it."""
    return int(time.time())  # noqa: TID251 — this is the agent's clock


def timestamp() -> str:
    """The present moment as RFC 3339 in UTC with microseconds."""
    return datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%S.%fZ")  # noqa: TID251 — this is the agent's clock
