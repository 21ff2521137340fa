"""What the names of another product mean here, in conditions, in texts and in scripts of one job.

A script gets values only through variables: `${{ … }}` is not filled in there, so that no value can become a command.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field

from apps.pipelines.importing.drafts import JobDraft
from apps.pipelines.importing.expressions import (
    Call,
    Condition,
    Literal,
    Name,
    Operation,
    Outcome,
    Pattern,
    Tree,
    both,
    either,
    equals,
    matches,
    negated,
    text_literal,
)
from apps.pipelines.importing.remarks import Unmapped, quoted

_NOT_IN_VARIABLES = re.compile(r"[^A-Za-z0-9]+")

# Of names that are texts here: what a condition can compare.
Facts = dict[str, str]


@dataclass
class Vocabulary:
    """What one product's names mean. Each function raises Unmapped for what it does not know, or returns None to leave
    a tree to the rules that all products share.

    `facts` are names that are a fact of a run here; `compare` decides about a comparison with a text; `alone` about a
    name that is a condition; `call` about a function.
    """

    facts: Facts
    compare: Callable[[str, str], Outcome | None]
    alone: Callable[[str], Outcome | None]
    call: Callable[[Call], Outcome | None] | None = None
    notes: list[str] = field(default_factory=list)

    def condition(self, tree: Tree) -> Outcome:
        """A tree as a condition. Raises Unmapped."""
        if isinstance(tree, Operation):
            return self._operation(tree)
        if isinstance(tree, Literal):
            return tree.value not in (None, False, "")
        if isinstance(tree, Call):
            return _known(self.call(tree) if self.call else None, f"{tree.name}()")
        if isinstance(tree, Name):
            found = self.alone(tree.text)
            return found if found is not None else Condition(f"{self.fact(tree)} != ''")
        raise Unmapped(f"the pattern /{quoted(tree.source)}/ stands alone")

    def fact(self, tree: Tree) -> str:
        """A name as a text of our language. Raises Unmapped."""
        if isinstance(tree, Name) and tree.text in self.facts:
            return self.facts[tree.text]
        raise Unmapped(f"{tree_text(tree)} has no counterpart")

    def _operation(self, tree: Operation) -> Outcome:
        if tree.operator == "!":
            return negated(self.condition(tree.operands[0]))
        if tree.operator in ("&&", "||"):
            parts = [self._part(operand) for operand in tree.operands]
            for part in parts:
                if part is (tree.operator == "||"):
                    return part
            for part in parts:
                if isinstance(part, Unmapped):
                    raise part
            join = both if tree.operator == "&&" else either
            return join(*(part for part in parts if not isinstance(part, Unmapped)))
        if tree.operator in ("==", "!="):
            found = self._equal(*tree.operands)
            return negated(found) if tree.operator == "!=" else found
        if tree.operator in ("=~", "!~"):
            found = self._match(*tree.operands)
            return negated(found) if tree.operator == "!~" else found
        raise Unmapped(f"the operator {tree.operator} has no counterpart")

    def _part(self, tree: Tree) -> Outcome | Unmapped:
        """What is not known does not matter where another part decides."""
        try:
            return self.condition(tree)
        except Unmapped as problem:
            return problem

    def _equal(self, left: Tree, right: Tree) -> Outcome:
        if isinstance(left, Literal):
            left, right = right, left
        if not isinstance(right, Literal):
            return Condition(f"{self.fact(left)} == {self.fact(right)}")
        if isinstance(left, Literal):
            return literal_text(left) == literal_text(right)
        if isinstance(left, Name):
            found = self.compare(left.text, literal_text(right))
            if found is not None:
                return found
            return equals(self.fact(left), literal_text(right))
        if isinstance(right.value, bool):
            return self.condition(left) if right.value else negated(self.condition(left))
        raise Unmapped(f"{tree_text(left)} has no counterpart in a comparison")

    def _match(self, left: Tree, right: Tree) -> Outcome:
        if isinstance(right, Literal) and isinstance(right.value, str):
            text = right.value
            right = (
                Pattern(text[1:].rpartition("/")[0], "") if text[:1] == "/" and text.count("/") > 1 else Pattern(text)
            )
        if not isinstance(right, Pattern):
            raise Unmapped(f"{tree_text(right)} is no pattern")
        return matches(self.fact(left), right, self.notes)


def _known(outcome: Outcome | None, what: str) -> Outcome:
    if outcome is None:
        raise Unmapped(f"{quoted(what, 60)} has no counterpart")
    return outcome


def literal_text(tree: Literal) -> str:
    """A value as text; null is empty."""
    if isinstance(tree.value, bool):
        return "true" if tree.value else "false"
    return tree.value or ""


def tree_text(tree: Tree) -> str:
    """A tree in words, for a message."""
    if isinstance(tree, Name):
        return quoted(tree.text, 60)
    if isinstance(tree, Call):
        return f"{quoted(tree.name, 60)}()"
    return "this value" if isinstance(tree, Literal) else "this condition"


def variable_of(name: str) -> str:
    """A name of a variable that reads like `name`."""
    variable = _NOT_IN_VARIABLES.sub("_", name).strip("_").upper()[:100]
    return f"_{variable}" if not variable or variable[0].isdigit() else variable


def hoist(job: JobDraft, name: str, template: str) -> str:
    """Put a text with `${{ … }}` into a variable of the job. Returns the name of the variable."""
    base = variable = variable_of(name)
    number = 2
    while job.env.get(variable, template) != template:
        variable = f"{base}_{number}"
        number += 1
    job.env[variable] = template
    return variable


def piece(expression: str) -> str:
    """An expression of ours within a text."""
    return "${{ " + expression + " }}"


def literal_piece(text: str) -> str:
    """A text that must stay as it is within a text that is filled in."""
    return text.replace("${{", piece(text_literal("${{")))
