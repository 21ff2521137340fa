"""Pieces of the lines that the agent itself adds to a log."""

from __future__ import annotations

import time
from collections.abc import Iterator


def seconds_since(began: float) -> str:
    """How long ago `began`, a moment of the monotonic clock, was: `1.5 s`."""
    return f"{time.monotonic() - began:.1f} s"


def size_text(size: int) -> str:
    """A number of bytes, as people read it: `1.5 MB`."""
    for unit, one in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if size >= one:
            return f"{size / one:.1f} {unit}"
    return f"{size} bytes"


def counted(number: int, noun: str) -> str:
    """So many things: `1 file`, `1,234 files`."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def one_line(text: str) -> str:
    """Text from a user or a repository, fit for one line of a log: without line breaks and control characters."""
    return "".join(character if character.isprintable() else "�" for character in text)


def echoed(script: str) -> Iterator[str]:
    """The lines that show a step's commands in the log: the first one after `$`, the others after `>`, as shells do.

    Values of variables are not in them, since the shell expands those later.
    """
    for number, line in enumerate(script.strip("\n").split("\n")):
        yield f"── {'>' if number else '$'} {one_line(line.rstrip().expandtabs(4))}"
