"""YAML of other products as nodes with lines, with anchors, merge keys and tags. What grows too large is refused.

A node that is used again through an alias is one object. Its weight counts each time, so that a small text with nested
aliases is refused before anything walks through it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import yaml
from yaml.reader import ReaderError

from apps.pipelines.importing.remarks import ImportRefused, quoted

MAX_BYTES = 512 * 1024
MAX_DEPTH = 40
# Values after all aliases have been replaced by what they stand for.
MAX_WEIGHT = 50_000

_NULLS = frozenset(("", "~", "null", "Null", "NULL"))
_TRUE = frozenset(("true", "yes", "on"))
_FALSE = frozenset(("false", "no", "off"))
_MERGE = "<<"


class Place(int):
    """The number of a line in a file that another one includes. In messages, it is followed by that file."""

    def __new__(cls, line: int, file: str) -> Place:
        place = super().__new__(cls, line)
        place.file = file
        return place

    file: str

    def __format__(self, form: str) -> str:
        return str(self)

    def __str__(self) -> str:
        return f"{int(self)} of {self.file}"


@dataclass(frozen=True, slots=True)
class Value:
    """A part of the file. `tag` is one of the file's own, as in ``!reference``; `weight` counts values."""

    line: int
    tag: str | None = None
    weight: int = 1


@dataclass(frozen=True, slots=True)
class Scalar(Value):
    """A text as it was written."""

    text: str = ""
    is_null: bool = False


@dataclass(frozen=True, slots=True)
class Sequence(Value):
    """A list."""

    entries: tuple[Value, ...] = ()


@dataclass(frozen=True, slots=True)
class Mapping(Value):
    """A mapping, after its merge keys. The last one of equal keys counts; `repeated` has the lines of the others."""

    members: dict[str, Value] = field(default_factory=dict)
    repeated: tuple[tuple[str, int], ...] = ()


def documents_read(text: str, file: str = "") -> list[Value]:
    """The documents of a YAML text, which is that of the included `file` if this is given. Raises ImportRefused."""
    try:
        return _documents(text, file)
    except ImportRefused as refusal:
        raise ImportRefused(f"{quoted(file)}: {refusal}" if file else str(refusal)) from refusal


def _documents(text: str, file: str) -> list[Value]:
    size = len(text.encode(errors="surrogatepass"))
    if size > MAX_BYTES:
        raise ImportRefused(f"The file has {size:,} bytes; at most {MAX_BYTES:,} are converted. Split it.")
    try:
        return _Reader(text, file).documents()
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = mark.line + 1 if mark else 1
        why = ", ".join(part for part in (error.context, error.problem) if part)
        raise ImportRefused(f"Line {line} is not valid YAML: {quoted(why, 200)}.") from error
    except ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        raise ImportRefused(f"Line {line} is not valid YAML: a character is not allowed.") from error
    except (ValueError, OverflowError, UnicodeError) as error:
        raise ImportRefused("The file is not valid YAML: a number or an escaped character is too large.") from error


def document_of(documents: list[Value]) -> Value:
    """The only document of a file. Raises ImportRefused."""
    if len(documents) != 1:
        what = "is empty" if not documents else f"has {len(documents)} YAML documents; convert one at a time"
        raise ImportRefused(f"The file {what}.")
    return documents[0]


def scalar_text(node: Value | None) -> str | None:
    """The text of a scalar that has a value."""
    return node.text if isinstance(node, Scalar) and not node.is_null else None


def truth(node: Value | None) -> bool | None:
    """What a scalar means as true or false. None: neither."""
    text = (scalar_text(node) or "").lower()
    return True if text in _TRUE else False if text in _FALSE else None


def members_of(node: Value | None) -> dict[str, Value]:
    """The members of a mapping; of anything else none."""
    return node.members if isinstance(node, Mapping) else {}


def entries_of(node: Value | None) -> list[Value]:
    """The entries of a list. A single value is a list of one; nothing is an empty list."""
    if isinstance(node, Sequence):
        return [*node.entries]
    return [] if node is None or (isinstance(node, Scalar) and node.is_null) else [node]


class _Reader:
    def __init__(self, text: str, file: str) -> None:
        self._file = file
        self._events: Iterator[Any] = yaml.parse(text, Loader=yaml.SafeLoader)
        self._anchors: dict[str, Value | None] = {}
        self._depth = 0
        self._weight = 0

    def documents(self) -> list[Value]:
        found = []
        for event in self._events:
            if isinstance(event, yaml.DocumentStartEvent):
                self._anchors = {}
                found.append(self._node(next(self._events)))
        return found

    def _node(self, event: Any) -> Value:
        line = int(event.start_mark.line) + 1
        if self._file:
            line = Place(line, self._file)
        if isinstance(event, yaml.AliasEvent):
            return self._alias(event, line)
        if event.anchor is not None:
            # Until the node is complete, it cannot be a part of itself.
            self._anchors[event.anchor] = None
        node = self._new(event, line)
        self._count(1, line)
        if event.anchor is not None:
            self._anchors[event.anchor] = node
        return node

    def _alias(self, event: Any, line: int) -> Value:
        node = self._anchors.get(event.anchor)
        if node is None:
            what = "is inside of what it stands for" if event.anchor in self._anchors else "has no anchor"
            raise ImportRefused(f"Line {line}: the alias *{quoted(event.anchor)} {what}.")
        self._count(node.weight, line)
        return node

    def _count(self, weight: int, line: int) -> None:
        self._weight += weight
        if self._weight > MAX_WEIGHT:
            raise ImportRefused(
                f"Line {line}: the file has more than {MAX_WEIGHT:,} values with its aliases replaced. Split it."
            )

    def _new(self, event: Any, line: int) -> Value:
        tag = event.tag if event.tag and event.tag.startswith("!") and event.tag != "!" else None
        if isinstance(event, yaml.ScalarEvent):
            is_null = bool(event.implicit[0]) and event.value in _NULLS
            return Scalar(line, tag, 1, _clean(event.value), is_null)
        if self._depth >= MAX_DEPTH:
            raise ImportRefused(f"Line {line}: values are nested more than {MAX_DEPTH} levels deep.")
        self._depth += 1
        sequence = isinstance(event, yaml.SequenceStartEvent)
        node = self._sequence(line, tag) if sequence else self._mapping(line, tag)
        self._depth -= 1
        return node

    def _sequence(self, line: int, tag: str | None) -> Sequence:
        entries = []
        while not isinstance(event := next(self._events), yaml.SequenceEndEvent):
            entries.append(self._node(event))
        return Sequence(line, tag, 1 + sum(entry.weight for entry in entries), tuple(entries))

    def _mapping(self, line: int, tag: str | None) -> Mapping:
        own: dict[str, Value] = {}
        merged: dict[str, Value] = {}
        repeated = []
        while not isinstance(event := next(self._events), yaml.MappingEndEvent):
            at = int(event.start_mark.line) + 1
            key = self._node(event)
            value = self._node(next(self._events))
            if not isinstance(key, Scalar):
                raise ImportRefused(f"Line {at}: a key is a list or a mapping; only text can be converted.")
            if key.text == _MERGE:
                for source in entries_of(value):
                    merged = {**members_of(source), **merged}
                continue
            if key.text in own:
                repeated.append((key.text, at))
            own[key.text] = value
        members = {**merged, **own}
        return Mapping(line, tag, 1 + sum(member.weight for member in members.values()), members, tuple(repeated))


def _clean(text: str) -> str:
    """Without what no command can be given: NUL, and halves of surrogate pairs."""
    return text.replace("\0", "").encode(errors="ignore").decode()
