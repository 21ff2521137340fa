"""Shows a line of terminal output as safe HTML, as a terminal would have left it on its screen."""

import re
from collections.abc import Iterator
from itertools import groupby, islice

from django.utils.html import escape, format_html
from django.utils.safestring import SafeString, mark_safe

from controlplane.lib.sgr import Style

# A longer escape sequence counts as text.
_MAX_SEQUENCE = 2048
# Of a line with more parts (runs of one style, and links), the rest is plain text.
MAX_PARTS = 400
# A cursor beyond this column stays here, so that a short text cannot ask for a long line.
_MAX_COLUMN = 20_000

# ECMA-48: colours and cursor movements (CSI), titles and links (OSC), device strings, and the short ones.
_SEQUENCE = re.compile(
    r"\x1b(?:"
    r"\[(?P<parameters>[0-?]{0,64})[ -/]{0,4}(?P<final>[@-~])"
    rf"|\][^\x07\x1b]{{0,{_MAX_SEQUENCE}}}(?:\x07|\x1b\\)"
    rf"|[PX^_][^\x1b]{{0,{_MAX_SEQUENCE}}}\x1b\\"
    r"|[ -/]{1,4}[0-~]"
    r"|[0-OQ-WYZ\\`-~]"
    r")"
)
# What moves the cursor back, or deletes text: then the line is drawn cell by cell.
_DRAWN = re.compile(r"\r(?!\Z)|\x08|\x1b\[[0-9;]{0,64}[CDGKPX]")

# Control characters print nothing. Bidirectional controls could show a line in another order than it was printed.
_INVISIBLE: dict[int, str | None] = dict.fromkeys([*range(9), *range(10, 32), *range(127, 160)], None)
_INVISIBLE |= dict.fromkeys([*range(0x202A, 0x202F), *range(0x2066, 0x206A), 0x200E, 0x200F, 0x061C], "\ufffd")

_LINK = re.compile(r"https?://[^\s<>\"'`\x00-\x1f]{1,2000}")
# What ends a sentence rather than an address.
_AFTER_LINK = ".,:;!?)]}'\""

# A run of text in one style.
_Run = tuple[str, Style]


def line_html(text: bytes, style: Style, *, most: int = MAX_PARTS) -> SafeString:
    """A line that begins in `style`, without its line feed, as HTML of about `most` elements at most.

    Bytes that are not UTF-8 become replacement characters. Text behind a carriage return overwrites what is there, so
    that of a progress bar its last state remains. Addresses of the web become links. All text is escaped.
    """
    printed = text.decode("utf-8", "replace")
    runs = _drawn(printed, style) if _DRAWN.search(printed) else _printed(printed, style)
    parts: list[str] = []
    elements = 0
    for part, how in runs:
        if elements >= most:
            # What is left has no style and no links.
            parts += [escape(text.translate(_INVISIBLE)) for text in (part, *(text for text, _ in runs))]
            break
        parts.append(_run_html(part, how, most - elements))
        elements += parts[-1].count("</")
    return mark_safe("".join(parts))  # noqa: S308 — `_run_html` and `escape` escape


def _printed(text: str, style: Style) -> Iterator[_Run]:
    """The runs of a line in which the cursor only moves on."""
    position = 0
    for match in _SEQUENCE.finditer(text):
        yield text[position : match.start()], style
        position = match.end()
        if match["final"] == "m":
            style = _styled(style, match["parameters"])
    yield text[position:], style


def _drawn(text: str, style: Style) -> Iterator[_Run]:
    """The runs that remain of a line in which the cursor moves back, too."""
    cells: list[_Run] = []
    column = position = 0
    for match in _SEQUENCE.finditer(text):
        column = _write(cells, column, text[position : match.start()], style)
        position = match.end()
        if match["final"] == "m":
            style = _styled(style, match["parameters"])
        elif match["final"]:
            column = _moved(cells, column, match["final"], match["parameters"])
    _write(cells, column, text[position:], style)
    for how, run in groupby(cells, key=lambda cell: cell[1]):
        yield "".join(character for character, _ in run), how


def _write(cells: list[_Run], column: int, text: str, style: Style) -> int:
    """Write text from a column on; returns the column after it."""
    for character in text:
        if character == "\r":
            column = 0
        elif character == "\b":
            column = max(0, column - 1)
        else:
            cells.extend([(" ", Style())] * (column - len(cells)))
            cells[column : column + 1] = [(character, style)]
            column += 1
    return column


def _moved(cells: list[_Run], column: int, final: str, parameters: str) -> int:
    """Move the cursor, or delete cells, as a control sequence says; returns the new column."""
    number = int(parameters) if parameters.isdecimal() else 0
    match final:
        case "C":
            return min(column + max(1, number), _MAX_COLUMN)
        case "D":
            return max(0, column - max(1, number))
        case "G":
            return min(max(0, number - 1), _MAX_COLUMN)
        case "K" if number == 0:
            del cells[column:]
        case "K" if number == 1:
            cells[: column + 1] = [(" ", Style())] * min(column + 1, len(cells))
        case "K":
            cells.clear()
        case "P":
            del cells[column : column + max(1, number)]
        case "X":
            end = min(column + max(1, number), len(cells))
            cells[column:end] = [(" ", Style())] * max(0, end - column)
    return column


def _styled(style: Style, parameters: str) -> Style:
    known = parameters.replace(";", "").replace(":", "")
    return style.after(parameters) if not known or (known.isascii() and known.isdigit()) else style


def _run_html(text: str, style: Style, most: int) -> str:
    text = text.translate(_INVISIBLE)
    if not text:
        return ""
    names = _classes(style)
    shown = _linked(text, most)
    return f'<span class="{names}">{shown}</span>' if names else shown


def _linked(text: str, most: int) -> str:
    """The text, escaped, with its first addresses as links, at most `most`."""
    parts = []
    position = 0
    for match in islice(_LINK.finditer(text), most):
        url = match[0].rstrip(_AFTER_LINK)
        parts += [
            escape(text[position : match.start()]),
            format_html('<a href="{}" rel="noopener noreferrer nofollow" target="_blank">{}</a>', url, url),
        ]
        position = match.start() + len(url)
    return "".join([*parts, escape(text[position:])])


def _classes(style: Style) -> str:
    """The classes of static/log.css that show the style; none for the plain one."""
    switches = ("bold", "dim", "italic", "underlined", "inverse", "struck")
    names = [f"t-{name}" for name in switches if getattr(style, name)]
    if style.colour is not None:
        names.append(f"f{style.colour}")
    if style.background is not None:
        names.append(f"b{style.background}")
    return " ".join(names)
