"""What an import could not take over as it was."""

from __future__ import annotations

from dataclasses import dataclass

_MAX_QUOTED = 80


class ImportRefused(Exception):
    """The file cannot be converted at all; the message says why, as a sentence."""


class Unmapped(Exception):
    """A part of the file has no counterpart. The message says which, and continues the name of a field."""


@dataclass(frozen=True, order=True)
class Remark:
    """Something that a person has to look at. `line` is that of the foreign file; `subject` is written as in
    ``jobs.test.services``."""

    line: int
    subject: str
    message: str

    def __str__(self) -> str:
        return f"line {self.line}, {self.subject}: {self.message}"


class Remarks:
    """Collects remarks. Those of a scope also become comments of the part of the output that the scope is for."""

    def __init__(self, parent: Remarks | None = None) -> None:
        self._parent = parent
        self._found: list[Remark] = []

    def add(self, line: int, subject: str, message: str) -> None:
        """Note one, once."""
        remark = Remark(line, subject, message)
        if remark not in self._found:
            self._found.append(remark)

    def scope(self) -> Remarks:
        """For a part of the output. What is noted in it counts here once `close` was called."""
        return Remarks(self)

    def close(self) -> list[str]:
        """Give the remarks to the whole, and return them as comments."""
        if self._parent is not None:
            self._parent._found.extend(self._found)
        return [str(remark) for remark in sorted(self._found)]

    def all(self) -> list[Remark]:
        """In the order of their lines. What several jobs have in common is one remark."""
        subjects: dict[tuple[int, str], list[str]] = {}
        for remark in sorted(set(self._found)):
            subjects.setdefault((remark.line, remark.message), []).append(remark.subject)
        return [
            Remark(line, names[0] + (f" and {len(names) - 1} more" if len(names) > 1 else ""), message)
            for (line, message), names in subjects.items()
        ]


def quoted(text: str, length: int = _MAX_QUOTED) -> str:
    """`text` as one short printable line, for a message."""
    line = " ".join(text.split())
    short = line if len(line) <= length else f"{line[:length]}…"
    return "".join(character if character.isprintable() else "\N{REPLACEMENT CHARACTER}" for character in short)
