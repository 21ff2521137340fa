"""Identifiers that sort by the time of their creation."""

from datetime import UTC, datetime

from ulid import ULID

from controlplane.lib import clock

# For URL patterns: 26 letters and digits of Crockford's base 32, the first at most 7.
ID_PATTERN = "[0-7][0-9a-hjkmnp-tv-z]{25}"


def new_id() -> str:
    """26 lower-case letters and digits (a ULID), safe in paths, keys and file names."""
    return str(ULID.from_datetime(clock.now())).lower()


def id_moment(identifier: str) -> datetime:
    """The time at which `new_id` created it, to the millisecond, in UTC. Raises ValueError if it is not a ULID."""
    return ULID.from_str(identifier.upper()).datetime.astimezone(UTC)
