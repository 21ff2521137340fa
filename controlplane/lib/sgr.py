"""Colours and styles of terminal output: the sequences "select graphic rendition" (SGR).

Source: ECMA-48 section 8.3.117, and for colours out of 256 or by components ISO/IEC 8613-6 (ITU-T T.416).
"""

import re
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from controlplane.lib.frozen import frozen

SGR = re.compile(rb"\x1b\[([0-9;:]{0,64})m")

_TEXT = re.compile(r"[0-9;]{0,64}\Z")
# The levels of red, green and blue in the cube of 216 colours, which are the colours 16 to 231.
_CUBE = (0, 95, 135, 175, 215, 255)


@frozen
class Style:
    """How a terminal prints text. `colour` and `background` are one of 256 colours, or None for the terminal's own."""

    bold: bool = False
    dim: bool = False
    italic: bool = False
    underlined: bool = False
    inverse: bool = False
    struck: bool = False
    colour: int | None = None
    background: int | None = None

    @classmethod
    def parse(cls, text: str) -> "Style":
        """The style that `str(style)` gave. Any other text gives the plain style."""
        return PLAIN.after(text) if _TEXT.match(text) else PLAIN

    def __str__(self) -> str:
        """The parameters of the SGR sequence that sets this style from the plain one."""
        codes = [str(code) for code, name in _SWITCHES.items() if getattr(self, name)]
        if self.colour is not None:
            codes.append(f"38;5;{self.colour}")
        if self.background is not None:
            codes.append(f"48;5;{self.background}")
        return ";".join(codes)

    def after(self, parameters: str) -> "Style":
        """The style after an SGR sequence with these parameters. Unknown parameters change nothing."""
        codes = iter([int(code or 0) for code in re.split("[;:]", parameters)])
        style = self
        for code in codes:
            style = style._coloured(code, codes) if code in (38, 48) else style._after_code(code)
        return style

    def _after_code(self, code: int) -> "Style":
        if code == 0:
            return PLAIN
        if 30 <= code <= 37:
            return replace(self, colour=code - 30)
        if 90 <= code <= 97:
            return replace(self, colour=code - 82)
        if 40 <= code <= 47:
            return replace(self, background=code - 40)
        if 100 <= code <= 107:
            return replace(self, background=code - 92)
        if code in _SWITCHES:
            return replace(self, **{_SWITCHES[code]: True})
        return replace(self, **_RESETS.get(code, {}))

    def _coloured(self, code: int, codes: Iterator[int]) -> "Style":
        """A colour out of 256 (``5;n``), or by its components (``2;r;g;b``): then the nearest of the 256."""
        kind = next(codes, None)
        chosen: int | None = None
        if kind == 5:
            chosen = next(codes, None)
        elif kind == 2:
            parts = [next(codes, 0) for _ in range(3)]
            chosen = nearest_colour(*(min(part, 255) for part in parts))
        if chosen is None or chosen > 255:
            return self
        return replace(self, colour=chosen) if code == 38 else replace(self, background=chosen)


_SWITCHES = {1: "bold", 2: "dim", 3: "italic", 4: "underlined", 7: "inverse", 9: "struck"}
_RESETS: dict[int, dict[str, Any]] = {
    22: {"bold": False, "dim": False},
    23: {"italic": False},
    24: {"underlined": False},
    27: {"inverse": False},
    29: {"struck": False},
    39: {"colour": None},
    49: {"background": None},
}

PLAIN = Style()


def style_after(data: bytes, style: Style) -> Style:
    """The style in which text would be printed after `data`, which begins in `style`."""
    if b"\x1b[" not in data:
        return style
    # What a reset ends need not be followed.
    for reset in (b"\x1b[0m", b"\x1b[m"):
        _, found, after = data.rpartition(reset)
        if found:
            data, style = after, PLAIN
    # Most sequences are repetitions, so what each makes of each style is found once.
    known: dict[Style, dict[bytes, Style]] = {}
    moves = known.setdefault(style, {})
    for parameters in SGR.findall(data):
        following = moves.get(parameters)
        if following is None:
            following = moves[parameters] = style.after(parameters.decode())
        if following is not style:
            style = following
            moves = known.setdefault(style, {})
    return style


def nearest_colour(red: int, green: int, blue: int) -> int:
    """The nearest of the 240 colours of the cube and of the greys to this one (each component from 0 to 255)."""
    wanted = (red, green, blue)

    def level_of(part: int) -> int:
        return min(range(6), key=lambda level: abs(_CUBE[level] - part))

    levels = [level_of(part) for part in wanted]
    cube = tuple(_CUBE[level] for level in levels)
    grey = min(23, max(0, (sum(wanted) // 3 - 3) // 10))
    shade = (8 + 10 * grey,) * 3

    def distance(other: tuple[int, ...]) -> int:
        return sum((one - two) ** 2 for one, two in zip(wanted, other, strict=True))

    if distance(shade) < distance(cube):
        return 232 + grey
    return 16 + 36 * levels[0] + 6 * levels[1] + levels[2]
