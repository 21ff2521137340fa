"""Pieces of the lines that the agent itself adds to a log."""

from __future__ import annotations

import time


def seconds_since(began: float) -> str:
    """How long ago `began`, a moment of the monotonic clock, was: `1.5 s`."""
    return f"{time.monotonic() - began:.1f} s"


def one_line(text: str) -> str:
    """Text from a user or a repository, fit for one line of a log: without line breaks and control characters."""
    return "".join(character if character.isprintable() else "�" for character in text)
