"""Conditions of other products, read into a tree, and trees of conditions as text in our language.

One grammar is enough for all three: names with dots, variables with $, texts in quotes, /patterns/, calls, and the
operators of each.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

from apps.pipelines.importing.remarks import Unmapped, quoted

_TOKEN = re.compile(
    r"""\s*(?:
    (?P<text>'(?:[^']|'')*'|"(?:[^"\\]|\\.)*")
  | (?P<regex>/(?:[^/\\\n]|\\.)+/[a-z]*)
  | (?P<variable>\$\{?[A-Za-z_][A-Za-z0-9_]*\}?)
  | (?P<number>-?\d+(?:\.\d+)?)
  | (?P<name>[A-Za-z_][A-Za-z0-9_-]*(?:\.(?:[A-Za-z0-9_-]+|\*)|\[(?:'[^']*'|"[^"]*"|\d+|\*)\])*\??)
  | (?P<operator>==|!=|=~|!~|&&|\|\||<=|>=|[!()<>,])
)""",
    re.VERBOSE,
)
_MAX_DEPTH = 30
_BINARY = ("==", "!=", "=~", "!~", "<", ">", "<=", ">=", "includes")


@dataclass(frozen=True)
class Literal:
    """A text, a number as text, true, false or null."""

    value: str | bool | None


@dataclass(frozen=True)
class Pattern:
    """What stands between slashes."""

    source: str
    flags: str = ""


@dataclass(frozen=True)
class Name:
    """A name with its dots, or a variable with its $ and without braces."""

    text: str


@dataclass(frozen=True)
class Call:
    """A function with its arguments."""

    name: str
    arguments: tuple[Tree, ...]


@dataclass(frozen=True)
class Operation:
    """An operator with its one or two operands."""

    operator: str
    operands: tuple[Tree, ...]


Tree = Literal | Pattern | Name | Call | Operation


def expression_read(text: str) -> Tree:
    """The tree of a foreign condition. Raises Unmapped."""
    return _Reader(text).whole()


class _Reader:
    def __init__(self, text: str) -> None:
        self._source = text
        self._tokens = self._split(text)
        self._at = 0
        self._depth = 0

    def whole(self) -> Tree:
        tree = self._either()
        if self._at < len(self._tokens):
            raise self._error()
        return tree

    def _split(self, text: str) -> list[tuple[str, str]]:
        tokens, at = [], 0
        text = text.rstrip()
        while at < len(text):
            match = _TOKEN.match(text, at)
            if match is None or match.end() == at or match.lastgroup is None:
                raise self._error()
            tokens.append((match.lastgroup, match[match.lastgroup]))
            at = match.end()
        return tokens

    def _error(self) -> Unmapped:
        return Unmapped(f"the condition {quoted(self._source)!r} is not understood")

    def _next_is(self, *operators: str) -> str | None:
        kind, text = self._tokens[self._at] if self._at < len(self._tokens) else ("", "")
        if kind not in ("operator", "name") or text not in operators:
            return None
        self._at += 1
        return text

    def _either(self) -> Tree:
        self._depth += 1
        if self._depth > _MAX_DEPTH:
            raise self._error()
        parts = [self._both()]
        while self._next_is("||"):
            parts.append(self._both())
        self._depth -= 1
        return parts[0] if len(parts) == 1 else Operation("||", tuple(parts))

    def _both(self) -> Tree:
        parts = [self._comparison()]
        while self._next_is("&&"):
            parts.append(self._comparison())
        return parts[0] if len(parts) == 1 else Operation("&&", tuple(parts))

    def _comparison(self) -> Tree:
        left = self._unary()
        operator = self._next_is(*_BINARY)
        return left if operator is None else Operation(operator, (left, self._unary()))

    def _unary(self) -> Tree:
        negations = 0
        while self._next_is("!"):
            negations += 1
        tree = self._primary()
        return Operation("!", (tree,)) if negations % 2 else tree

    def _primary(self) -> Tree:
        if self._next_is("("):
            tree = self._either()
            if not self._next_is(")"):
                raise self._error()
            return tree
        if self._at >= len(self._tokens):
            raise self._error()
        kind, text = self._tokens[self._at]
        self._at += 1
        if kind == "operator":
            raise self._error()
        return self._call(text) if kind == "name" else _OPERANDS[kind](text)

    def _call(self, name: str) -> Tree:
        if not self._next_is("("):
            words: dict[str, bool | None] = {"true": True, "false": False, "null": None}
            return Literal(words[name]) if name in words else Name(name)
        arguments: list[Tree] = []
        while not self._next_is(")"):
            arguments.append(self._either())
            if not self._next_is(",") and not (self._at < len(self._tokens) and self._tokens[self._at][1] == ")"):
                raise self._error()
        return Call(name, tuple(arguments))


def _text(text: str) -> Literal:
    if text[0] == "'":
        return Literal(text[1:-1].replace("''", "'"))
    return Literal(re.sub(r"\\(.)", r"\1", text[1:-1]))


def _pattern(text: str) -> Pattern:
    source, _, flags = text[1:].rpartition("/")
    return Pattern(source, flags)


_OPERANDS: dict[str, Callable[[str], Tree]] = {
    "text": _text,
    "regex": _pattern,
    "variable": lambda text: Name(f"${text.strip('${}')}"),
    "number": Literal,
}


# Conditions of our language. They are True or False where that is certain, and text otherwise.


@dataclass(frozen=True)
class Condition:
    """A condition as text. `binds` says how strongly its outermost operator binds: 3 for none."""

    text: str
    binds: int = 3


Outcome = Condition | bool


def both(*parts: Outcome) -> Outcome:
    """All of them."""
    return _joined(parts, "&&", 2, neutral=True)


def either(*parts: Outcome) -> Outcome:
    """One of them at least."""
    return _joined(parts, "||", 1, neutral=False)


def negated(part: Outcome) -> Outcome:
    """The opposite."""
    if isinstance(part, bool):
        return not part
    for one, other in ((" == ", " != "), (" != ", " == ")):
        if part.binds == 3 and part.text.count(one) == 1 and other not in part.text and "(" not in part.text:
            return Condition(part.text.replace(one, other))
    if part.binds == 3 and part.text.startswith("!"):
        return Condition(part.text[1:])
    simple = part.binds == 3 and " " not in part.text.partition("(")[0]
    return Condition(f"!{part.text}" if simple else f"!({part.text})")


def condition_text(outcome: Outcome) -> str | None:
    """As a pipeline file has it; None: always."""
    if outcome is True:
        return None
    return "false" if outcome is False else outcome.text


def text_literal(text: str) -> str:
    """A text as our language has it. Raises Unmapped."""
    if not text.isprintable():
        raise Unmapped(f"the text {quoted(text)!r} cannot be in a condition")
    return "'" + text.replace("'", "''") + "'"


def equals(name: str, text: str) -> Condition:
    """Whether what `name` stands for is `text`."""
    return Condition(f"{name} == {text_literal(text)}")


# A pattern that is one text, and one that is a choice of texts.
_LITERAL = r"(?:[A-Za-z0-9_/ @:=,#~!<>-]|\\[^A-Za-z0-9])"
_PLAIN = re.compile(rf"(\^?)((?:\.[*+])?)({_LITERAL}*)((?:\.[*+])?)(\$?)")
_ALTERNATIVES = re.compile(rf"\^\(?:?((?:{_LITERAL})+(?:\|(?:{_LITERAL})+)*)\)\$")
# What a star of ours can stand for, as a wider pattern.
_STARS = re.compile(r"\((?:\?:)?[^()|]*\)[?*+]|\[[^\]\\]+\](?:[+*]\??)?|\\[dw](?:[+*]\??)?|\.[+*]\??")


def matches(name: str, pattern: Pattern, notes: list[str]) -> Outcome:
    """Whether a pattern is found in what `name` stands for. Raises Unmapped.

    Our patterns have only stars. Where one is wider than the foreign pattern, that goes to `notes`.
    """
    shown = f"the pattern /{quoted(pattern.source)}/{pattern.flags}"
    if set(pattern.flags) - {"s", "m"}:
        raise Unmapped(f"{shown} has flags")
    source = re.sub(r"^\\A", "^", re.sub(r"\\[zZ]$", "$", pattern.source))
    if alternatives := _ALTERNATIVES.fullmatch(source):
        return either(*(equals(name, _unescaped(part)) for part in alternatives[1].split("|")))
    plain = _PLAIN.fullmatch(source)
    if plain is None:
        return _widened(name, source, shown, notes)
    text = _unescaped(plain[3])
    start, end = bool(plain[1]) and not plain[2], bool(plain[5]) and not plain[4]
    if start and end:
        return equals(name, text)
    function = "starts_with" if start else "ends_with" if end else "contains"
    return Condition(f"{function}({name}, {text_literal(text)})") if text else True


def _widened(name: str, source: str, shown: str, notes: list[str]) -> Condition:
    parts = _STARS.split(source.removeprefix("^").removesuffix("$"))
    if not all(re.fullmatch(rf"{_LITERAL}*", part) for part in parts) or "/" in source:
        raise Unmapped(f"{shown} has no counterpart; patterns here have only * for any text")
    glob = re.sub(r"\*+", "*", "*".join(_unescaped(part) for part in parts))
    glob = f"{'' if source.startswith('^') else '*'}{glob}{'' if source.endswith('$') else '*'}"
    glob = re.sub(r"\*+", "*", glob)
    if not re.search("[A-Za-z0-9]", glob):
        raise Unmapped(f"{shown} has no counterpart; patterns here have only * for any text")
    notes.append(f"{shown} became {glob!r}, which fits more texts")
    return Condition(f"matches({name}, {text_literal(glob)})")


_BRACES = re.compile(r"\{([^{}]*)\}")
_MAX_CHOICES = 50


def _unescaped(source: str) -> str:
    return re.sub(r"\\(.)", r"\1", source)


def without_braces(path: str) -> list[str]:
    """A pattern such as src/*.{c,h} as one for each choice. Raises Unmapped where there are too many."""
    found, done = [path], []
    while found:
        match = _BRACES.search(found[0])
        if match is None:
            done.append(found.pop(0))
            continue
        first = found.pop(0)
        found = [f"{first[: match.start()]}{part}{first[match.end() :]}" for part in match[1].split(",")] + found
        if len(found) + len(done) > _MAX_CHOICES:
            raise Unmapped("paths with so many choices have no counterpart")
    return done


def _joined(parts: tuple[Outcome, ...], operator: str, binds: int, *, neutral: bool) -> Outcome:
    kept: list[Condition] = []
    for part in parts:
        if isinstance(part, bool):
            if part is not neutral:
                return part
        elif part not in kept:
            kept.append(part)
    if not kept:
        return neutral
    if len(kept) == 1:
        return kept[0]
    texts = (part.text if part.binds > binds or part.binds == binds else f"({part.text})" for part in kept)
    return Condition(f" {operator} ".join(texts), binds)
