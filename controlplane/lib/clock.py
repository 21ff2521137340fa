"""The one place that reads the wall clock, so that tests can set it."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta

_offset = timedelta()


def now() -> datetime:
    """The present moment, aware, in UTC."""
    return datetime.now(UTC) + _offset


def epoch() -> int:
    """The present moment in whole seconds since 1970, as DynamoDB's TTL and RFC 9421's ``created`` use it."""
    return int(now().timestamp())


def timestamp(moment: datetime) -> str:
    """RFC 3339 in UTC with microseconds. Texts of this form sort as the moments do."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def parse_timestamp(text: str) -> datetime:
    """The moment that `timestamp` wrote. Raises ValueError when the text is no RFC 3339 date and time."""
    return datetime.fromisoformat(text)


@contextmanager
def shifted(by: timedelta) -> Iterator[None]:
    """For tests: inside the block, every reading of this process's clock is moved by `by`."""
    global _offset
    _offset += by
    try:
        yield
    finally:
        _offset -= by
