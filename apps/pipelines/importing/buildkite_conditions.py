"""What `if` and `branches` of Buildkite mean here."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field

from apps.pipelines.importing.drafts import name_of
from apps.pipelines.importing.expressions import (
    Call,
    Condition,
    Literal,
    Name,
    Operation,
    Outcome,
    Tree,
    both,
    either,
    equals,
    expression_read,
    negated,
    text_literal,
)
from apps.pipelines.importing.remarks import Unmapped, quoted
from apps.pipelines.importing.values import Vocabulary, literal_text

_FACTS = {
    "build.branch": "branch",
    "build.tag": "tag",
    "build.commit": "commit",
    "pipeline.slug": "pipeline",
    "pipeline.name": "pipeline",
    "pipeline.default_branch": "default_branch",
    "build.pull_request.id": "",
}
_SOURCES = {
    "webhook": ("push", "tag", "pull_request"),
    "schedule": ("schedule",),
    "ui": ("page",),
    "api": ("api",),
    "trigger_job": ("api",),
}
_GIVEN = ("organization.slug", "organization.id", "pipeline.id", "build.pull_request.repository")
_ENV = {"BUILDKITE_BRANCH": "build.branch", "BUILDKITE_TAG": "build.tag", "BUILDKITE_COMMIT": "build.commit",
        "BUILDKITE_SOURCE": "build.source", "BUILDKITE_PIPELINE_SLUG": "pipeline.slug"}  # fmt: skip


@dataclass
class Conditions:
    """Reads the conditions of one step.

    `known` are the variables of the file. Others become parameters, through `ask`.
    """

    known: set[str]
    ask: Callable[[str], None]
    notes: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._words = Vocabulary(dict(_FACTS), self._compare, self._alone, notes=self.notes)

    def condition(self, text: str) -> Outcome:
        """An `if`. Raises Unmapped."""
        return self._words.condition(self._named(expression_read(text.replace("$$", "$"))))

    def _named(self, tree: Tree) -> Tree:
        """With names for calls of build.env()."""
        if isinstance(tree, Operation):
            return Operation(tree.operator, tuple(self._named(part) for part in tree.operands))
        if isinstance(tree, Call) and tree.name in ("build.env", "env") and len(tree.arguments) == 1:
            argument = tree.arguments[0]
            if isinstance(argument, Literal):
                return self._variable(literal_text(argument))
        return tree

    def _variable(self, name: str) -> Tree:
        if name in _ENV:
            return Name(_ENV[name])
        if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]{0,62}", name) or name.startswith("BUILDKITE_"):
            raise Unmapped(f"the variable {quoted(name, 60)} is not known here")
        if name in self.known:
            self._words.facts[f"${name}"] = f"env.{name}"
        else:
            self.ask(name)
            self._words.facts[f"${name}"] = f"parameters.{name_of(name)}"
        return Name(f"${name}")

    def _compare(self, name: str, text: str) -> Outcome | None:
        if name == "build.source":
            return either(*(equals("event", event) for event in _SOURCES.get(text, ()))) if text in _SOURCES else False
        if name == "build.pull_request.id" and not text:
            return negated(equals("event", "pull_request"))
        if name in _GIVEN:
            self.notes.append(f"{name} was taken as {text!r}, since a pipeline has one repository")
            return True
        return None

    def _alone(self, name: str) -> Outcome | None:
        return equals("event", "pull_request") if name in ("build.pull_request.id", "build.pull_request") else None


def branches_condition(texts: list[str]) -> Outcome:
    """Patterns of branches: one that begins with ! leaves branches out."""
    patterns = [pattern for text in texts for pattern in text.split()]
    wanted = [_branch(pattern) for pattern in patterns if not pattern.startswith("!")]
    unwanted = [negated(_branch(pattern[1:])) for pattern in patterns if pattern.startswith("!")]
    return both(either(*wanted) if wanted else True, *unwanted)


def _branch(pattern: str) -> Outcome:
    if "*" not in pattern:
        return equals("branch", pattern)
    return True if pattern == "*" else Condition(f"matches(branch, {text_literal(pattern)})")
