"""Reading the YAML of a pipeline definition (what it may hold is told in `definitions`).

Line numbers matter more than convenience here, so the tree of nodes is walked and no Python objects are made of it:
a reader is told of every mistake at once, each with its line. The texts of scalars are taken as written (``1.10`` stays
``1.10``). Anchors and aliases, tags, duplicate and unknown keys are refused.
"""

import difflib
import re
from collections.abc import Iterator
from typing import Any

import yaml
from yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode
from yaml.reader import ReaderError

from apps.pipelines.definitions import (
    DEFAULT_RETRIES,
    ENV_NAME,
    LABEL,
    MAX_BYTES,
    MAX_LABELS,
    MAX_NAME_LENGTH,
    MAX_RETRIES,
    MAX_STEPS,
    MAX_TIMEOUT_SECONDS,
    Definition,
    Step,
)
from controlplane.lib.errors import InvalidInput

# The format itself needs five.
_MAX_DEPTH = 10
# Who has made so many mistakes sent something that is no definition at all.
_MAX_PROBLEMS = 50
_MAX_QUOTED = 60

_SECONDS = re.compile(r"[0-9]{1,9}")
_DURATION = re.compile(r"(?=.)(?:([0-9]{1,9})h)?(?:([0-9]{1,9})m)?(?:([0-9]{1,9})s)?")
_NULL_TAG = "tag:yaml.org,2002:null"
# What PyYAML gives to values without a tag of their own.
_KNOWN_TAGS = frozenset(
    f"tag:yaml.org,2002:{kind}"
    for kind in ("str", "int", "float", "bool", "null", "timestamp", "value", "merge", "map", "seq")
)

_PIPELINE_KEYS = ("steps", "env", "labels", "timeout", "retries")
_STEP_KEYS = ("name", "run", "env", "timeout")


def definition_read(text: str) -> Definition:
    """As `definitions.definition_parse`, which is what others call."""
    problems = _Problems()
    definition = None
    try:
        root = _compose(text, problems)
        if root is not None:
            definition = _Reader(problems).definition(root)
    except _Enough:
        pass
    if problems.found or definition is None:
        raise problems.error()
    return definition


class _Enough(Exception):
    """There is no use in reading on; the problems say why."""


class _Problems:
    """Collects what is wrong with a text."""

    def __init__(self) -> None:
        self.found: list[dict[str, Any]] = []

    def add(self, line: int, field: str, message: str) -> None:
        """Note a mistake. Raises _Enough when there are too many."""
        self.found.append({"field": field, "line": line, "message": message})
        if len(self.found) >= _MAX_PROBLEMS:
            raise _Enough

    def error(self) -> InvalidInput:
        errors = sorted(self.found, key=lambda problem: int(problem["line"]))
        first, others = errors[0], len(errors) - 1
        message = f"line {first['line']}, {first['field']}: {first['message']}"
        if others:
            message += f" (and {others} more {'problem' if others == 1 else 'problems'})"
        return InvalidInput(message, code="definition_invalid", errors=errors)


# --- from text to nodes ---------------------------------------------------------------------------------------------


def _compose(text: str, problems: _Problems) -> Node | None:
    """The root node, or None after noting why there is none."""
    try:
        size = len(text.encode())
    except UnicodeEncodeError as error:
        problems.add(text.count("\n", 0, error.start) + 1, "definition", "the text is not valid Unicode")
        return None
    if size > MAX_BYTES:
        problems.add(1, "definition", f"the definition is {size:,} bytes long; {MAX_BYTES:,} are allowed")
        return None
    root: Node | None = None
    try:
        loader = _Loader(text, problems)
        try:
            root = loader.get_single_node()
        finally:
            loader.dispose()
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        what = ", ".join(part for part in (error.context, error.problem) if part)
        problems.add(mark.line + 1 if mark else 1, "definition", f"not valid YAML: {what}")
        return None
    except ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        problems.add(line, "definition", f"not valid YAML: the character U+{error.character:04X} is not allowed")
        return None
    except (ValueError, OverflowError):
        # PyYAML lets these out for an escape beyond Unicode's last character and for a version of a thousand digits.
        problems.add(1, "definition", "not valid YAML: a number or an escaped character is too large")
        return None
    if root is None:
        problems.add(1, "definition", "the definition is empty; it needs `steps`")
    return root


class _Loader(yaml.SafeLoader):
    """Makes nodes, and refuses what makes a small text a large or deep tree, before it does."""

    def __init__(self, text: str, problems: _Problems) -> None:
        super().__init__(text)
        self._problems = problems
        self._depth = 0

    def compose_node(self, parent: Node | None, index: Any) -> Node | None:
        event = self.peek_event()  # type: ignore[no-untyped-call]
        line = event.start_mark.line + 1
        if self.check_event(yaml.AliasEvent):
            self.get_event()  # type: ignore[no-untyped-call]
            self._problems.add(line, "definition", f"the alias *{_quoted(event.anchor)} is not allowed; write it out")
            return ScalarNode("tag:yaml.org,2002:str", "", event.start_mark, event.end_mark)
        if event.anchor is not None:
            self._problems.add(line, "definition", f"the anchor &{_quoted(event.anchor)} is not allowed")
            event.anchor = None
        if self._depth > _MAX_DEPTH:
            self._problems.add(line, "definition", f"nested more than {_MAX_DEPTH} levels deep")
            raise _Enough
        self._depth += 1
        node = super().compose_node(parent, index)
        self._depth -= 1
        return node


# --- from nodes to a definition -------------------------------------------------------------------------------------


class _Reader:
    """Reads nodes. Each method notes what is wrong and returns the best it can, so that reading goes on."""

    def __init__(self, problems: _Problems) -> None:
        self._problems = problems

    def definition(self, root: Node) -> Definition:
        members = self._mapping(root, "definition", "", _PIPELINE_KEYS)
        steps: list[Step] = []
        if "steps" in members:
            steps = self._steps(members["steps"])
        elif isinstance(root, MappingNode):
            self._note(root, "steps", "`steps` is missing; a pipeline needs at least one step")
        return Definition(
            steps=steps,
            env=self._env(members.get("env"), "env"),
            labels=self._labels(members.get("labels")),
            timeout=self._duration(members.get("timeout"), "timeout"),
            retries=self._retries(members.get("retries")),
        )

    def _steps(self, node: Node) -> list[Step]:
        items = self._items(node, "steps")
        if isinstance(node, SequenceNode) and not items:
            self._note(node, "steps", "a pipeline needs at least one step")
        if len(items) > MAX_STEPS:
            self._note(items[MAX_STEPS], "steps", f"{len(items)} steps; {MAX_STEPS} are allowed")
        return [self._step(item, f"steps[{index}]") for index, item in enumerate(items)]

    def _step(self, node: Node, field: str) -> Step:
        members = self._mapping(node, field, f"{field}.", _STEP_KEYS)
        run = self._text(members.get("run"), f"{field}.run")
        if "run" not in members and isinstance(node, MappingNode):
            self._note(node, f"{field}.run", "`run` is missing; a step needs a command")
        elif run is not None and not run.strip():
            self._note(members["run"], f"{field}.run", "the command is empty")
        return Step(
            name=self._name(members.get("name"), f"{field}.name", run or ""),
            run=run or "",
            env=self._env(members.get("env"), f"{field}.env"),
            timeout=self._duration(members.get("timeout"), f"{field}.timeout"),
        )

    def _name(self, node: Node | None, field: str, run: str) -> str:
        """The name given, or the first line of the command."""
        name = self._text(node, field)
        if node is None or name is None:
            first_line = run.strip().partition("\n")[0]
            return "".join(character for character in first_line if character.isprintable())[:MAX_NAME_LENGTH]
        if not name.strip() or len(name) > MAX_NAME_LENGTH:
            self._note(node, field, f"a name has 1 to {MAX_NAME_LENGTH} characters")
        elif not name.isprintable():
            self._note(node, field, "a name is one line without control characters")
        return name

    def _env(self, node: Node | None, field: str) -> dict[str, str]:
        env = {}
        for name, value in self._pairs(node, field):
            inner = f"{field}.{_quoted(name)}"
            if not ENV_NAME.fullmatch(name):
                self._note(value, inner, "a variable's name has letters, digits and _ and begins with no digit")
            text = self._text(value, inner)
            env[name] = text or ""
        return env

    def _labels(self, node: Node | None) -> list[str]:
        items = self._items(node, "labels")
        if len(items) > MAX_LABELS:
            self._note(items[MAX_LABELS], "labels", f"{len(items)} labels; {MAX_LABELS} are allowed")
        labels: dict[str, None] = {}
        for index, item in enumerate(items):
            label = self._text(item, f"labels[{index}]")
            if label is not None and not LABEL.fullmatch(label):
                self._note(
                    item,
                    f"labels[{index}]",
                    "a label has 1 to 63 letters, digits and . _ : / = - and begins with a letter or digit",
                )
            labels[label or ""] = None
        return list(labels)

    def _retries(self, node: Node | None) -> int:
        text = self._text(node, "retries")
        if node is None or text is None:
            return DEFAULT_RETRIES
        if not re.fullmatch(r"[0-9]{1,2}", text) or int(text) > MAX_RETRIES:
            self._note(node, "retries", f"{_quoted(text)!r} is no whole number from 0 to {MAX_RETRIES}")
            return DEFAULT_RETRIES
        return int(text)

    def _duration(self, node: Node | None, field: str) -> int | None:
        """Seconds."""
        text = self._text(node, field)
        if node is None or text is None:
            return None
        match = _DURATION.fullmatch(text)
        if _SECONDS.fullmatch(text):
            total = int(text)
        elif match:
            hours, minutes, seconds = (int(part or 0) for part in match.groups())
            total = hours * 3600 + minutes * 60 + seconds
        else:
            self._note(node, field, f"{_quoted(text)!r} is no time; write seconds, or as in 90s, 10m, 1h30m")
            return None
        if not 1 <= total <= MAX_TIMEOUT_SECONDS:
            self._note(node, field, f"the time must be from 1 second to {MAX_TIMEOUT_SECONDS // 3600} hours")
            return None
        return total

    def _text(self, node: Node | None, field: str) -> str | None:
        """A scalar as it was written, or None."""
        if node is None:
            return None
        if not isinstance(node, ScalarNode):
            self._note(node, field, f"expected text, found a {_kind(node)}")
        elif node.tag == _NULL_TAG:
            self._note(node, field, 'no value is given (write "" for an empty text)')
        elif node.tag not in _KNOWN_TAGS:
            self._refuse_tag(node, field)
        elif "\0" in node.value or any("\ud800" <= character <= "\udfff" for character in node.value):
            self._note(node, field, "the text has a NUL or a surrogate, which no command can be given")
        else:
            return str(node.value)
        return None

    def _items(self, node: Node | None, field: str) -> list[Node]:
        if node is None:
            return []
        if not isinstance(node, SequenceNode):
            self._note(node, field, f"expected a list, found a {_kind(node)}")
            return []
        self._refuse_tag(node, field)
        return list(node.value)

    def _mapping(self, node: Node, field: str, prefix: str, allowed: tuple[str, ...]) -> dict[str, Node]:
        """The members by name, with those left out that are not `allowed`."""
        members = {}
        for name, value in self._pairs(node, field):
            if name in allowed:
                members[name] = value
                continue
            name = _quoted(name)
            close = difflib.get_close_matches(name, allowed, n=1)
            hint = f"did you mean {close[0]!r}?" if close else f"allowed are {', '.join(allowed)}"
            self._note(value, f"{prefix}{name}", f"unknown key {name!r}; {hint}")
        return members

    def _pairs(self, node: Node | None, field: str) -> Iterator[tuple[str, Node]]:
        """Each key, as text, with its value; keys that are no text or that came before are noted and left out."""
        if node is None:
            return
        if not isinstance(node, MappingNode):
            self._note(node, field, f"expected a mapping (key: value), found a {_kind(node)}")
            return
        self._refuse_tag(node, field)
        lines: dict[str, int] = {}
        for key, value in node.value:
            if not isinstance(key, ScalarNode) or key.tag not in _KNOWN_TAGS:
                self._note(key, field, "a key must be plain text")
            elif key.value in lines:
                self._note(key, field, f"the key {_quoted(key.value)!r} stands already on line {lines[key.value]}")
            else:
                lines[key.value] = _line(key)
                yield str(key.value), value

    def _refuse_tag(self, node: Node, field: str) -> None:
        if node.tag not in _KNOWN_TAGS:
            self._note(node, field, f"the tag {_quoted(node.tag)} is not supported")

    def _note(self, node: Node, field: str, message: str) -> None:
        self._problems.add(_line(node), field, message)


def _line(node: Node) -> int:
    return int(node.start_mark.line) + 1


def _kind(node: Node) -> str:
    if node.tag == _NULL_TAG:
        return "key without a value"
    if isinstance(node, MappingNode):
        return "mapping"
    return "list" if isinstance(node, SequenceNode) else f"text ({_quoted(str(node.value))!r})"


def _quoted(text: str) -> str:
    """Short and printable, for a message."""
    short = text if len(text) <= _MAX_QUOTED else f"{text[:_MAX_QUOTED]}…"
    return "".join(character if character.isprintable() else "�" for character in short)
