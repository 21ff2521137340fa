"""From a YAML text to nodes. What would make a small text dangerous or ambiguous is refused here, whatever the format.

The module works on PyYAML's events, so no Python object is ever made from the text and every node has its line. It
refuses anchors and aliases (a small text could become a huge tree), tags, keys that are not text or occur twice, deep
nesting, and characters that no command can be given.
"""

from collections.abc import Iterator
from typing import Any

import yaml
from yaml.reader import ReaderError

from apps.pipelines.definitions import MAX_BYTES
from apps.pipelines.nodes import ListNode, MappingNode, Node, Problems, RefusedNode, ScalarNode, quoted

# The format itself needs five.
MAX_DEPTH = 10
# PyYAML's own explanations can quote the text at length.
_MAX_EXPLANATION = 200

_PREFIX = "tag:yaml.org,2002:"
_NULL_TAG = f"{_PREFIX}null"
_NULLS = frozenset(("", "~", "null", "Null", "NULL"))
# The tags of the values that this format has ("!" means: decide by the form of the value).
_SCALAR_TAGS = frozenset(
    (None, "!", *(f"{_PREFIX}{kind}" for kind in ("str", "int", "float", "bool", "null", "timestamp")))
)
_COLLECTION_TAGS = frozenset((None, "!", f"{_PREFIX}seq", f"{_PREFIX}map"))


def compose(text: str, problems: Problems) -> Node | None:
    """The one document of `text`, or None after noting why there is none. Raises TooManyProblems."""
    try:
        size = len(text.encode())
    except UnicodeEncodeError as error:
        problems.add(_at(text, error.start), "must be valid Unicode")
        return None
    if size > MAX_BYTES:
        problems.add(Node("", 1), f"must be at most {MAX_BYTES:,} bytes long, not {size:,}")
        return None
    try:
        return _Composer(text, problems).document()
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        why = ", ".join(part for part in (error.context, error.problem) if part)
        problems.add(Node("", mark.line + 1 if mark else 1), f"must be valid YAML: {quoted(why, _MAX_EXPLANATION)}")
    except ReaderError as error:
        problems.add(
            _at(text, error.position), f"must be valid YAML: the character U+{error.character:04X} is not allowed"
        )
    except (ValueError, OverflowError):
        # PyYAML raises these for an escape beyond Unicode's last character and for a version of a thousand digits.
        problems.add(Node("", 1), "must be valid YAML: a number or an escaped character is too large")
    return None


class _Composer:
    """Turns the events of one text into nodes."""

    def __init__(self, text: str, problems: Problems) -> None:
        # Of any type, since PyYAML's types do not say what events have.
        self._events: Iterator[Any] = yaml.parse(text, Loader=yaml.SafeLoader)
        self._problems = problems
        self._depth = 0

    def document(self) -> Node | None:
        next(self._events)  # the start of the stream
        if isinstance(next(self._events), yaml.StreamEndEvent):
            self._problems.add(Node("", 1), "must not be empty; write at least `steps`")
            return None
        first = next(self._events)
        root = self._node(first, "", _line(first))
        next(self._events)  # the end of the document
        following = next(self._events)
        if not isinstance(following, yaml.StreamEndEvent):
            self._problems.add(Node("", _line(following)), "must be one YAML document, not several")
        return root

    def _node(self, event: Any, path: str, line: int) -> Node:
        """The node that begins with `event`; this reads all further events of the node."""
        kind = type(event)
        if kind is yaml.AliasEvent:
            return self._refused(path, line, f"must not be the alias *{quoted(event.anchor)}; write the value itself")
        if event.anchor is not None:
            self._problems.add(Node(path, line), f"must not have the anchor &{quoted(event.anchor)}; remove it")
        if kind is yaml.ScalarEvent:
            return self._scalar(event, path, line)
        if self._depth >= MAX_DEPTH:
            self._problems.add(Node(path, line), f"must be nested at most {MAX_DEPTH} levels deep", stop=True)
        self._depth += 1
        node = self._list(path, line) if kind is yaml.SequenceStartEvent else self._mapping(path, line)
        self._depth -= 1
        return node if event.tag in _COLLECTION_TAGS else self._refused_tag(event.tag, path, line)

    def _scalar(self, event: Any, path: str, line: int) -> Node:
        if event.tag not in _SCALAR_TAGS:
            return self._refused_tag(event.tag, path, line)
        if "\0" in event.value or not _is_encodable(event.value):
            return self._refused(path, line, "must not contain a NUL character or half of a surrogate pair")
        # `implicit[0]`: the value is plain, so that its form decides on its type.
        is_null = event.tag == _NULL_TAG or (event.implicit[0] and event.value in _NULLS)
        return ScalarNode(path, line, event.value, is_null)

    def _list(self, path: str, line: int) -> ListNode:
        entries: list[Node] = []
        while not isinstance(event := next(self._events), yaml.SequenceEndEvent):
            entries.append(self._node(event, f"{path}[{len(entries)}]", _line(event)))
        return ListNode(path, line, entries)

    def _mapping(self, path: str, line: int) -> MappingNode:
        members: dict[str, Node] = {}
        while not isinstance(event := next(self._events), yaml.MappingEndEvent):
            key = self._node(event, path, _line(event))
            name = quoted(key.text) if isinstance(key, ScalarNode) else "?"
            value = self._node(next(self._events), f"{path}.{name}" if path else name, key.line)
            if isinstance(key, ScalarNode):
                if key.text in members:
                    before = members[key.text].line
                    self._problems.add(value, f"must be given once; line {before} already has the key {name!r}")
                else:
                    members[key.text] = value
            elif not isinstance(key, RefusedNode):
                self._problems.add(key, "must have only text as keys")
        return MappingNode(path, line, members)

    def _refused_tag(self, tag: str, path: str, line: int) -> RefusedNode:
        return self._refused(path, line, f"must not have the tag {quoted(tag)}; remove it")

    def _refused(self, path: str, line: int, message: str) -> RefusedNode:
        node = RefusedNode(path, line)
        self._problems.add(node, message)
        return node


def _line(event: Any) -> int:
    return int(event.start_mark.line) + 1


def _at(text: str, position: int) -> Node:
    return Node("", text.count("\n", 0, position) + 1)


def _is_encodable(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
