"""Converts terminal output to safe HTML."""

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from django.utils.html import format_html
from django.utils.safestring import SafeString, mark_safe

# A longer escape sequence counts as text. This bounds how many bytes of a growing log wait for the next slice.
_MAX_SEQUENCE = 2048

# ECMA-48: colours and cursor movements (CSI), titles and links (OSC), device strings, and the short ones.
_SEQUENCE = re.compile(
    r"\x1b(?:"
    r"\[(?P<parameters>[0-?]{0,64})[ -/]{0,4}(?P<final>[@-~])"
    rf"|\][^\x07\x1b\n]{{0,{_MAX_SEQUENCE}}}(?:\x07|\x1b\\)"
    rf"|[PX^_][^\x1b\n]{{0,{_MAX_SEQUENCE}}}\x1b\\"
    r"|[ -/]{1,4}[0-~]"
    r"|[0-OQ-WYZ\\`-~]"
    r")"
)
# An escape sequence that the end of the data cuts off.
_BEGINNING = re.compile(
    rb"\x1b(?:\[[0-?]{0,64}[ -/]{0,4}|[\]PX^_][^\x07\x1b\n]*\x1b?|[ -/]{1,4})?\Z"
    # The first half of a line end.
    rb"|\r\Z"
)

# Control characters print nothing. Bidirectional controls could show a line in another order than it was printed.
_INVISIBLE = dict.fromkeys([*range(9), 11, 12, *range(14, 32), *range(127, 160)], None)
_INVISIBLE |= dict.fromkeys([*range(0x202A, 0x202F), *range(0x2066, 0x206A)], "\ufffd")

_SGR_TEXT = re.compile(r"[0-9;]{0,32}\Z")


@dataclass(frozen=True)
class Style:
    """How the terminal prints text. `colour` is one of the terminal's 16; `marked` means any background."""

    bold: bool = False
    dim: bool = False
    italic: bool = False
    underlined: bool = False
    marked: bool = False
    colour: int | None = None

    @classmethod
    def parse(cls, text: str) -> "Style":
        """Parse the output of `str(style)`. Any other text gives the plain style."""
        return cls().after(text) if _SGR_TEXT.match(text) else cls()

    def __str__(self) -> str:
        """The parameters of the SGR sequence that sets this style from the plain one."""
        codes = [
            code
            for code, on in (
                (1, self.bold),
                (2, self.dim),
                (3, self.italic),
                (4, self.underlined),
                (7, self.marked),
            )
            if on
        ]
        if self.colour is not None:
            codes.append(30 + self.colour if self.colour < 8 else 82 + self.colour)
        return ";".join(map(str, codes))

    def after(self, parameters: str) -> "Style":
        """The style after an SGR sequence with these parameters. Unknown parameters change nothing."""
        if not parameters.replace(";", "").replace(":", "").isdigit() and parameters:
            return self
        codes = iter([int(code or 0) for code in re.split("[;:]", parameters)])
        style = self
        for code in codes:
            style = style._extended(code, codes) if code in (38, 48) else style._after_code(code)
        return style

    def _after_code(self, code: int) -> "Style":
        if code == 0:
            return Style()
        if 30 <= code <= 37:
            return replace(self, colour=code - 30)
        if 90 <= code <= 97:
            return replace(self, colour=code - 82)
        if 40 <= code <= 47 or 100 <= code <= 107:
            return replace(self, marked=True)
        return replace(self, **_CHANGES.get(code, {}))

    def _extended(self, code: int, codes: Iterator[int]) -> "Style":
        """A colour out of 256 (``5;n``) or by its components (``2;r;g;b``). Only the first 16 are distinguished."""
        kind = next(codes, None)
        chosen = next(codes, None)
        if kind == 2:
            next(codes, None)
            next(codes, None)
        if code == 48:
            return replace(self, marked=True)
        return replace(self, colour=chosen if kind == 5 and chosen is not None and chosen < 16 else None)

    @property
    def classes(self) -> str:
        """The CSS classes that show this style. Empty for the plain style."""
        names = [name for name in ("bold", "dim", "italic", "underlined", "marked") if getattr(self, name)]
        if self.colour is not None:
            names.append(f"colour-{self.colour % 8}")
        return " ".join(f"sgr-{name}" for name in names)


_CHANGES: dict[int, dict[str, Any]] = {
    1: {"bold": True},
    2: {"dim": True},
    3: {"italic": True},
    4: {"underlined": True},
    7: {"marked": True},
    22: {"bold": False, "dim": False},
    23: {"italic": False},
    24: {"underlined": False},
    27: {"marked": False},
    39: {"colour": None},
    49: {"marked": False},
}


@dataclass(frozen=True)
class Printout:
    """A rendered slice: `html` shows the first `consumed` bytes, and the next slice begins in `style`."""

    html: SafeString
    consumed: int
    style: Style


def terminal_html(data: bytes, *, style: Style, last: bool) -> Printout:
    """Render `data`, which follows a slice that ended in `style`.

    If this is not the `last` slice, a character or escape sequence that its end cuts off is left for the next one.
    Bytes that are not UTF-8 become replacement characters. All text is escaped for HTML.
    """
    consumed = len(data) if last else _whole(data)
    text = data[:consumed].decode("utf-8", "replace").replace("\r\n", "\n").replace("\r", "\n")
    parts: list[SafeString] = []
    position = 0
    for match in _SEQUENCE.finditer(text):
        parts.append(_span(text[position : match.start()], style))
        position = match.end()
        if match["final"] == "m":
            style = style.after(match["parameters"])
    parts.append(_span(text[position:], style))
    return Printout(mark_safe("".join(parts)), consumed, style)  # noqa: S308 — each part is escaped by `_span`


def _span(text: str, style: Style) -> SafeString:
    text = text.translate(_INVISIBLE)
    if not text:
        return SafeString("")
    if not style.classes:
        return format_html("{}", text)
    return format_html('<span class="{}">{}</span>', style.classes, text)


def _whole(data: bytes) -> int:
    """How many bytes of `data` precede a character or escape sequence that the end cuts off."""
    start = max(0, len(data) - _MAX_SEQUENCE)
    beginning = _BEGINNING.search(data, start)
    end = beginning.start() if beginning else len(data)
    for back in range(1, min(3, end) + 1):
        byte = data[end - back]
        if byte >= 0xC0:
            length = 2 if byte < 0xE0 else 3 if byte < 0xF0 else 4
            return end - back if length > back else end
        if byte < 0x80:
            break
    return end
