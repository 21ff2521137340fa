"""Checks pipeline files without a server: ``agent.pyz check FILE…`` and ``manage.py pipeline_check FILE…``.

What is wrong is written as compilers do, so that editors and people find the place.
"""

from __future__ import annotations

import argparse
import io
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, BinaryIO, Protocol, cast

from agent.pipeline.constants import DEFINITION_PATH, MAX_BYTES
from agent.pipeline.definition import Pipeline
from agent.pipeline.matrices import cells
from agent.pipeline.nodes import DefinitionInvalid
from agent.pipeline.reader import definition_read

# A longer line is shown around the place of the mistake.
_WIDTH = 100
_STANDARD_INPUT = "-"
# As YAML has them.
_LINE_END = re.compile("\r\n|[\n\r\x85\u2028\u2029]")


class Writable(Protocol):
    """What text can be written to."""

    def write(self, text: str, /) -> object: ...


def check_main(arguments: Sequence[str]) -> int:
    """The command line of ``agent.pyz check``. Returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="agent check", description="Check pipeline files without any server. Exits with 1 if one is invalid."
    )
    parser.add_argument(
        "files",
        nargs="*",
        default=[DEFINITION_PATH],
        metavar="FILE",
        help="a file (default: %(default)s), or - for stdin",
    )
    files = parser.parse_args(arguments).files
    for stream in (sys.stdout, sys.stderr):
        # A terminal may lack characters that a message or the file has.
        cast(io.TextIOWrapper, stream).reconfigure(errors="backslashreplace")
    return check_files(files, out=sys.stdout, errors=sys.stderr)


def check_files(names: Sequence[str], *, out: Writable, errors: Writable) -> int:
    """Check the files, write to `out` what is wrong with them, and return the exit code: 0, or 1 if one is invalid.

    What cannot be read is an error, too, which goes to `errors`.
    """
    valid = True
    for name in names:
        shown = "<stdin>" if name == _STANDARD_INPUT else name
        try:
            text = _text(name)
        except (OSError, UnicodeDecodeError) as error:
            why = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
            errors.write(f"{shown}: error: the file cannot be read: {why}\n")
            valid = False
            continue
        try:
            out.write(f"{shown}: valid, {_summary(definition_read(text))}\n")
        except DefinitionInvalid as error:
            lines = _LINE_END.split(text)
            for problem in error.problems:
                out.write(_written(problem, shown, lines))
            valid = False
    return 0 if valid else 1


def _text(name: str) -> str:
    if name == _STANDARD_INPUT:
        return _read(sys.stdin.buffer)
    with Path(name).open("rb") as file:
        return _read(file)


def _read(file: BinaryIO) -> str:
    # So many bytes more than are allowed that there is still one too many, for the reader, without half a character.
    data = file.read(MAX_BYTES + 4)
    return data.decode(errors="ignore" if len(data) > MAX_BYTES else "strict")


def _summary(pipeline: Pipeline) -> str:
    if not pipeline.is_graph:
        return "one job"
    count = sum(len(cells(job.matrix)) if job.matrix else 1 for job in pipeline.jobs.values())
    return f"{count:,} {'job' if count == 1 else 'jobs'}"


def _written(problem: dict[str, Any], name: str, lines: Sequence[str]) -> str:
    """The mistake with its place, and below it the line with a mark."""
    number, column = int(problem["line"]), int(problem["column"])
    message = f"{name}:{number}:{column}: error: {problem['field']}: {problem['message']}\n"
    if number > len(lines):
        return message
    line = "".join(character if character.isprintable() else " " for character in lines[number - 1])
    start = max(0, column - 1 - _WIDTH // 2) if len(line) > _WIDTH else 0
    return f"{message}{number:>6} | {line[start : start + _WIDTH]}\n{' ' * 6} | {' ' * (column - 1 - start)}^\n"
