"""What commands print: tables that fit the terminal, JSON, and notices on standard error."""

from __future__ import annotations

import io
import json
import os
import shutil
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import IO, Any

from hci.errors import Ended, Exit, HciError
from hci.text import LogText, plain

# Where no terminal cuts: a pipe gets whole values.
_PIPE_WIDTH = 100_000

_COLOURS = {
    "completed": "green", "healthy": "green", "ok": "green", "current": "green",
    "failed": "red", "timed_out": "red", "dead": "red", "refused": "red", "rejected": "red",
    "running": "cyan", "assigned": "cyan", "in_progress": "cyan",
    "queued": "yellow", "waiting": "yellow", "unhealthy": "yellow", "degraded": "yellow", "draining": "yellow",
    "cancelled": "magenta",
    "skipped": "bright_black", "retired": "bright_black",
}  # fmt: skip


@dataclass(frozen=True)
class Column:
    """A column of a table. One that is `whole` is never cut: an id that someone copies."""

    title: str
    whole: bool = False
    right: bool = False
    coloured: bool = False


@contextmanager
def _reader() -> Iterator[None]:
    """Ends the program in silence if what it prints to has gone away. Raises HciError for a full disk."""
    try:
        yield
    except BrokenPipeError:
        raise Ended(Exit.BROKEN_PIPE) from None
    except OSError as error:
        raise HciError(f"The output cannot be written: {error.strerror}.") from error


def write(text: str) -> None:
    """Print to standard output at once."""
    with _reader():
        sys.stdout.write(text)
        sys.stdout.flush()


def write_file(content: bytes) -> None:
    """Print a part of a file: its bytes as they are, but on a terminal without what would do more than print."""
    if sys.stdout.isatty():
        write(LogText(colour=False).feed(content, last=True))
        return
    with _reader():
        sys.stdout.flush()
        sys.stdout.buffer.write(content)
        sys.stdout.buffer.flush()


def line(text: object) -> None:
    write(f"{plain(text)}\n")


def notice(text: object) -> None:
    """Say something that is not the result."""
    with _reader():
        sys.stderr.write(f"{plain(text)}\n")
        sys.stderr.flush()


def document(content: Any) -> None:
    """Print a JSON document."""
    write(json.dumps(content, indent=2, ensure_ascii=True) + "\n")


def coloured(stream: IO[Any], wish: str) -> bool:
    """Whether to colour: `always`, `never`, or `auto` for a terminal where NO_COLOR is not set (no-color.org)."""
    if wish != "auto":
        return wish == "always"
    return stream.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def table(columns: Sequence[Column], rows: Iterable[Sequence[object]], *, colour: bool) -> None:
    """Print a table. On a terminal it fits the width, and cut values end with “…”; in a pipe all values are whole."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    terminal = sys.stdout.isatty()
    shown = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    content = [[plain(cell) for cell in row] for row in rows]
    for index, column in enumerate(columns):
        widest = max((len(row[index]) for row in content), default=0)
        shown.add_column(
            column.title,
            no_wrap=True,
            overflow="ellipsis",
            justify="right" if column.right else "left",
            min_width=widest if column.whole else min(widest, 6),
        )
    for row in content:
        shown.add_row(
            *(Text(cell, style=_COLOURS.get(cell, "") if column.coloured else "") for cell, column in zip(row, columns))
        )
    printed = io.StringIO()
    console = Console(
        file=printed,
        width=shutil.get_terminal_size().columns if terminal else _PIPE_WIDTH,
        force_terminal=colour,
        no_color=not colour,
        color_system="standard" if colour else None,
        highlight=False,
        emoji=False,
        markup=False,
    )
    console.print(shown)
    # Rich fills lines with spaces.
    write("".join(f"{row.rstrip()}\n" for row in printed.getvalue().splitlines()))


def fields(pairs: Iterable[tuple[str, object]]) -> None:
    """Print the members of one thing, one a line, without those that are empty."""
    shown = [(name, plain(value)) for name, value in pairs if value not in (None, "", [], {})]
    width = max((len(name) for name, _ in shown), default=0)
    write("".join(f"{name:{width}}  {value}\n" for name, value in shown))
