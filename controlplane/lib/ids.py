"""Identifiers that sort by the time of their creation.

The library for them is imported at the first use: its import is a fiftieth of a cold start, and a heartbeat makes none.
"""

import hashlib
from datetime import UTC, datetime

from controlplane.lib import clock

# For URL patterns: 26 letters and digits of Crockford's base 32, the first at most 7.
ID_PATTERN = "[0-7][0-9a-hjkmnp-tv-z]{25}"

# For URL patterns: the name of a file with presigned URLs. No part of it begins with a dot.
STORED_NAME_PATTERN = "[a-z0-9][a-z0-9-]*(?:/[a-z0-9][a-z0-9-]*)*"


def new_id() -> str:
    """26 lower-case letters and digits (a ULID), safe in paths, keys and file names."""
    from ulid import ULID

    return str(ULID.from_datetime(clock.now())).lower()


def derived_id(moment: datetime, seed: str) -> str:
    """An id of that time which is the same for the same seed, so that who repeats something makes no second one."""
    from ulid import ULID

    beginning = ULID.from_datetime(moment).bytes[:6]
    return str(ULID.from_bytes(beginning + hashlib.sha256(seed.encode()).digest()[:10])).lower()


def id_beginning(moment: datetime) -> str:
    """How the ids begin that `new_id` makes at that time. Those of earlier times sort before it."""
    from ulid import ULID

    return str(ULID.from_datetime(moment)).lower()[:10]


def id_moment(identifier: str) -> datetime:
    """The time at which `new_id` created it, to the millisecond, in UTC. Raises ValueError if it is not a ULID."""
    from ulid import ULID

    return ULID.from_str(identifier.upper()).datetime.astimezone(UTC)
