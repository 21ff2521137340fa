"""Lines of CSV (RFC 4180) that a spreadsheet shows as text, whatever strangers wrote into the fields."""

import csv
import io
import re
from collections.abc import Iterable

# A spreadsheet evaluates a cell that begins with one of these, also in their full-width forms (OWASP: CSV injection).
_FORMULA = re.compile(r"[=+\-@\t\r\n＝＋－＠|]")
# One line of the file is one row, so that a program can resume by its last line.
_CONTROL = re.compile(r"[\x00-\x1f\x7f\x85\u2028\u2029]")


def csv_line(cells: Iterable[object]) -> str:
    """A line with its line break. None is an empty cell, and control characters become spaces.

    A text that a spreadsheet would evaluate gets an apostrophe before it. Numbers stay as they are.
    """
    text = io.StringIO()
    csv.writer(text, lineterminator="\r\n").writerow([_cell(cell) for cell in cells])
    return text.getvalue()


def csv_cells(line: str) -> list[str]:
    """The cells of a line. The apostrophe before a formula stays."""
    return next(iter(csv.reader([line])), [])


def _cell(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, int | float):
        return str(value)
    text = str(value)
    # What a program strips before it looks at the cell must not hide the sign.
    is_formula = _FORMULA.match(text.lstrip(" \xa0\ufeff"))
    text = _CONTROL.sub(" ", text)
    return f"'{text}" if is_formula else text
