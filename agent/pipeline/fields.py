"""The kinds of fields that a pipeline file is made of. `reader` has the table that uses them.

Each kind reads a node: it returns the value, or notes every mistake and returns None. Kinds say what a value must be,
so every message continues the name of the field: "steps[1].timeout: must be …". Each kind also says the same as a
JSON Schema, for editors.
"""

from __future__ import annotations

import difflib
import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import Any, Generic, Optional, TypeVar

from agent.pipeline.expressions import Expression, ExpressionInvalid, has_template, template_parse
from agent.pipeline.nodes import ListNode, MappingNode, Node, Problems, RefusedNode, ScalarNode, quoted

T = TypeVar("T")
Json = dict[str, Any]

_DURATION = re.compile(r"([0-9]{1,9})|(?=.)(?:([0-9]{1,9})d)?(?:([0-9]{1,9})h)?(?:([0-9]{1,9})m)?(?:([0-9]{1,9})s)?")
_MAPPING = "a mapping (key: value)"
_WORD = re.compile(r"[A-Za-z0-9][A-Za-z0-9._/-]{0,59}")
_WHOLE_NUMBER = re.compile(r"[0-9]{1,9}")
# In a script, these are what users of other products expect to be filled in. Other texts may have the same characters.
_MEANT_AS_TEMPLATE = re.compile(
    r"\$\{\{\s*(?:matrix|needs|parameters|env|secrets|github|inputs|vars|branch|tag|ref|commit|event|pipeline)\b"
)


@dataclass(frozen=True)
class Pattern:
    """What a name looks like: for the reader, and in words that follow "must be"."""

    expression: re.Pattern[str]
    words: str


class Kind(ABC, Generic[T]):
    """What a value must be."""

    @abstractmethod
    def read(self, node: Node, problems: Problems) -> Optional[T]:
        """The value, or None after noting what is wrong. Raises TooManyProblems."""

    @abstractmethod
    def schema(self) -> Json:
        """The same as a JSON Schema."""


class Scalar(Kind[T]):
    """A value that is written as one text."""

    def read(self, node: Node, problems: Problems) -> Optional[T]:
        if not isinstance(node, ScalarNode):
            type_refuse(node, self.form(), problems)
        elif node.is_null and self.value("") is not None:
            problems.add(node, 'must have a value; write "" for an empty text')
        elif node.is_null:
            type_refuse(node, self.form(), problems)
        else:
            value = self.value(node.text)
            if value is not None:
                return value
            advice = self.advice(node.text)
            problems.add(node, f"must be {self.words()}, not {quoted(node.text)!r}{advice and f'; {advice}'}")
        return None

    def form(self) -> str:
        """What a list or a mapping must be instead."""
        return self.words()

    def advice(self, _text: str) -> str:
        """What to write instead of `text`, which has no value; empty if there is nothing better to say."""
        return ""

    @abstractmethod
    def value(self, text: str) -> Optional[T]:
        """What `text` means, or None when it is none of `words`."""

    @abstractmethod
    def words(self) -> str:
        """What the text must be."""


@dataclass(frozen=True)
class Text(Scalar[str]):
    """Any text, as it is written; with `filled`, it has more than white space."""

    filled: bool = False

    def value(self, text: str) -> Optional[str]:
        return text if text.strip() or not self.filled else None

    def words(self) -> str:
        return "text with more than white space"

    def form(self) -> str:
        return "text"

    def schema(self) -> Json:
        # YAML's 3.10 and yes are texts to the reader, but numbers and truth values to an editor.
        return {"type": "string", "pattern": r"\S"} if self.filled else {"type": ["string", "number", "boolean"]}


@dataclass(frozen=True)
class Line(Scalar[str]):
    """One line of printable text."""

    max_length: int

    def value(self, text: str) -> Optional[str]:
        return text if text.strip() and text.isprintable() and len(text) <= self.max_length else None

    def words(self) -> str:
        return f"one line of 1 to {self.max_length} printable characters"

    def form(self) -> str:
        return "text"

    def schema(self) -> Json:
        return {"type": ["string", "number", "boolean"], "minLength": 1, "maxLength": self.max_length}


@dataclass(frozen=True)
class Name(Scalar[str]):
    """A word that follows a pattern."""

    pattern: Pattern

    def value(self, text: str) -> Optional[str]:
        return text if self.pattern.expression.fullmatch(text) else None

    def words(self) -> str:
        return self.pattern.words

    def form(self) -> str:
        return "text"

    def advice(self, text: str) -> str:
        names = text.split(", ")
        is_list = len(names) > 1 and all(self.pattern.expression.fullmatch(name) for name in names)
        return f"write a list, as in [{quoted(text)}]" if is_list else ""

    def schema(self) -> Json:
        return {"type": ["string", "number", "boolean"], "pattern": whole(self.pattern.expression)}


@dataclass(frozen=True)
class Choice(Scalar[str]):
    """One of a few words. `foreign` has words that other products use for them."""

    values: tuple[str, ...]
    foreign: Mapping[str, str] = field(default_factory=dict)

    def value(self, text: str) -> Optional[str]:
        return text if text in self.values else None

    def words(self) -> str:
        return f"{', '.join(self.values[:-1])} or {self.values[-1]}"

    def advice(self, text: str) -> str:
        meant = self.foreign.get(text.lower()) or similar(text.lower(), self.values)
        return f"did you mean {meant}?" if meant else ""

    def schema(self) -> Json:
        return {"enum": list(self.values)}


@dataclass(frozen=True)
class WholeNumber(Scalar[int]):
    """A number without sign, point or exponent."""

    least: int
    most: int

    def value(self, text: str) -> Optional[int]:
        number = int(text) if _WHOLE_NUMBER.fullmatch(text) else -1
        return number if self.least <= number <= self.most else None

    def words(self) -> str:
        return f"a whole number from {self.least} to {self.most:,}"

    def schema(self) -> Json:
        return {"type": "integer", "minimum": self.least, "maximum": self.most}


class YesOrNo(Scalar[bool]):
    """True or false, as YAML's core schema writes them."""

    def value(self, text: str) -> Optional[bool]:
        return {"true": True, "false": False}.get(text.lower())

    def words(self) -> str:
        return "true or false"

    def advice(self, text: str) -> str:
        meant = {"yes": "true", "on": "true", "1": "true", "no": "false", "off": "false", "0": "false"}
        return f"did you mean {meant[text.lower()]}?" if text.lower() in meant else ""

    def schema(self) -> Json:
        return {"type": "boolean"}


@dataclass(frozen=True)
class Duration(Scalar[int]):
    """Seconds, or days, hours, minutes and seconds with their letters; the value is in seconds."""

    most: int
    least: int = 1

    def value(self, text: str) -> Optional[int]:
        match = _DURATION.fullmatch(text)
        if match is None or (match[2] and not self._has_days):
            return None
        alone, days, hours, minutes, seconds = (int(part or 0) for part in match.groups())
        total = alone + days * 86400 + hours * 3600 + minutes * 60 + seconds
        return total if self.least <= total <= self.most else None

    @property
    def _has_days(self) -> bool:
        return self.most > 86400

    def words(self) -> str:
        if self._has_days:
            least = "1 second" if self.least == 1 else f"{self.least // 3600} hour"
            return f"a time from {least} to {self.most // 86400} days, as in 90m, 12h or 30d"
        return f"a time from 1 second to {self.most // 3600} hours, as in 90, 90s, 10m or 1h30m"

    def schema(self) -> Json:
        days = "(?:[0-9]{1,9}d)?" if self._has_days else ""
        pattern = f"^(?:[0-9]{{1,9}}|(?=.){days}(?:[0-9]{{1,9}}h)?(?:[0-9]{{1,9}}m)?(?:[0-9]{{1,9}}s)?)$"
        return {"type": ["string", "integer"], "pattern": pattern, "minimum": self.least, "maximum": self.most}


@dataclass(frozen=True)
class Templated(Scalar[str]):
    """A text that may have ``${{ … }}``, which the run fills in. What has none must be as `plain` says.

    `place` says what the expressions may name; `checks` has the places.
    """

    plain: Kind[str]
    place: str = "early"
    max_length: int = 4096

    def read(self, node: Node, problems: Problems) -> Optional[str]:
        if not isinstance(node, ScalarNode) or not has_template(node.text):
            return self.plain.read(node, problems)
        if len(node.text) > self.max_length:
            problems.add(node, f"must be at most {self.max_length:,} characters, not {len(node.text):,}")
            return None
        try:
            template_parse(node.text)
        except ExpressionInvalid as error:
            problems.add(node.at(error.offset), error.message)
            return None
        problems.note(node, self.place)
        return node.text

    def value(self, text: str) -> Optional[str]:
        return text

    def words(self) -> str:
        return "text"

    def schema(self) -> Json:
        return {"anyOf": [self.plain.schema(), {"type": "string", "pattern": r"\$\{\{"}]}


@dataclass(frozen=True)
class Condition(Scalar[str]):
    """An expression that is true or false."""

    def read(self, node: Node, problems: Problems) -> Optional[str]:
        text = super().read(node, problems)
        if text is None or not isinstance(node, ScalarNode):
            return None
        try:
            Expression.parse(text)
        except ExpressionInvalid as error:
            problems.add(node.at(error.offset), error.message)
            return None
        problems.note(node, "condition")
        return text

    def value(self, text: str) -> Optional[str]:
        return text if text.strip() else None

    def words(self) -> str:
        return "an expression, as in branch == 'main'"

    def schema(self) -> Json:
        return {"type": ["string", "boolean"]}


@dataclass(frozen=True)
class Untemplated(Scalar[str]):
    """A text in which nothing is filled in. One that seems to expect it is refused, with `instead`."""

    plain: Kind[str]
    instead: str
    strict: bool = False

    def read(self, node: Node, problems: Problems) -> Optional[str]:
        if isinstance(node, ScalarNode):
            found = _MEANT_AS_TEMPLATE.search(node.text)
            if found or (self.strict and has_template(node.text)):
                at = found.start() if found else node.text.index("${{")
                problems.add(node.at(at), f"must not have ${{{{ … }}}}, which is not filled in here; {self.instead}")
                return None
        return self.plain.read(node, problems)

    def value(self, text: str) -> Optional[str]:
        return text

    def words(self) -> str:
        return "text"

    def schema(self) -> Json:
        return self.plain.schema()


@dataclass(frozen=True)
class ListOf(Kind[list[T]]):
    """A list whose entries are all of one kind. With `or_one`, one entry needs no list."""

    kind: Kind[T]
    most: int
    least: int = 0
    or_one: bool = False

    def read(self, node: Node, problems: Problems) -> Optional[list[T]]:
        is_empty = isinstance(node, ScalarNode) and node.is_null
        if self.or_one and isinstance(node, (ScalarNode, MappingNode)) and not is_empty:
            value = self.kind.read(node, problems)
            return None if value is None else [value]
        if not isinstance(node, ListNode):
            word = node.text if isinstance(node, ScalarNode) and _WORD.fullmatch(node.text) else ""
            type_refuse(node, "a list", problems, f"as in [{word}]" if word else "")
            return None
        count = len(node.entries)
        if count < self.least:
            problems.add(node, f"must have at least {self.least} {'entry' if self.least == 1 else 'entries'}")
        if count > self.most:
            surplus = node.entries[self.most]
            problems.add(
                Node(node.path, surplus.line, surplus.column), f"must have at most {self.most:,} entries, not {count:,}"
            )
        values = [self.kind.read(entry, problems) for entry in node.entries]
        return [value for value in values if value is not None]

    def schema(self) -> Json:
        schema: Json = {"type": "array", "items": self.kind.schema(), "maxItems": self.most}
        if self.least:
            schema["minItems"] = self.least
        return {"anyOf": [schema, self.kind.schema()]} if self.or_one else schema


@dataclass(frozen=True)
class MappingOf(Kind[dict[str, T]]):
    """A mapping whose keys the writer chooses; its values are all of one kind.

    `deeper` has keys of the values. One that is given here probably lacks its indentation.
    """

    names: Pattern
    kind: Kind[T]
    most: Optional[int] = None
    least: int = 0
    deeper: Collection[str] = ()

    def read(self, node: Node, problems: Problems) -> Optional[dict[str, T]]:
        if not isinstance(node, MappingNode):
            type_refuse(node, _MAPPING, problems)
            return None
        self._count(node, problems)
        values = {}
        for name, member in node.members.items():
            if not self.names.expression.fullmatch(name):
                problems.add(member, f"must have a name that is {self.names.words}")
            if name in self.deeper:
                problems.advise(member, "indent it more, if it belongs to the key above")
            value = self.kind.read(member, problems)
            if value is not None:
                values[name] = value
        return values

    def _count(self, node: MappingNode, problems: Problems) -> None:
        count = len(node.members)
        if self.most is not None and count > self.most:
            surplus = [*node.members.values()][self.most]
            problems.add(
                Node(node.path, surplus.line, surplus.column), f"must have at most {self.most:,} keys, not {count:,}"
            )
        if count < self.least:
            problems.add(node, f"must have at least {self.least} {'key' if self.least == 1 else 'keys'}")

    def schema(self) -> Json:
        schema: Json = {
            "type": "object",
            "propertyNames": {"pattern": whole(self.names.expression)},
            "additionalProperties": self.kind.schema(),
        }
        if self.most is not None:
            schema["maxProperties"] = self.most
        if self.least:
            schema["minProperties"] = self.least
        return schema


@dataclass(frozen=True)
class Key:
    """One key of a mapping: its kind, and for the guide and for editors what it is and an example of it in YAML.

    The others are for messages. `short` is an example in one line, where `example` has several. `advice` says what to
    write instead of a value of a wrong type, where it is not enough to show the example. `foreign` has the names that
    other products have for the key.
    """

    kind: Kind[Any]
    title: str = ""
    description: str = ""
    example: str = ""
    short: str = ""
    advice: str = ""
    foreign: tuple[str, ...] = ()

    @property
    def line(self) -> str:
        """An example in one line."""
        return self.short or self.example

    def read(self, node: Node, problems: Problems) -> Any:
        """The value, or None after noting what is wrong. Raises TooManyProblems."""
        problems.advise(node, self.advice or f"as in {self.line}")
        return self.kind.read(node, problems)

    def schema(self) -> Json:
        return {"title": self.title, "description": self.description, **self.kind.schema()}


@dataclass(frozen=True)
class Members(Kind[T]):
    """A mapping with known keys. `make` builds the value from the members that are given, as keyword arguments.

    Keys that are no Python names, such as `if`, have another name there, by `renamed`. A value with a mistake is not
    made; one that is `partial` is, without the wrong members.

    The others are for messages. `hints` says where keys belong that are known elsewhere, and `stray` where any other
    unknown key may belong. `alone` is the key that a text is probably meant for if it stands alone.
    """

    make: Callable[..., T]
    keys: Mapping[str, Key]
    required: tuple[str, ...] = ()
    renamed: Mapping[str, str] = field(default_factory=dict)
    hints: Mapping[str, str] = field(default_factory=dict)
    partial: bool = False
    stray: str = ""
    alone: str = ""

    def read(self, node: Node, problems: Problems) -> Optional[T]:
        if not isinstance(node, MappingNode):
            type_refuse(node, _MAPPING, problems, self._form_advice(node))
            return None
        before = len(problems)
        values: dict[str, Any] = {}
        # A key with another name is not missing, too, and `stray` says enough about what is.
        missing = {*self.required} - {*node.members}
        for name, member in node.members.items():
            if name in self.keys:
                values[self.renamed.get(name, name)] = self.keys[name].read(member, problems)
            else:
                hint = self._hint(name)
                missing -= {*self.required} if self.stray and hint.endswith(self.stray) else {self._meant(name)}
                problems.add(member, f"unknown key {quoted(name)!r}; {hint}")
        for name in self.required:
            if name in missing:
                path = f"{node.path}.{name}" if node.path else name
                problems.add(Node(path, node.line, node.column), f"must be given, as in {self.keys[name].line}")
        if self.partial:
            values = {name: value for name, value in values.items() if value is not None}
        elif len(problems) > before or None in values.values():
            return None
        return self.make(**values)

    def _hint(self, name: str) -> str:
        if name in self.hints:
            return self.hints[name]
        meant = self._meant(name)
        if not meant:
            return f"allowed are {', '.join(self.keys)}{self.stray and f'; {self.stray}'}"
        if name in self.keys[meant].foreign:
            return f"write `{meant}` instead, as in {self.keys[meant].line}"
        return f"did you mean {meant!r}?"

    def _meant(self, name: str) -> str:
        """The key that another product calls `name`, or whose name is similar; empty if there is none."""
        foreign = next((own for own, key in self.keys.items() if name in key.foreign), "")
        return foreign or ("" if name in self.hints else similar(name, self.keys))

    def _form_advice(self, node: Node) -> str:
        """What to write instead of a value that is no mapping."""
        if isinstance(node, ScalarNode) and not node.is_null:
            key, colon, rest = node.text.partition(":")
            if colon and rest and key in self.keys:
                return f"write a space after the colon of `{key}:`"
            if self.alone:
                return f"write `{self.alone}:` before it, as in {self.keys[self.alone].line}"
        shown = self.required or ((self.alone,) if self.alone else ())
        lines = ", ".join(self.keys[name].line for name in shown)
        return f"as in {f'{{{lines}}}' if len(shown) > 1 else lines}" if lines else ""

    def schema(self) -> Json:
        schema: Json = {
            "type": "object",
            "properties": {name: key.schema() for name, key in self.keys.items()},
            "additionalProperties": False,
        }
        if self.required:
            schema["required"] = list(self.required)
        return schema


@dataclass(frozen=True)
class Either(Kind[T]):
    """A short form that is one text, or a mapping. `short` makes the same of the text."""

    text: Kind[Any]
    short: Callable[[Any], T]
    mapping: Kind[T]
    words: str

    def read(self, node: Node, problems: Problems) -> Optional[T]:
        if isinstance(node, ScalarNode):
            value = self.text.read(node, problems)
            return None if value is None else self.short(value)
        if isinstance(node, MappingNode):
            return self.mapping.read(node, problems)
        type_refuse(node, self.words, problems)
        return None

    def schema(self) -> Json:
        return {"anyOf": [self.text.schema(), self.mapping.schema()]}


@dataclass(frozen=True)
class Optionally(Kind[T]):
    """A value that may be left empty after its key, which then is `empty`."""

    kind: Kind[T]
    empty: T

    def read(self, node: Node, problems: Problems) -> Optional[T]:
        if isinstance(node, ScalarNode) and node.is_null:
            return self.empty
        return self.kind.read(node, problems)

    def schema(self) -> Json:
        return {"anyOf": [self.kind.schema(), {"type": "null"}]}


def whole(expression: re.Pattern[str]) -> str:
    """The pattern as JSON Schema has it: for the whole text, in the syntax of ECMAScript."""
    return f"^(?:{expression.pattern})$".replace(r"\Z", "$")


def similar(name: str, known: Collection[str]) -> str:
    """The one of the names that is most similar to `name`; empty if none is."""
    return next(iter(difflib.get_close_matches(quoted(name), known, n=1)), "")


def type_refuse(node: Node, wanted: str, problems: Problems, advice: str = "") -> None:
    """Note that the value is no `wanted`, with the advice of its key, or else this one."""
    if isinstance(node, RefusedNode):
        return
    found = "a mapping"
    if isinstance(node, ListNode):
        found = "a list"
    elif isinstance(node, ScalarNode):
        found = "empty" if node.is_null else f"the text {quoted(node.text)!r}"
    advice = problems.advice.get(node.path, advice)
    problems.add(node, f"must be {wanted}, not {found}{advice and f'; {advice}'}")
