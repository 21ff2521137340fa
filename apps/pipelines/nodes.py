"""What a YAML text consists of, each part with its line and its path, and the list of what is wrong with the text."""

from dataclasses import dataclass, field
from typing import Any

from controlplane.lib.error_codes import ErrorCode
from controlplane.lib.errors import InvalidInput

# A text with more mistakes than this is not a pipeline definition.
MAX_PROBLEMS = 50
_MAX_QUOTED = 60


@dataclass(frozen=True, slots=True)
class Node:
    """A value in the text. `path` is written as in ``steps[1].timeout``; `line` is that of its key or list entry."""

    path: str
    line: int


@dataclass(frozen=True, slots=True)
class ScalarNode(Node):
    """A text as it was written (``1.10`` is not a number); `is_null` when YAML reads it as "no value"."""

    text: str
    is_null: bool


@dataclass(frozen=True, slots=True)
class ListNode(Node):
    """A list."""

    entries: list[Node] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class MappingNode(Node):
    """A mapping; each key occurs once."""

    members: dict[str, Node] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class RefusedNode(Node):
    """A value that is already among the problems, so that there is nothing more to say about it."""


class TooManyProblems(Exception):
    """The reader stops here."""


class Problems:
    """Collects what is wrong with a text."""

    def __init__(self) -> None:
        self._found: list[dict[str, Any]] = []

    def __bool__(self) -> bool:
        return bool(self._found)

    def add(self, where: Node, message: str, *, stop: bool = False) -> None:
        """Note a mistake. Raises TooManyProblems after the last one that is reported, or to `stop` reading here."""
        self._found.append({"field": where.path or "definition", "line": where.line, "message": message})
        if stop or len(self._found) >= MAX_PROBLEMS:
            raise TooManyProblems

    def error(self) -> InvalidInput:
        """All mistakes in the order of their lines; the message is the first one."""
        errors = sorted(self._found, key=lambda problem: int(problem["line"]))
        first, others = errors[0], len(errors) - 1
        message = f"line {first['line']}, {first['field']}: {first['message']}"
        if others:
            message += f" (and {others} more {'problem' if others == 1 else 'problems'})"
        return InvalidInput(message, code=ErrorCode.DEFINITION_INVALID, errors=errors)


def quoted(text: str, length: int = _MAX_QUOTED) -> str:
    """`text` made short and printable, for a message."""
    short = text if len(text) <= length else f"{text[:length]}…"
    return "".join(character if character.isprintable() else "\N{REPLACEMENT CHARACTER}" for character in short)
