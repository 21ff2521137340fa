"""The wall clock. All code reads it here, so that tests can shift it."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta

_offset = timedelta()


def now() -> datetime:
    """The current time as an aware datetime in UTC."""
    return datetime.now(UTC) + _offset


def epoch() -> int:
    """The current time in whole seconds since 1970, as DynamoDB's TTL and RFC 9421's ``created`` use it."""
    return int(now().timestamp())


def timestamp(moment: datetime) -> str:
    """The time in RFC 3339, in UTC with microseconds. These texts sort by time."""
    # Unlike strftime, this writes years before 1000 with four digits.
    return moment.astimezone(UTC).isoformat(timespec="microseconds").removesuffix("+00:00") + "Z"


def parse_timestamp(text: str) -> datetime:
    """The time that `timestamp` wrote. Raises ValueError when the text is not a date and time of RFC 3339."""
    return datetime.fromisoformat(text)


def duration_text(seconds: float) -> str:
    """A duration in its two largest units, for people: ``3 min 7 s``."""
    whole = max(0, round(seconds))
    parts = [(whole // 3600, "h"), (whole // 60 % 60, "min"), (whole % 60, "s")]
    shown = [f"{number} {unit}" for number, unit in parts if number]
    return " ".join(shown[:2]) or "0 s"


@contextmanager
def shifted(by: timedelta) -> Iterator[None]:
    """For tests: inside the block, this process's clock is shifted by `by`."""
    global _offset
    _offset += by
    try:
        yield
    finally:
        _offset -= by
