"""The language of `if` and of ``${{ … }}``. docs/guide/pipelines.md has it as a table, which is made from this module.

An expression has values of three types: text, number and flag (true or false). Nothing is converted, so ``matrix.n ==
3`` is an error that says so, and not simply false. Names and types are checked when a file is read, where `Scope` says
what there is; values come from a `Context`. Both checks name the place in the text. Nothing is ever given to Python's
own `eval`, a text has a limit and so has its depth, and patterns take no more time than their length allows.
"""

from __future__ import annotations

import difflib
import operator
import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Optional, Union

from agent.pipeline.constants import GUIDE_PATH
from agent.pipeline.definition import Value
from agent.pipeline.globs import glob_match

MAX_LENGTH = 1000
MAX_DEPTH = 20
# Of one text with its expressions filled in.
MAX_RESULT = 64 * 1024

# What an expression can name beside its scope: the name, and what it is.
FACTS = {
    "ref": "the ref that the run was started for, as in main, refs/tags/v1 or a commit",
    "branch": "the branch, empty for a tag or a commit",
    "tag": "the tag, empty for a branch or a commit",
    "event": "what started the run: api, page, push, pull_request, tag or schedule",
    "commit": "the hash of the commit",
    "pipeline": "the name of the pipeline",
    "default_branch": "the default ref of the pipeline",
}
NAMED = {
    "parameters.NAME": "a parameter of the run; its type is the parameter's",
    "matrix.AXIS": "the value of this cell of the matrix, which is text; empty where only other cells have it",
    "env.NAME": "a variable of the job or of the pipeline; only in `if` and in `concurrency`",
    "needs.JOB.result": "how a job in `needs` ended: success, failure, cancelled or skipped; only in `if`, `env` and "
    "`concurrency`",
    "needs.JOB.outputs.NAME": "one of the outputs of a job in `needs`; empty if it wrote none; only there, too",
}

# Each with its arguments, and what it says. Those of the first four count only in `if`.
FUNCTIONS = {
    "success": ((), "all jobs in `needs` ended as it asks; an `if` without one of these four requires it, too"),
    "failure": ((), "a job in `needs`, or one before it, failed"),
    "cancelled": ((), "the run, or a job in `needs`, was cancelled"),
    "always": ((), "true, whatever happened before"),
    "changed": (("pattern", "…"), "a changed path matches one of the patterns; true if the changes are not known"),
    "contains": (("text", "part"), "the text has the part in it"),
    "starts_with": (("text", "part"), "the text begins with the part"),
    "ends_with": (("text", "part"), "the text ends with the part"),
    "matches": (("text", "pattern"), "the whole text matches the pattern"),
    "hashFiles": (("pattern", "…"), "a digest of the contents of the files; only in `caches`, and made by the agent"),
}
STATUS_FUNCTIONS = frozenset(("success", "failure", "cancelled", "always"))
# Their second argument is a pattern or a part of the first one; these two take any number of patterns.
_PATTERNS = frozenset(("changed", "hashFiles"))

OPERATORS = {
    "! a": "the opposite",
    "a == b, a != b": "equal, not equal; both of one type",
    "a < b, a <= b, a > b, a >= b": "less or greater; only of numbers",
    "a && b": "both are true",
    "a || b": "one of them is true; && comes before it",
    "( a )": "what is in parentheses comes first",
    "'text', \"text\", 1, 1.5, true, false": "values; a quote within a text is written twice",
}

_TOKEN = re.compile(
    r"""\s*(?:
        (?P<text>'(?:[^']|'')*'|"(?:[^"]|"")*")
      | (?P<number>-?[0-9]{1,15}(?:\.[0-9]{1,9})?)(?![A-Za-z0-9_.])
      | (?P<name>[A-Za-z_][A-Za-z0-9_-]*(?:\.[A-Za-z_][A-Za-z0-9_-]*)*)
      | (?P<operator>&&|\|\||==|!=|<=|>=|<|>|!|\(|\)|,)
    )""",
    re.VERBOSE,
)
_WRONG = {
    "and": "&&",
    "or": "||",
    "not": "!",
    "=": "==",
    "&": "&&",
    "|": "||",
    "True": "true",
    "False": "false",
    "yes": "true",
    "no": "false",
    "null": "''",
    "None": "''",
}
# Names of other products, and what is similar here. The guide has what to write instead of others.
_FOREIGN = {
    "github.ref": "ref",
    "github.ref_name": "branch",
    "github.event_name": "event",
    "github.sha": "commit",
    "CI_COMMIT_BRANCH": "branch",
    "CI_COMMIT_REF_NAME": "branch",
    "CI_COMMIT_TAG": "tag",
    "CI_COMMIT_SHA": "commit",
    "CI_PIPELINE_SOURCE": "event",
    "CI_DEFAULT_BRANCH": "default_branch",
    "build.branch": "branch",
    "build.tag": "tag",
    "build.commit": "commit",
    "BUILDKITE_BRANCH": "branch",
    "BUILDKITE_TAG": "tag",
    "BUILDKITE_COMMIT": "commit",
    "sha": "commit",
}
_OF_OTHER_PRODUCTS = re.compile(
    r"(?:github|gitlab|inputs|vars|steps|runner|job|strategy|build|pipeline)\..*|(?:CI|GITHUB|BUILDKITE|CIRCLE)_.*"
)
_FOREIGN_FUNCTIONS = {
    "startsWith": "starts_with",
    "endsWith": "ends_with",
    "match": "matches",
    "glob": "matches",
    "checksum": "hashFiles",
}

_COMPARE: dict[str, Callable[[Any, Any], Any]] = {
    "==": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}

# What to write instead of what begins with these characters.
_NO_TOKENS = {
    "~": "; write matches(branch, 'release/*') to compare with a pattern",
    "`": "; write a text in quotes, as in 'main'",
    "/": "; write a path or a pattern in quotes, as in 'src/**'",
    "*": "; write a path or a pattern in quotes, as in 'src/**'",
    ".": "; write a path or a pattern in quotes, as in 'src/**'",
    "[": "; write several values without brackets, as in changed('src/**', 'docs/**')",
    "{": "; write the expression without {{ and }}",
    "${{": "; write }} at the end of the expression, or leave out ${{",
}
_OPERATORS = f"; operators are {', '.join((*_COMPARE, '&&', '||', '!'))}"

_VARIABLE = re.compile(r"\$\{?([A-Za-z_][A-Za-z0-9_]*)")

_OPEN = "${{"
_CLOSE = "}}"


class ExpressionInvalid(Exception):
    """`message` continues the name of the field; `offset` is the place in the text, from 0."""

    def __init__(self, message: str, offset: int = 0) -> None:
        self.message = message
        self.offset = offset
        super().__init__(message)


@dataclass(frozen=True)
class Scope:
    """What an expression may name at its place.

    `parameters` has the type of each, `needs` the outputs of each job. None: there is nothing of this kind here.
    `jobs` are all jobs, for messages. Without `has_run`, nothing about the run is known.
    """

    parameters: Mapping[str, str] = field(default_factory=dict)
    axes: Optional[Collection[str]] = None
    needs: Optional[Mapping[str, Collection[str]]] = None
    env: Optional[Collection[str]] = None
    jobs: Collection[str] = ()
    is_condition: bool = False
    has_files: bool = False
    has_run: bool = True


@dataclass(frozen=True)
class Context:
    """What the names of an expression mean for one job of a run.

    `changed_paths` is None when nothing is known about them. `needs` has ``{"result": …, "outputs": {…}}`` of each job;
    `needs_met` says whether all ended as `needs` asks, and `failed_before` whether one of them, or one before it,
    failed. `needs`, `env` and `hash_files` are None as long as they are not known.
    """

    ref: str = ""
    branch: str = ""
    tag: str = ""
    event: str = ""
    commit: str = ""
    pipeline: str = ""
    default_branch: str = ""
    parameters: Mapping[str, Value] = field(default_factory=dict)
    changed_paths: Optional[Sequence[str]] = None
    matrix: Mapping[str, str] = field(default_factory=dict)
    needs: Optional[Mapping[str, Mapping[str, Any]]] = None
    needs_met: bool = True
    failed_before: bool = False
    cancelled: bool = False
    env: Optional[Mapping[str, str]] = None
    hash_files: Optional[Callable[[Sequence[str]], str]] = None


class NotYetKnown(Exception):
    """An expression names what the context does not know yet."""


@dataclass(frozen=True)
class _Literal:
    value: Value
    at: int


@dataclass(frozen=True)
class _Name:
    parts: tuple[str, ...]
    at: int


@dataclass(frozen=True)
class _Call:
    name: str
    arguments: tuple[_Tree, ...]
    at: int


@dataclass(frozen=True)
class _Operation:
    """`operator` is !, && or ||, or one of the comparisons."""

    operator: str
    operands: tuple[_Tree, ...]
    at: int


_Tree = Union[_Literal, _Name, _Call, _Operation]


@dataclass(frozen=True)
class Expression:
    """An expression that can be read. `text` is as it was given."""

    text: str
    tree: _Tree

    @classmethod
    def parse(cls, text: str) -> Expression:
        """Raises ExpressionInvalid. The whole text may be within ``${{`` and ``}}``."""
        return _parsed(text)

    @property
    def uses_status(self) -> bool:
        """Whether it asks how the jobs before ended, so that it decides alone about a job whose needs are not met."""
        return any(isinstance(tree, _Call) and tree.name in STATUS_FUNCTIONS for tree in _walk(self.tree))

    def check(self, scope: Scope) -> str:
        """The type of the value: text, number or flag. Raises ExpressionInvalid for a name or a type that is wrong."""
        return _type(self.tree, scope)

    def evaluate(self, context: Context) -> Value:
        """The value. Raises ExpressionInvalid, or NotYetKnown for what the context lacks."""
        return _value(self.tree, context)


def condition_check(text: str, scope: Scope) -> None:
    """Raises ExpressionInvalid if `text` is no valid `if`."""
    if Expression.parse(text).check(scope) != "flag":
        raise ExpressionInvalid("must be true or false, as in branch == 'main'")


def condition_met(text: Optional[str], context: Context) -> bool:
    """Whether a job whose needs have ended runs: `text` is its `if`.

    Without one, and with one that does not ask how the jobs before ended, the needs must also be met and the run must
    not be cancelled.
    """
    met = context.needs_met and not context.cancelled
    if text is None:
        return met
    condition = Expression.parse(text)
    return (met or condition.uses_status) and condition.evaluate(context) is True


def template_parse(text: str) -> None:
    """Raises ExpressionInvalid, with the offset in `text`, if what is within ``${{`` and ``}}`` cannot be read."""
    _each(text, lambda _expression: None)


def template_check(text: str, scope: Scope) -> None:
    """Raises ExpressionInvalid, with the offset in `text`, if a name or a type within ``${{`` and ``}}`` is wrong."""
    _each(text, lambda expression: expression.check(scope))


def _each(text: str, act: Callable[[Expression], object]) -> None:
    for part in _parts(text):
        if isinstance(part, _Piece):
            try:
                act(Expression.parse(part.text))
            except ExpressionInvalid as error:
                raise ExpressionInvalid(error.message, part.at + error.offset) from error


def has_template(text: str) -> bool:
    """Whether the text has something to fill in."""
    return _OPEN in text


def template(text: str, context: Context) -> str:
    """`text` with the values of its expressions. Raises ExpressionInvalid, or NotYetKnown if the context lacks one."""
    if not has_template(text):
        return text
    filled = [
        part if isinstance(part, str) else _written(Expression.parse(part.text).evaluate(context))
        for part in _parts(text)
    ]
    return _limited("".join(filled))


def template_begin(text: str, context: Context) -> str:
    """`text` with the values that the context knows; `template` fills in the others later.

    A value that looks like an expression does not become one: later, it is still the value.
    """
    if not has_template(text):
        return text
    filled = ""
    for part in _parts(text):
        if isinstance(part, str):
            filled += part
            continue
        try:
            value = _written(Expression.parse(part.text).evaluate(context))
        except NotYetKnown:
            filled += f"{_OPEN}{part.text}{_CLOSE}"
        else:
            filled += _shielded(value, after=filled)
    return _limited(filled)


def template_literal(text: str) -> str:
    """The text for which `template` gives `text` itself."""
    return text.replace(_OPEN, f"{_OPEN} '$' {_CLOSE}{{{{")


# --- reading --------------------------------------------------------------------------------------------------------


@lru_cache(maxsize=1024)
def _parsed(text: str) -> Expression:
    inner, start = text, 0
    stripped = text.strip()
    if stripped.startswith(_OPEN) and stripped.endswith(_CLOSE) and stripped.count(_OPEN) == 1:
        start = text.index(_OPEN) + len(_OPEN)
        inner = text[start : text.rindex(_CLOSE)]
    if len(inner) > MAX_LENGTH:
        raise ExpressionInvalid(f"must be an expression of at most {MAX_LENGTH:,} characters, not {len(inner):,}")
    return Expression(text, _Parser(inner, start).whole())


@dataclass(frozen=True)
class _Token:
    kind: str
    text: str
    at: int


class _Parser:
    """Reads one expression. `start` is where it begins in the text that the offsets of errors are about."""

    def __init__(self, text: str, start: int) -> None:
        self._tokens = [*_tokens(text, start), _Token("end", "", start + len(text))]
        self._position = 0
        self._depth = 0

    def whole(self) -> _Tree:
        tree = self._or()
        if self._next.kind != "end":
            raise self._unexpected(is_after_value=True)
        return tree

    @property
    def _next(self) -> _Token:
        return self._tokens[self._position]

    def _take(self, *operators: str) -> Optional[_Token]:
        token = self._next
        if token.kind != "operator" or token.text not in operators:
            return None
        self._position += 1
        return token

    def _or(self) -> _Tree:
        return self._chain("||", self._and)

    def _and(self) -> _Tree:
        return self._chain("&&", self._not)

    def _chain(self, operator: str, operand: Callable[[], _Tree]) -> _Tree:
        first = operand()
        operands = [first]
        while self._take(operator):
            operands.append(operand())
        return first if len(operands) == 1 else _Operation(operator, tuple(operands), first.at)

    def _not(self) -> _Tree:
        token = self._take("!")
        if token is None:
            return self._comparison()
        with _Deeper(self, token):
            return _Operation("!", (self._not(),), token.at)

    def _comparison(self) -> _Tree:
        left = self._value()
        token = self._take(*_COMPARE)
        if token is None:
            return left
        return _Operation(token.text, (left, self._value()), token.at)

    def _value(self) -> _Tree:
        token = self._next
        opened = self._take("(")
        if opened:
            with _Deeper(self, opened):
                inner = self._or()
            self._closed()
            return inner
        if token.kind not in ("text", "number", "name"):
            raise self._unexpected()
        self._position += 1
        if token.kind == "text":
            quote = token.text[0]
            return _Literal(token.text[1:-1].replace(quote * 2, quote), token.at)
        if token.kind == "number":
            return _Literal(float(token.text) if "." in token.text else int(token.text), token.at)
        if token.text in ("true", "false"):
            return _Literal(token.text == "true", token.at)
        opened = self._take("(")
        return self._call(token, opened) if opened else _Name(tuple(token.text.split(".")), token.at)

    def _call(self, name: _Token, opened: _Token) -> _Tree:
        arguments: list[_Tree] = []
        if not self._take(")"):
            with _Deeper(self, opened):
                arguments.append(self._or())
                while self._take(","):
                    arguments.append(self._or())
            self._closed()
        return _Call(name.text, tuple(arguments), name.at)

    def _closed(self) -> None:
        if not self._take(")"):
            raise ExpressionInvalid("must have a closing parenthesis here", self._next.at)

    def _unexpected(self, *, is_after_value: bool = False) -> ExpressionInvalid:
        token = self._next
        if token.kind == "end":
            return ExpressionInvalid("must not end here; a value is missing", token.at)
        hint = self._hint_after_value(token) if is_after_value else "; a value is missing before it"
        return ExpressionInvalid(f"must not have {token.text[:40]!r} here{hint}", token.at)

    def _hint_after_value(self, token: _Token) -> str:
        better = _WRONG.get(token.text)
        if self._tokens[self._position - 1].text == "not":
            return "; did you mean ! instead of not?"
        if better:
            return f"; did you mean {better}?"
        if token.text == "in":
            return "; compare each value, as in branch == 'a' || branch == 'b'"
        if token.text == ")":
            return "; there is no parenthesis that it closes"
        return "" if token.kind == "operator" else "; an operator such as == or && is missing before it"

    def deeper(self, token: _Token) -> None:
        self._depth += 1
        if self._depth > MAX_DEPTH:
            raise ExpressionInvalid(f"must be nested at most {MAX_DEPTH} levels deep", token.at)

    def higher(self) -> None:
        self._depth -= 1


class _Deeper:
    """One level of an expression more."""

    def __init__(self, parser: _Parser, token: _Token) -> None:
        self._parser = parser
        self._token = token

    def __enter__(self) -> None:
        self._parser.deeper(self._token)

    def __exit__(self, *_: object) -> None:
        self._parser.higher()


def _tokens(text: str, start: int) -> Iterator[_Token]:
    position = 0
    while text[position:].strip():
        match = _TOKEN.match(text, position)
        if match is None:
            at = position + len(text[position:]) - len(text[position:].lstrip())
            raise _no_token(text[at:], start + at)
        kind = str(match.lastgroup)
        yield _Token(kind, match[kind], start + match.start(kind))
        position = match.end()


def _no_token(rest: str, at: int) -> ExpressionInvalid:
    if rest[0] in "'\"":
        return ExpressionInvalid(f"must have a closing {rest[0]}", at)
    better = _WRONG.get(rest[0])
    hint = f"; did you mean {better}?" if better else ""
    variable = _VARIABLE.match(rest)
    if variable:
        better = _FOREIGN.get(variable[1])
        hint = f"; did you mean {better}?" if better else f"; write a variable without $, as in env.{variable[1][:40]}"
    elif rest.startswith("=~"):
        hint = _NO_TOKENS["~"]
    elif not hint:
        hint = next((advice for part, advice in _NO_TOKENS.items() if rest.startswith(part)), _OPERATORS)
    shown = rest[0] if rest[0].isprintable() else "\N{REPLACEMENT CHARACTER}"
    return ExpressionInvalid(f"must not have {shown!r} here{hint}", at)


@dataclass(frozen=True)
class _Piece:
    """What is within ``${{`` and ``}}``; `at` is where it begins in the text."""

    text: str
    at: int


def _parts(text: str) -> tuple[Union[str, _Piece], ...]:
    """The plain texts and the expressions of a text. Raises ExpressionInvalid for one without an end."""
    # The cells of a matrix have the same texts. Long ones are not kept.
    return _short_parts(text) if len(text) <= MAX_LENGTH else _split(text)


def _split(text: str) -> tuple[Union[str, _Piece], ...]:
    parts: list[Union[str, _Piece]] = []
    position = 0
    while (begin := text.find(_OPEN, position)) >= 0:
        inner = begin + len(_OPEN)
        end = _piece_end(text, inner)
        if end < 0:
            raise ExpressionInvalid(f"must have {_CLOSE} after {_OPEN}; write {_OPEN} '{_OPEN}' {_CLOSE} for it", begin)
        parts += [text[position:begin], _Piece(text[inner:end], inner)]
        position = end + len(_CLOSE)
    return (*parts, text[position:])


_short_parts = lru_cache(maxsize=1024)(_split)


def _piece_end(text: str, position: int) -> int:
    """Where the expression ends that begins at `position`: at the first ``}}`` outside of quotes. -1: nowhere."""
    quote = ""
    while position < len(text):
        character = text[position]
        if quote:
            quote = "" if character == quote else quote
        elif character in "'\"":
            quote = character
        elif text.startswith(_CLOSE, position):
            return position
        position += 1
    return -1


def _walk(tree: _Tree) -> Iterator[_Tree]:
    yield tree
    inner: tuple[_Tree, ...] = ()
    if isinstance(tree, _Call):
        inner = tree.arguments
    elif isinstance(tree, _Operation):
        inner = tree.operands
    for part in inner:
        yield from _walk(part)


# --- checking -------------------------------------------------------------------------------------------------------


def _type(tree: _Tree, scope: Scope) -> str:
    if isinstance(tree, _Literal):
        return _type_of(tree.value)
    if isinstance(tree, _Name):
        return _name_type(tree, scope)
    if isinstance(tree, _Call):
        return _call_type(tree, scope)
    types = [_type(operand, scope) for operand in tree.operands]
    _operands_check(tree, types)
    return "flag"


def _type_of(value: Value) -> str:
    if isinstance(value, bool):
        return "flag"
    return "text" if isinstance(value, str) else "number"


def _operands_check(tree: _Operation, types: Sequence[str]) -> None:
    if tree.operator in ("!", "&&", "||"):
        for operand, found in zip(tree.operands, types):
            if found != "flag":
                raise ExpressionInvalid(
                    f"must have true or false beside {tree.operator}, not a {found}; compare it, as in a == b",
                    operand.at,
                )
    elif types[0] != types[1]:
        message = f"must compare values of one type, not a {types[0]} with a {types[1]}{_literal_hint(tree, types)}"
        raise ExpressionInvalid(message, tree.at)
    elif tree.operator not in ("==", "!=") and types[0] != "number":
        raise ExpressionInvalid(f"must compare numbers with {tree.operator}, not a {types[0]}", tree.at)


def _literal_hint(tree: _Operation, types: Sequence[str]) -> str:
    """What to write instead of a literal that is of another type than what it is compared with."""
    for operand, own, other in zip(tree.operands, types, reversed(types)):
        if isinstance(operand, _Literal):
            quotes = "in quotes" if other == "text" else "without quotes"
            return f"; write the {other} {quotes}" if "text" in (own, other) else ""
    return ""


def _name_type(tree: _Name, scope: Scope) -> str:
    root, *rest = tree.parts
    if not rest and root in FACTS:
        if not scope.has_run:
            raise ExpressionInvalid(f"must not name {root} here, where it is not known", tree.at)
        return "text"
    kinds: dict[str, Any] = {"parameters": scope.parameters, "matrix": scope.axes, "env": scope.env}
    if root in kinds and len(rest) == 1:
        known = kinds[root]
        _known_require(tree, root, rest[0], known)
        return {"number": "number", "flag": "flag"}.get(known[rest[0]], "text") if root == "parameters" else "text"
    if root == "needs":
        return _need_type(tree, scope)
    name = ".".join(tree.parts)
    raise ExpressionInvalid(f"must not name the unknown {name[:60]!r}; {_name_hint(name)}", tree.at)


def _name_hint(name: str) -> str:
    """What to write instead of a name that there is not."""
    names = [*FACTS, *NAMED]
    wrong = f"{name}()" if name in FUNCTIONS else _WRONG.get(name) or _FOREIGN.get(name)
    close = [wrong] if wrong else difflib.get_close_matches(name, names, n=1, cutoff=0.7)
    if close:
        return f"did you mean {close[0]}?"
    if name.startswith("secrets."):
        return "steps get secrets as variables; write the name in the `secrets` of the job"
    if _OF_OTHER_PRODUCTS.fullmatch(name):
        return f"{GUIDE_PATH} shows what to write instead of names of other products"
    return f"write a text in quotes, as in '{name[:40]}'; there are {', '.join(names)}"


def _need_type(tree: _Name, scope: Scope) -> str:
    """The form is needs.JOB.result or needs.JOB.outputs.NAME."""
    parts = tree.parts
    is_output = len(parts) == 4 and parts[2] == "outputs"
    if not is_output and not (len(parts) == 3 and parts[2] == "result"):
        need = f"needs.{parts[1][:60] if len(parts) > 1 else 'JOB'}"
        raise ExpressionInvalid(f"must be {need}.result or {need}.outputs.NAME", tree.at)
    if scope.needs is not None and parts[1] not in scope.needs and parts[1] in scope.jobs:
        raise ExpressionInvalid(
            f"must name a job in `needs`; add {parts[1][:60]!r} to the `needs` of this job", tree.at
        )
    _known_require(tree, "needs", parts[1], scope.needs)
    if is_output:
        _known_require(tree, f"needs.{parts[1]}.outputs", parts[3], (scope.needs or {})[parts[1]])
    return "text"


# Why there are no names of a kind.
_WITHOUT = {
    "parameters": "the file has no `parameters`",
    "matrix": "the job has no `matrix`",
    "env": "neither the job nor the file has `env`",
    "needs": "the job has no `needs`",
}


# Where names of a kind are known.
_KNOWN_IN = {
    "matrix": "only jobs and `defaults` can",
    "env": "only `if` and `concurrency` of a job can",
    "needs": "only `if`, `env` and `concurrency` of a job can",
}


def _known_require(tree: _Name, root: str, name: str, known: Optional[Collection[str]]) -> None:
    if known is None:
        raise ExpressionInvalid(f"must not name {root} here, where it is not known; {_KNOWN_IN[root]}", tree.at)
    if name in known:
        return
    close = difflib.get_close_matches(name, known, n=1)
    if close:
        hint = f"did you mean {root}.{close[0]}?"
    elif root.endswith(".outputs"):
        hint = f"add {name[:60]!r} to the `outputs` of that job"
    elif known:
        hint = f"there are {', '.join(sorted(known)[:20])}"
    else:
        hint = f"there are none, since {_WITHOUT[root]}"
    raise ExpressionInvalid(f"must not name the unknown {f'{root}.{name}'[:60]!r}; {hint}", tree.at)


def _call_type(tree: _Call, scope: Scope) -> str:
    if tree.name not in FUNCTIONS:
        foreign = _FOREIGN_FUNCTIONS.get(tree.name)
        close = [foreign] if foreign else difflib.get_close_matches(tree.name, FUNCTIONS, n=1)
        hint = f"did you mean {close[0]}()?" if close else f"there are {', '.join(f'{name}()' for name in FUNCTIONS)}"
        raise ExpressionInvalid(f"must not call the unknown {tree.name[:40]}(); {hint}", tree.at)
    if tree.name in STATUS_FUNCTIONS and not scope.is_condition:
        raise ExpressionInvalid(f"must not call {tree.name}() here; only `if` can", tree.at)
    if tree.name == "hashFiles" and not scope.has_files:
        raise ExpressionInvalid("must not call hashFiles() here; only `caches` can", tree.at)
    if tree.name == "changed" and not scope.has_run:
        raise ExpressionInvalid("must not call changed() here, where the run is not known", tree.at)
    _arguments_check(tree, scope)
    return "text" if tree.name == "hashFiles" else "flag"


def _arguments_check(tree: _Call, scope: Scope) -> None:
    wanted = FUNCTIONS[tree.name][0]
    count = len(tree.arguments)
    if count == 0 if tree.name in _PATTERNS else count != len(wanted):
        shown = f"{tree.name}({', '.join(wanted)})"
        raise ExpressionInvalid(f"must have other arguments: {shown}", tree.at)
    for argument in tree.arguments:
        found = _type(argument, scope)
        if found != "text":
            raise ExpressionInvalid(f"must have text as an argument of {tree.name}(), not a {found}", argument.at)


# --- evaluating -----------------------------------------------------------------------------------------------------


def _value(tree: _Tree, context: Context) -> Value:
    if isinstance(tree, _Literal):
        return tree.value
    if isinstance(tree, _Name):
        return _named(tree, context)
    if isinstance(tree, _Call):
        return _called(tree, context)
    if tree.operator == "&&":
        return all(_flag(operand, context) for operand in tree.operands)
    if tree.operator == "||":
        return any(_flag(operand, context) for operand in tree.operands)
    if tree.operator == "!":
        return not _flag(tree.operands[0], context)
    return _compared(tree, context)


def _flag(tree: _Tree, context: Context) -> bool:
    value = _value(tree, context)
    if not isinstance(value, bool):
        raise ExpressionInvalid(f"must have true or false here, not a {_type_of(value)}", tree.at)
    return value


def _compared(tree: _Operation, context: Context) -> bool:
    values: list[Any] = [_value(operand, context) for operand in tree.operands]
    _operands_check(tree, [_type_of(value) for value in values])
    left, right = values
    return bool(_COMPARE[tree.operator](left, right))


def _named(tree: _Name, context: Context) -> Value:
    root, *rest = tree.parts
    if root in FACTS and not rest:
        return str(getattr(context, root) or "")
    if root == "parameters" and len(rest) == 1:
        if rest[0] not in context.parameters:
            raise ExpressionInvalid(f"must not name the unknown {'.'.join(tree.parts)[:60]!r}", tree.at)
        return context.parameters[rest[0]]
    if root == "matrix" and len(rest) == 1:
        return context.matrix.get(rest[0], "")
    if root == "env" and len(rest) == 1:
        return str(_known(context.env).get(rest[0], ""))
    if root == "needs" and len(rest) in (2, 3):
        need = _known(context.needs).get(rest[0])
        if need is not None:
            return str(need["result"]) if len(rest) == 2 else str((need.get("outputs") or {}).get(rest[2], ""))
    raise ExpressionInvalid(f"must not name the unknown {'.'.join(tree.parts)[:60]!r}", tree.at)


def _known(values: Optional[Mapping[str, Any]]) -> Mapping[str, Any]:
    if values is None:
        raise NotYetKnown
    return values


def _called(tree: _Call, context: Context) -> Value:
    if tree.name in STATUS_FUNCTIONS:
        return _status(tree.name, context)
    arguments = []
    for argument in tree.arguments:
        value = _value(argument, context)
        if not isinstance(value, str):
            raise ExpressionInvalid(f"must have text as an argument of {tree.name[:40]}()", argument.at)
        arguments.append(value)
    if tree.name == "hashFiles":
        if context.hash_files is None:
            raise NotYetKnown
        return context.hash_files(arguments)
    if tree.name == "changed":
        paths = context.changed_paths
        return paths is None or any(glob_match(pattern, path) for pattern in arguments for path in paths)
    if tree.name not in _OF_TWO_TEXTS or len(arguments) != 2:
        raise ExpressionInvalid(f"must not call {tree.name[:40]}() like this", tree.at)
    return _OF_TWO_TEXTS[tree.name](*arguments)


def _status(name: str, context: Context) -> bool:
    results = {str(need["result"]) for need in (context.needs or {}).values()}
    return {
        "success": context.needs_met and not context.cancelled,
        "failure": context.failed_before or "failure" in results,
        "cancelled": context.cancelled or "cancelled" in results,
        "always": True,
    }[name]


_OF_TWO_TEXTS: dict[str, Callable[[str, str], bool]] = {
    "contains": lambda text, part: part in text,
    "starts_with": lambda text, part: text.startswith(part),
    "ends_with": lambda text, part: text.endswith(part),
    "matches": lambda text, pattern: glob_match(pattern, text),
}


def _written(value: Value) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value)


def _shielded(value: str, *, after: str) -> str:
    """`value` as the next part of a text that is filled in once more: whatever it looks like, it stays as it is."""
    if not value and after.endswith(("$", "${")):
        return f"{_OPEN} '' {_CLOSE}"
    shielded = template_literal(value)
    for end in ("$", "${"):
        if shielded.endswith(end):
            shielded = f"{shielded[: -len(end)]}{_OPEN} '$' {_CLOSE}{end[1:]}"
    return f"{_OPEN} '{{' {_CLOSE}{shielded[1:]}" if shielded.startswith("{") else shielded


def _limited(text: str) -> str:
    if len(text) > MAX_RESULT:
        raise ExpressionInvalid(f"must be at most {MAX_RESULT:,} characters with its values, not {len(text):,}")
    return text
