"""From a YAML text to nodes. What would make a small text dangerous or ambiguous is refused here, whatever the format.

The module works on PyYAML's events, so no Python object is ever made from the text and every node has its line. It
refuses anchors and aliases (a small text could become a huge tree), tags, keys that are not text or occur twice, deep
nesting, and characters that no command can be given.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Optional

import yaml
from yaml.reader import ReaderError

from agent.pipeline.constants import MAX_BYTES
from agent.pipeline.nodes import ListNode, MappingNode, Node, Problems, RefusedNode, ScalarNode, quoted

# The format itself needs eight.
MAX_DEPTH = 10
# Keys, values and entries. PyYAML takes longer the more there are, so reading stops here.
MAX_VALUES = 30_000
# PyYAML's own explanations can quote the text at length.
_MAX_EXPLANATION = 200

_PREFIX = "tag:yaml.org,2002:"
_NULL_TAG = f"{_PREFIX}null"
_NULLS = frozenset(("", "~", "null", "Null", "NULL"))
# The tags of the values that this format has ("!" means: decide by the form of the value).
_SCALAR_TAGS = frozenset(
    (None, "!", *(f"{_PREFIX}{kind}" for kind in ("str", "int", "float", "bool", "null", "timestamp")))
)
# A line and a column.
_Place = tuple[int, int]

# What to write instead, by a part of PyYAML's explanation; the first that is in it counts.
_ADVICE = {
    "'\\t'": "indent with spaces, not with tabs",
    "mapping values are not allowed": "put a text that has a colon and a space in quotes, or on the lines below "
    "`run: |`; the keys of one mapping begin in the same column",
    "unexpected end of stream": "a quote is not closed",
    "scanning an alias": "put a text that begins with * in quotes",
    "scanning an anchor": "put a text that begins with & or [ in quotes",
    "sequence entries are not allowed": "begin a list on the line below its key",
    "cannot start any token": "put a text that begins with this character in quotes",
    "scanning a block scalar": "write the text on the lines below | or >, which stand alone",
    "parsing a flow": "close the bracket, put a comma between the entries, and put a text with brackets or commas in "
    "quotes",
    "could not find expected ':'": "write a space after the colon, as in `key: value`, and indent the lines of a text "
    "more than its key",
    "parsing a block": "begin the keys of one mapping, and the entries of one list, in the same column; put a whole "
    "text in quotes, not a part of it",
    "unknown escape character": "put a text with \\ in single quotes",
}

_MERGE = "<<"

_COLLECTION_TAGS = frozenset((None, "!", f"{_PREFIX}seq", f"{_PREFIX}map"))


def compose(text: str, problems: Problems) -> Optional[Node]:
    """The one document of `text`, or None after noting why there is none. Raises TooManyProblems."""
    try:
        size = len(text.encode())
    except UnicodeEncodeError as error:
        problems.add(_at(text, error.start), "must be valid Unicode")
        return None
    if size > MAX_BYTES:
        problems.add(Node("", 1, 1), f"must be at most {MAX_BYTES:,} bytes long, not {size:,}")
        return None
    try:
        return _Composer(text, problems).document()
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        why = ", ".join(part for part in (error.context, error.problem) if part)
        advice = next((f"; {_ADVICE[part]}" for part in _ADVICE if part in why), "")
        where = Node("", mark.line + 1, mark.column + 1) if mark else Node("", 1, 1)
        problems.add(where, f"must be valid YAML: {quoted(why, _MAX_EXPLANATION)}{advice}")
    except ReaderError as error:
        problems.add(
            _at(text, error.position), f"must be valid YAML: the character U+{error.character:04X} is not allowed"
        )
    except (ValueError, OverflowError):
        # PyYAML raises these for an escape beyond Unicode's last character and for a version of a thousand digits.
        problems.add(Node("", 1, 1), "must be valid YAML: a number or an escaped character is too large")
    return None


class _Composer:
    """Turns the events of one text into nodes."""

    def __init__(self, text: str, problems: Problems) -> None:
        # Of any type, since PyYAML's types do not say what events have.
        self._events: Iterator[Any] = yaml.parse(text, Loader=yaml.SafeLoader)
        self._problems = problems
        self._depth = 0
        self._count = 0

    def document(self) -> Optional[Node]:
        next(self._events)  # the start of the stream
        if isinstance(next(self._events), yaml.StreamEndEvent):
            self._problems.add(Node("", 1, 1), "must not be empty; write at least `steps`")
            return None
        first = next(self._events)
        root = self._node(first, "", _place(first))
        next(self._events)  # the end of the document
        following = next(self._events)
        if not isinstance(following, yaml.StreamEndEvent):
            self._problems.add(Node("", *_place(following)), "must be one YAML document, not several")
        return root

    def _node(self, event: Any, path: str, place: _Place) -> Node:
        """The node that begins with `event`; this reads all further events of the node."""
        kind = type(event)
        self._count += 1
        if self._count > MAX_VALUES:
            self._problems.add(Node(path, *place), f"must have at most {MAX_VALUES:,} keys and values", stop=True)
        if kind is yaml.AliasEvent:
            name = f"*{quoted(event.anchor)}"
            message = f"must not be the alias {name}; write the value itself, and a text that begins with * in quotes"
            return self._refused(path, place, message)
        if event.anchor is not None and kind is yaml.ScalarEvent and not event.value:
            return self._refused(path, place, "must be in quotes if it is a text that begins with &")
        if event.anchor is not None:
            self._problems.add(Node(path, *place), f"must not have the anchor &{quoted(event.anchor)}; remove it")
        if kind is yaml.ScalarEvent:
            return self._scalar(event, path, place)
        if self._depth >= MAX_DEPTH:
            self._problems.add(Node(path, *place), f"must be nested at most {MAX_DEPTH} levels deep", stop=True)
        self._depth += 1
        node = self._list(path, place) if kind is yaml.SequenceStartEvent else self._mapping(path, place)
        self._depth -= 1
        return node if event.tag in _COLLECTION_TAGS else self._refused_tag(event.tag, path, place)

    def _scalar(self, event: Any, path: str, place: _Place) -> Node:
        if event.tag not in _SCALAR_TAGS:
            return self._refused_tag(event.tag, path, place, is_text=True)
        if "\0" in event.value or not _is_encodable(event.value):
            return self._refused(path, place, "must not contain a NUL character or half of a surrogate pair")
        # `implicit[0]`: the value is plain, so that its form decides on its type.
        is_null = event.tag == _NULL_TAG or (event.implicit[0] and event.value in _NULLS)
        return ScalarNode(path, *place, event.value, is_null, _start(event))

    def _list(self, path: str, place: _Place) -> ListNode:
        entries: list[Node] = []
        while not isinstance(event := next(self._events), yaml.SequenceEndEvent):
            entries.append(self._node(event, f"{path}[{len(entries)}]", _place(event)))
        return ListNode(path, *place, entries)

    def _mapping(self, path: str, place: _Place) -> Node:
        members: dict[str, Node] = {}
        is_refused = False
        while not isinstance(event := next(self._events), yaml.MappingEndEvent):
            key = self._node(event, path, _place(event))
            name = quoted(key.text) if isinstance(key, ScalarNode) else "?"
            if isinstance(key, ScalarNode) and key.text == _MERGE:
                self._merge(Node(f"{path}.{name}" if path else name, key.line, key.column))
                continue
            value = self._node(next(self._events), f"{path}.{name}" if path else name, (key.line, key.column))
            if isinstance(key, ScalarNode):
                if key.text in members:
                    before = members[key.text].line
                    self._problems.add(value, f"must be given once; line {before} already has the key {name!r}")
                else:
                    members[key.text] = value
            elif not isinstance(key, RefusedNode):
                self._problems.add(key, "must have only text as keys; put a text that begins with { or [ in quotes")
                is_refused = True
        # What has no other keys is probably a text without its quotes.
        return RefusedNode(path, *place) if is_refused and not members else MappingNode(path, *place, members)

    def _merge(self, where: Node) -> None:
        """Refuses a merge key with its value, which is left out."""
        message = "must not be used to merge mappings; write the keys here, or for all jobs in `defaults`"
        self._problems.add(where, message)
        event = next(self._events)
        if not isinstance(event, yaml.AliasEvent):
            self._node(event, where.path, (where.line, where.column))

    def _refused_tag(self, tag: str, path: str, place: _Place, *, is_text: bool = False) -> RefusedNode:
        if path.endswith(".if") and tag.startswith("!"):
            return self._refused(path, place, "must be in quotes if it begins with !, as in '!changed(\"docs/**\")'")
        if tag.startswith("!") and is_text:
            return self._refused(
                path, place, f"must not have the tag {quoted(tag)}; put a text that begins with ! in quotes"
            )
        return self._refused(path, place, f"must not have the tag {quoted(tag)}; remove it")

    def _refused(self, path: str, place: _Place, message: str) -> RefusedNode:
        node = RefusedNode(path, *place)
        self._problems.add(node, message)
        return node


def _place(event: Any) -> _Place:
    """The line and the column at which the event begins, both from 1."""
    return int(event.start_mark.line) + 1, int(event.start_mark.column) + 1


def _start(event: Any) -> Optional[_Place]:
    """Where the scalar's first character is, if the file has all of them in a row."""
    begin, end = event.start_mark, event.end_mark
    quotes = 1 if event.style in ("'", '"') else 0
    if event.style in ("|", ">") or end.index - begin.index != len(event.value) + 2 * quotes:
        return None
    return int(begin.line) + 1, int(begin.column) + 1 + quotes


def _at(text: str, position: int) -> Node:
    return Node("", text.count("\n", 0, position) + 1, position - text.rfind("\n", 0, position))


def _is_encodable(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
