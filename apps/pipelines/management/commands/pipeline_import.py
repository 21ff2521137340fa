"""``manage.py pipeline_import``: make a pipeline file of a file for another product."""

import sys
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from apps.pipelines.importing import PRODUCTS
from apps.pipelines.importing.converting import Conversion, pipeline_convert
from apps.pipelines.importing.foreign import MAX_BYTES
from apps.pipelines.importing.remarks import ImportRefused

# Something is left to do. 1 and 2 are Django's, for errors and for wrong arguments.
_WITH_REMARKS = 3


class Command(BaseCommand):
    help = (
        "Convert a file for GitHub Actions, GitLab CI or Buildkite to a pipeline file. Prints what it could not take "
        "over. Exits with 0 if that is nothing, with 3 if it is something, with 1 if the file cannot be converted."
    )
    requires_system_checks: list[str] = []  # noqa: RUF012 — as in Django's class

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--from", required=True, choices=PRODUCTS, dest="product", help="the product of the file")
        parser.add_argument("file", metavar="FILE", help="the file to convert, or - for stdin")
        parser.add_argument("--output", metavar="FILE", help="a new file for the result (default: stdout)")

    def handle(self, *args: Any, product: str, file: str, output: str | None, **options: Any) -> None:
        try:
            conversion = pipeline_convert(product, _read(file), _Beside(file))
        except ImportRefused as refusal:
            raise CommandError(f"{file}: {refusal}") from refusal
        if output is None:
            self.stdout.write(conversion.text, ending="")
        else:
            _write(output, conversion.text)
        for remark in conversion.remarks:
            where = f"{file}:{remark.line}" if type(remark.line) is int else f"{file}: line {remark.line}"
            self.stderr.write(f"{where}: {remark.subject}: {remark.message}")
        self.stderr.write(_summary(conversion))
        if conversion.remarks:
            sys.exit(_WITH_REMARKS)


class _Beside:
    """Reads files in the folder of a file, and none outside of it."""

    def __init__(self, file: str) -> None:
        self._folder = None if file == "-" else Path(file).resolve().parent

    def __call__(self, path: str) -> str | None:
        if self._folder is None or not path:
            return None
        try:
            target = (self._folder / path).resolve()
            is_inside = target.is_relative_to(self._folder) and target.is_file()
        except (OSError, ValueError, RuntimeError):
            return None
        return _read(str(target)) if is_inside else None


def _read(file: str) -> str:
    """The text of a file, of which no more is read than may be converted."""
    try:
        if file == "-":
            content = sys.stdin.read(MAX_BYTES + 1).encode(errors="surrogateescape")
        else:
            with Path(file).open("rb") as source:
                content = source.read(MAX_BYTES + 1)
        return content.decode("utf-8-sig")
    except OSError as error:
        raise CommandError(f"{file}: {error.strerror}.") from error
    except UnicodeDecodeError as error:
        if len(content) > MAX_BYTES:
            return " " * len(content)
        raise CommandError(f"{file}: The file is not UTF-8.") from error


def _write(file: str, text: str) -> None:
    """A new file; one that is there may have been edited by hand."""
    try:
        with Path(file).open("x", encoding="utf-8") as target:
            target.write(text)
    except FileExistsError as error:
        raise CommandError(f"{file} exists already. Remove it, or name another file.") from error
    except OSError as error:
        raise CommandError(f"{file}: {error.strerror}.") from error


def _summary(conversion: Conversion) -> str:
    jobs, remarks, stops = conversion.jobs, len(conversion.remarks), conversion.jobs - conversion.whole
    parts = [
        f"{jobs} {'job' if jobs == 1 else 'jobs'} converted",
        f"{remarks} {'remark' if remarks == 1 else 'remarks'}",
    ]
    if stops:
        parts.append(f"{stops} {'job stops' if stops == 1 else 'jobs stop'} until a part of it is written by hand")
    return ", ".join(parts) + "."
