"""What a YAML text consists of, each part with its line and its path, and the list of what is wrong with the text."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Optional

# A text with more mistakes than this is not a pipeline definition.
MAX_PROBLEMS = 50
_MAX_QUOTED = 60


@dataclass(frozen=True)
class Node:
    """A value in the text. `path` is written as in ``steps[1].timeout``.

    `line` and `column`, both from 1, are those of its key or list entry.
    """

    path: str
    line: int
    column: int


@dataclass(frozen=True)
class ScalarNode(Node):
    """A text as it was written (``1.10`` is not a number); `is_null` when YAML reads it as "no value".

    `start` is the line and the column of its first character where the text stands in the file as it is, else None.
    """

    text: str
    is_null: bool
    start: Optional[tuple[int, int]] = None

    def at(self, offset: int) -> Node:
        """The place of the text's character with this offset, for a message about it."""
        if self.start is None:
            return Node(self.path, self.line, self.column)
        return Node(self.path, self.start[0], self.start[1] + offset)


@dataclass(frozen=True)
class ListNode(Node):
    """A list."""

    entries: list[Node] = field(default_factory=list)


@dataclass(frozen=True)
class MappingNode(Node):
    """A mapping; each key occurs once."""

    members: dict[str, Node] = field(default_factory=dict)


@dataclass(frozen=True)
class RefusedNode(Node):
    """A value that is already among the problems, so that there is nothing more to say about it."""


class TooManyProblems(Exception):
    """The reader stops here."""


class DefinitionInvalid(Exception):
    """A text is no pipeline definition.

    `problems` has every mistake as ``{"field": "steps[1].timeout", "line": 7, "column": 5, "message": …}``, in the
    order of the lines; the message of the exception is that of the first one.
    """

    def __init__(self, problems: Sequence[dict[str, Any]]) -> None:
        self.problems = list(problems)
        first, others = self.problems[0], len(self.problems) - 1
        self.message = f"line {first['line']}, {first['field']}: {first['message']}"
        if others:
            self.message += f" (and {others} more {'problem' if others == 1 else 'problems'})"
        super().__init__(self.message)


class Problems:
    """Collects what is wrong with a text."""

    def __init__(self) -> None:
        self._found: list[dict[str, Any]] = []
        self._first: list[dict[str, Any]] = []
        # The texts with expressions, and what each may name: to be checked when all of the file is known.
        self.expressions: list[tuple[ScalarNode, str]] = []
        # What to write instead of a value of a wrong type, by the paths of the values.
        self.advice: dict[str, str] = {}

    def __bool__(self) -> bool:
        return bool(self._found)

    def __len__(self) -> int:
        return len(self._found)

    def add(self, where: Node, message: str, *, stop: bool = False) -> None:
        """Note a mistake. Raises TooManyProblems after the last one that is reported, or to `stop` reading here."""
        self._found.append(_problem(where, message))
        if stop or len(self._found) >= MAX_PROBLEMS:
            raise TooManyProblems

    def explain(self, where: Node, message: str) -> None:
        """Note what explains the mistakes, and so comes before them."""
        self._first.append(_problem(where, message))

    def advise(self, where: Node, advice: str) -> None:
        """Remember what to write instead if the value is of a wrong type."""
        self.advice[where.path] = advice

    def note(self, where: ScalarNode, place: str) -> None:
        """Remember a text with expressions. `place` says what they may name."""
        self.expressions.append((where, place))

    def error(self) -> DefinitionInvalid:
        """All mistakes in the order of their lines, after what explains them."""
        found = sorted(self._found, key=lambda problem: int(problem["line"]))
        return DefinitionInvalid([*self._first, *found][:MAX_PROBLEMS])


def _problem(where: Node, message: str) -> dict[str, Any]:
    return {"field": where.path or "definition", "line": where.line, "column": where.column, "message": message}


def quoted(text: str, length: int = _MAX_QUOTED) -> str:
    """`text` made short and printable, for a message."""
    short = text if len(text) <= length else f"{text[:length]}…"
    return "".join(character if character.isprintable() else "\N{REPLACEMENT CHARACTER}" for character in short)
