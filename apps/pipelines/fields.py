"""The kinds of fields that a definition is made of. `definition_reader` has the table that uses them.

Each kind reads a node: it returns the value, or notes every mistake and returns None. Kinds say what a value must be,
so every message continues the name of the field: "steps[1].timeout: must be …".
"""

import difflib
import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from apps.pipelines.nodes import ListNode, MappingNode, Node, Problems, RefusedNode, ScalarNode, quoted

T = TypeVar("T")

_DURATION = re.compile(r"([0-9]{1,9})|(?=.)(?:([0-9]{1,9})h)?(?:([0-9]{1,9})m)?(?:([0-9]{1,9})s)?")
_WHOLE_NUMBER = re.compile(r"[0-9]{1,9}")


@dataclass(frozen=True)
class Pattern:
    """What a name looks like: for the reader, and in words that follow "must be"."""

    expression: re.Pattern[str]
    words: str


class Kind(ABC, Generic[T]):
    """What a value must be."""

    @abstractmethod
    def read(self, node: Node, problems: Problems) -> T | None:
        """The value, or None after noting what is wrong. Raises TooManyProblems."""


class _Scalar(Kind[T]):
    """A value that is written as one text."""

    def read(self, node: Node, problems: Problems) -> T | None:
        if not isinstance(node, ScalarNode):
            _type_refuse(node, "text", problems)
        elif node.is_null:
            problems.add(node, 'must have a value; write "" for an empty text')
        else:
            value = self.value(node.text)
            if value is not None:
                return value
            problems.add(node, f"must be {self.words()}, not {quoted(node.text)!r}")
        return None

    @abstractmethod
    def value(self, text: str) -> T | None:
        """What `text` means, or None when it is none of `words`."""

    @abstractmethod
    def words(self) -> str:
        """What the text must be."""


@dataclass(frozen=True)
class Text(_Scalar[str]):
    """Any text, as it is written; with `filled`, it has more than white space."""

    filled: bool = False

    def value(self, text: str) -> str | None:
        return text if text.strip() or not self.filled else None

    def words(self) -> str:
        return "text with more than white space"


@dataclass(frozen=True)
class Line(_Scalar[str]):
    """One line of printable text."""

    max_length: int

    def value(self, text: str) -> str | None:
        return text if text.strip() and text.isprintable() and len(text) <= self.max_length else None

    def words(self) -> str:
        return f"one line of 1 to {self.max_length} printable characters"


@dataclass(frozen=True)
class Name(_Scalar[str]):
    """A word that follows a pattern."""

    pattern: Pattern

    def value(self, text: str) -> str | None:
        return text if self.pattern.expression.fullmatch(text) else None

    def words(self) -> str:
        return self.pattern.words


@dataclass(frozen=True)
class WholeNumber(_Scalar[int]):
    """A number without sign, point or exponent."""

    least: int
    most: int

    def value(self, text: str) -> int | None:
        number = int(text) if _WHOLE_NUMBER.fullmatch(text) else -1
        return number if self.least <= number <= self.most else None

    def words(self) -> str:
        return f"a whole number from {self.least} to {self.most}"


class YesOrNo(_Scalar[bool]):
    """True or false, as YAML's core schema writes them."""

    def value(self, text: str) -> bool | None:
        return {"true": True, "false": False}.get(text.lower())

    def words(self) -> str:
        return "true or false"


@dataclass(frozen=True)
class Duration(_Scalar[int]):
    """Seconds, or hours, minutes and seconds with their letters; the value is in seconds."""

    most: int

    def value(self, text: str) -> int | None:
        match = _DURATION.fullmatch(text)
        if match is None:
            return None
        alone, hours, minutes, seconds = (int(part or 0) for part in match.groups())
        total = alone + hours * 3600 + minutes * 60 + seconds
        return total if 1 <= total <= self.most else None

    def words(self) -> str:
        return f"a time from 1 second to {self.most // 3600} hours, as in 90, 90s, 10m or 1h30m"


@dataclass(frozen=True)
class ListOf(Kind[list[T]]):
    """A list whose entries are all of one kind."""

    kind: Kind[T]
    most: int
    least: int = 0

    def read(self, node: Node, problems: Problems) -> list[T] | None:
        if not isinstance(node, ListNode):
            _type_refuse(node, "a list", problems)
            return None
        count = len(node.entries)
        if count < self.least:
            problems.add(node, f"must have at least {self.least} {'entry' if self.least == 1 else 'entries'}")
        if count > self.most:
            surplus = Node(node.path, node.entries[self.most].line)
            problems.add(surplus, f"must have at most {self.most} entries, not {count}")
        values = [self.kind.read(entry, problems) for entry in node.entries]
        return [value for value in values if value is not None]


@dataclass(frozen=True)
class Names(ListOf[str]):
    """A list of names, each of which counts once."""

    def read(self, node: Node, problems: Problems) -> list[str] | None:
        names = super().read(node, problems)
        return None if names is None else list(dict.fromkeys(names))


@dataclass(frozen=True)
class MappingOf(Kind[dict[str, T]]):
    """A mapping whose keys the writer chooses; its values are all of one kind."""

    names: Pattern
    kind: Kind[T]

    def read(self, node: Node, problems: Problems) -> dict[str, T] | None:
        if not isinstance(node, MappingNode):
            _type_refuse(node, "a mapping (key: value)", problems)
            return None
        values = {}
        for name, member in node.members.items():
            if not self.names.expression.fullmatch(name):
                problems.add(member, f"must have a name that is {self.names.words}")
            value = self.kind.read(member, problems)
            if value is not None:
                values[name] = value
        return values


@dataclass(frozen=True)
class Members(Kind[T]):
    """A mapping with known keys. `make` builds the value from the members that are given, as keyword arguments."""

    make: Callable[..., T]
    kinds: Mapping[str, Kind[Any]]
    required: tuple[str, ...] = ()

    def read(self, node: Node, problems: Problems) -> T | None:
        if not isinstance(node, MappingNode):
            _type_refuse(node, "a mapping (key: value)", problems)
            return None
        values: dict[str, Any] = {}
        for name, member in node.members.items():
            if name in self.kinds:
                values[name] = self.kinds[name].read(member, problems)
            else:
                problems.add(member, self._unknown(quoted(name)))
        for name in self.required:
            if name not in node.members:
                problems.add(Node(f"{node.path}.{name}" if node.path else name, node.line), "must be given")
        return None if problems else self.make(**values)

    def _unknown(self, name: str) -> str:
        close = difflib.get_close_matches(name, self.kinds, n=1)
        hint = f"did you mean {close[0]!r}?" if close else f"allowed are {', '.join(self.kinds)}"
        return f"unknown key {name!r}; {hint}"


def _type_refuse(node: Node, wanted: str, problems: Problems) -> None:
    if isinstance(node, RefusedNode):
        return
    found = "a mapping"
    if isinstance(node, ListNode):
        found = "a list"
    elif isinstance(node, ScalarNode):
        found = "empty" if node.is_null else f"the text {quoted(node.text)!r}"
    problems.add(node, f"must be {wanted}, not {found}")
