"""The one place in the agent that reads the wall clock, and corrects it by that of the control plane."""

from __future__ import annotations

import email.utils
import time
from datetime import datetime, timezone
from typing import Optional

# A Date header outside of these (the years 2020 to 2100) is wrong, whatever this machine's clock shows.
_SENSIBLE = range(1_577_836_800, 4_102_444_800)
# A Date header counts whole seconds and was on its way for a while. Below this, the clocks agree.
AGREE_SECONDS = 5

# Seconds that the control plane's clock is ahead of this machine's.
_offset = 0


def epoch() -> int:
    """The current time in whole seconds since 1970, as in RFC 9421's `created`."""
    return int(time.time()) + _offset  # noqa: TID251 — this is the agent's clock


def timestamp() -> str:
    """The current time in UTC as RFC 3339 with microseconds."""
    moment = datetime.fromtimestamp(time.time() + _offset, timezone.utc)  # noqa: TID251 — this is the agent's clock
    return moment.strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def offset() -> int:
    """The seconds by which `epoch` and `timestamp` are ahead of this machine's clock; 0 unless it was corrected."""
    return _offset


def set_offset(seconds: int) -> None:
    """From now on, `epoch` and `timestamp` are ahead of this machine's clock by so many seconds."""
    global _offset
    _offset = seconds


def offset_by_date(date: Optional[str]) -> Optional[int]:
    """The offset that makes this clock show the time of a Date header. None without a sensible one."""
    seconds = epoch_of_date(date)
    if seconds is None or int(seconds) not in _SENSIBLE:
        return None
    found = int(seconds) - int(time.time())  # noqa: TID251 — this is the agent's clock
    return 0 if abs(found) < AGREE_SECONDS else found


def epoch_of_date(date: Optional[str]) -> Optional[float]:
    """The seconds since 1970 that a date of HTTP names. None if it is missing or malformed."""
    try:
        return email.utils.parsedate_to_datetime(date).timestamp() if date else None
    except (TypeError, ValueError, OverflowError, IndexError):
        return None
