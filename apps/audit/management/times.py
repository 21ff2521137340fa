"""Times as arguments of commands."""

from argparse import ArgumentTypeError
from datetime import UTC, datetime

from controlplane.lib import clock


def moment(text: str) -> str:
    """A day or a time of RFC 3339 as `controlplane.lib.clock.timestamp` writes it; in UTC unless it names an offset."""
    try:
        parsed = datetime.fromisoformat(text)
    except ValueError:
        raise ArgumentTypeError(
            f"must be a day or a time, as 2026-11-21 or 2026-11-21T09:00:00Z, not {text!r}"
        ) from None
    return clock.timestamp(parsed if parsed.tzinfo else parsed.replace(tzinfo=UTC))
