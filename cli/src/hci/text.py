"""Text from servers and jobs, made harmless for a terminal: of all control sequences only colours remain."""

from __future__ import annotations

import codecs
import re

# A longer escape sequence counts as text, without its escape character.
_MAX_SEQUENCE = 2048
_SEQUENCE = re.compile(
    r"\x1b(?:"
    r"\[(?P<parameters>[0-?]{0,64})[ -/]{0,4}(?P<final>[@-~])"
    rf"|[\]PX^_][^\x07\x1b\n]{{0,{_MAX_SEQUENCE}}}(?:\x07|\x1b\\)"
    r"|[ -/]{1,4}[0-~]"
    r"|[0-OQ-WYZ\\`-~]"
    r")"
)
# The beginning of a sequence at the end of a part.
_BEGUN = re.compile(
    rf"\x1b(?:\[[0-?]{{0,64}}[ -/]{{0,4}}|[\]PX^_][^\x07\x1b\n]{{0,{_MAX_SEQUENCE}}}\x1b?|[ -/]{{0,4}})?\Z"
)
# Colours, bold, dim, italic, underlined, reversed, struck out, and their ends. Nothing conceals text or blinks.
_PLAIN_STYLES = frozenset(
    [0, 1, 2, 3, 4, 7, 9, *range(21, 30), *range(30, 38), 39, *range(40, 48), 49, *range(90, 98), *range(100, 108)]
)

_INVISIBLE: dict[int, str | None] = dict.fromkeys([*range(9), *range(11, 32), *range(127, 160)], None)
# They could show a line in another order than it was printed, or break it where others see one line.
_INVISIBLE.update(dict.fromkeys([*range(0x2028, 0x202F), *range(0x2066, 0x206A), 0x200E, 0x200F, 0x061C], "\ufffd"))


def plain(text: object) -> str:
    """A value for one line: without control characters and sequences. None is empty."""
    if text is None:
        return ""
    return _SEQUENCE.sub("", str(text)).translate(_INVISIBLE).replace("\n", " ").replace("\t", " ")


def plain_lines(text: object) -> str:
    """The same for a text of several lines."""
    return "\n".join(plain(line) for line in str(text).splitlines())


def _style(parameters: str) -> str:
    """The sequence with those of the parameters that only colour; empty if there is none."""
    kept: list[str] = []
    left = re.split("[;:]", parameters or "0")
    while left:
        part = left.pop(0) or "0"
        if part in ("38", "48"):
            count = {"5": 2, "2": 4}.get(left[0] if left else "", 0)
            colour, left = left[:count], left[count:]
            if count and len(colour) == count and all(_is_byte(one) for one in colour):
                kept += [part, *colour]
        elif part.isascii() and part.isdigit() and len(part) <= 3 and int(part) in _PLAIN_STYLES:
            kept.append(part)
    return f"\x1b[{';'.join(kept)}m" if kept else ""


def _is_byte(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) <= 3 and int(text) < 256


class LogText:
    """Turns the bytes of a log, part by part, into text for a terminal or a file.

    With `colour`, the sequences that style text remain, and a style ends at its line's end at the latest where another
    text follows. Bytes that are not UTF-8 become replacement characters. A carriage return begins a new line: a
    progress bar leaves all of its states.
    """

    def __init__(self, *, colour: bool) -> None:
        self._colour = colour
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._left = ""
        self._styled = False

    def feed(self, data: bytes, *, last: bool = False) -> str:
        """The text of the next bytes. What may be the beginning of a sequence waits for its end."""
        text = self._left + self._decoder.decode(data, final=last)
        self._left = ""
        begun = None if last else _BEGUN.search(text)
        if begun is None and not last and text.endswith("\r"):
            text, self._left = text[:-1], "\r"
        elif begun is not None:
            text, self._left = text[: begun.start()], text[begun.start() :]
        return self._shown(text) + (self.reset() if last else "")

    def reset(self) -> str:
        """Ends a style that is on, for what others print next."""
        if not self._styled:
            return ""
        self._styled = False
        return "\x1b[0m"

    def _shown(self, text: str) -> str:
        pieces: list[str] = []
        position = 0
        for match in _SEQUENCE.finditer(text):
            pieces.append(self._bare(text[position : match.start()]))
            position = match.end()
            if self._colour and match["final"] == "m":
                pieces.append(self._styling(match["parameters"]))
        pieces.append(self._bare(text[position:]))
        return "".join(pieces)

    def _styling(self, parameters: str) -> str:
        style = _style(parameters)
        if style:
            self._styled = style not in ("\x1b[0m", "\x1b[39m")
        return style

    @staticmethod
    def _bare(text: str) -> str:
        return text.replace("\r\n", "\n").replace("\r", "\n").translate(_INVISIBLE)
