"""Identifiers that sort by the time of their making."""

from ulid import ULID

from controlplane.lib import clock


def new_id() -> str:
    """26 lower-case letters and digits (a ULID), safe in paths, keys and file names."""
    return str(ULID.from_datetime(clock.now())).lower()
