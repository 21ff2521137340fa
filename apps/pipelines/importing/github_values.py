"""What `${{ … }}` and `if` of GitHub Actions mean here."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from apps.pipelines.definitions import SECRET_NAME, SECRET_NAME_FORM
from apps.pipelines.importing.drafts import JobDraft, MatrixDraft
from apps.pipelines.importing.expressions import (
    Call,
    Condition,
    Literal,
    Name,
    Operation,
    Outcome,
    Tree,
    either,
    equals,
    expression_read,
    negated,
    text_literal,
)
from apps.pipelines.importing.remarks import Unmapped, quoted
from apps.pipelines.importing.values import Vocabulary, hoist, literal_piece, literal_text, piece

_TEMPLATE = re.compile(r"\$\{\{(.*?)\}\}", re.DOTALL)
_BRACKETS = re.compile(r"\[(?:'([^']*)'|\"([^\"]*)\")\]")
_STATUS = ("success", "failure", "always", "cancelled")
_FACTS = {
    "github.sha": "commit",
    "github.ref": "ref",
    "github.event_name": "event",
    "github.head_ref": "branch",
    "github.workflow": "pipeline",
    "github.event.repository.default_branch": "default_branch",
}
_EVENTS = {
    "push": ("push", "tag"),
    "create": ("push", "tag"),
    "pull_request": ("pull_request",),
    "pull_request_target": ("pull_request",),
    "schedule": ("schedule",),
    "workflow_dispatch": ("page", "api"),
    "repository_dispatch": ("api",),
}
# What is the same for each run of a pipeline, since a pipeline has one repository.
_REPOSITORY = ("github.repository", "github.repository_owner", "github.event.repository.full_name")
# The variables of runs, by what of ours has their values. Scripts go on to read them under their names.
VARIABLES = {
    "GITHUB_SHA": piece("commit"),
    "GITHUB_REF": piece("ref"),
    "GITHUB_REF_NAME": piece("branch") + piece("tag"),
    "GITHUB_HEAD_REF": piece("branch"),
    "GITHUB_EVENT_NAME": piece("event"),
    "GITHUB_WORKFLOW": piece("pipeline"),
    "GITHUB_STEP_SUMMARY": "/dev/stderr",
    "GITHUB_ACTIONS": "false",
}


@dataclass
class Values:
    """The names that one job may use. `axes` has the axis of each path in `matrix`; `needs` the name here of each job
    there; `outputs` those of the jobs."""

    job: JobDraft
    needs: dict[str, str] = field(default_factory=dict)
    outputs: dict[str, list[str]] = field(default_factory=dict)
    axes: dict[str, str] = field(default_factory=dict)
    parameters: dict[str, str] = field(default_factory=dict)
    known_env: set[str] = field(default_factory=set)
    runner: str = "Linux"

    def __post_init__(self) -> None:
        self._late = True
        self._words = Vocabulary(dict(_FACTS), self._compare, self._alone, self._call)

    @property
    def notes(self) -> list[str]:
        """What conditions became that are not quite the same. Reading empties it."""
        notes = [*self._words.notes]
        self._words.notes.clear()
        return notes

    def condition(self, text: str) -> Outcome:
        """An `if`. Raises Unmapped."""
        self._late = True
        inner = text.strip()
        whole = _TEMPLATE.fullmatch(inner)
        if whole and "${{" not in whole[1]:
            inner = whole[1]
        elif "${{" in inner:
            raise Unmapped(f"the condition {quoted(text)!r} is made of several parts")
        self._words.facts = self._facts()
        return self._words.condition(_normal(expression_read(inner)))

    def inline(self, text: str, *, files: bool = False, late: bool = False) -> str:
        """A text with its `${{ … }}` in our language. Raises Unmapped.

        With `files`, they may call hashFiles(). With `late`, they may name the results and outputs of needs.
        """
        self._late = late
        parts, at = [], 0
        for match in _TEMPLATE.finditer(text):
            parts += [literal_piece(text[at : match.start()]), self._piece(match[1], files)]
            at = match.end()
        return "".join([*parts, literal_piece(text[at:])])

    def shell(self, text: str) -> str:
        """A script with variables in place of its `${{ … }}`. Raises Unmapped."""
        self._late = True
        parts, at = [], 0
        for match in _TEMPLATE.finditer(text):
            parts += [text[at : match.start()], self._shell_piece(match[1], text[: match.start()])]
            at = match.end()
        return "".join([*parts, text[at:]])

    def shell_value(self, text: str) -> str:
        """A text as one word of a script, with its `${{ … }}` filled in by the shell. Raises Unmapped."""
        self._late = True
        parts, at = [], 0
        for match in _TEMPLATE.finditer(text):
            parts += [_in_quotes(text[at : match.start()]), self._shell_piece(match[1], "")]
            at = match.end()
        return '"' + "".join([*parts, _in_quotes(text[at:])]) + '"'

    def secret(self, name: str) -> None:
        """The job gets this secret as a variable."""
        if name not in self.job.secrets:
            self.job.secrets.append(name)

    def _facts(self) -> dict[str, str]:
        known = self.needs if self._late else {}
        needs = {f"needs.{there}.result": f"needs.{here}.result" for there, here in known.items()}
        outputs = {
            f"needs.{there}.outputs.{name}": f"needs.{here}.outputs.{output_name(name)}"
            for there, here in known.items()
            for name in self.outputs.get(there, [])
        }
        axes = {f"matrix.{path}": f"matrix.{axis}" for path, axis in self.axes.items()}
        inputs = {
            f"{prefix}.{name}": f"parameters.{name}"
            for name, kind in self.parameters.items()
            if kind != "flag"
            for prefix in ("inputs", "github.event.inputs")
        }
        return {**_FACTS, **needs, **outputs, **axes, **inputs}

    def _compare(self, name: str, text: str) -> Outcome | None:
        if name == "github.ref":
            return _ref_is(text)
        if name == "github.ref_name":
            return either(equals("branch", text), equals("tag", text))
        if name == "github.ref_type":
            return Condition("tag != ''" if text == "tag" else "branch != ''")
        if name == "github.event_name":
            return self._event_is(text)
        if name in _REPOSITORY:
            self._words.notes.append(f"{name} was taken as {text!r}, since a pipeline has one repository")
            return True
        if name == "github.event.repository.fork":
            return text != "true"
        if name == "runner.os":
            return self.runner == text
        if self._is_no_axis(name):
            return not text
        if (found := self._flag(name)) is not None:
            return found if text == "true" else negated(found)
        return equals(f"env.{name[4:]}", text) if self._is_env(name) else None

    def _event_is(self, text: str) -> Outcome:
        if text not in _EVENTS:
            self._words.notes.append(f"no run here is started by the event {quoted(text)!r}")
            return False
        return either(*(equals("event", event) for event in _EVENTS[text]))

    def _alone(self, name: str) -> Outcome | None:
        if (found := self._flag(name)) is not None:
            return found
        if name.startswith("matrix.") and name[7:] in self.axes:
            axis = f"matrix.{self.axes[name[7:]]}"
            flags = _axis_values(self.job.matrix, self.axes[name[7:]]) <= {"true", "false", ""}
            return equals(axis, "true") if flags else Condition(f"{axis} != ''")
        if self._is_no_axis(name):
            return False
        if name in ("github.event.pull_request", "github.head_ref", "github.base_ref"):
            return equals("event", "pull_request")
        if name == "github.event.repository.fork":
            return False
        return Condition(f"env.{name[4:]} != ''") if self._is_env(name) else None

    def _flag(self, name: str) -> Outcome | None:
        parameter = name.removeprefix("github.event.").removeprefix("inputs.")
        is_input = name != parameter and self.parameters.get(parameter) == "flag"
        return Condition(f"parameters.{parameter}") if is_input else None

    def _is_no_axis(self, name: str) -> bool:
        """Whether no cell of the job's matrix has this value, so that it is empty."""
        return name.startswith("matrix.") and self.job.matrix is not None and name[7:] not in self.axes

    def _is_env(self, name: str) -> bool:
        return name.startswith("env.") and name[4:] in self.known_env

    def _call(self, call: Call) -> Outcome | None:
        if call.name in _STATUS and not call.arguments:
            return True if call.name == "success" else Condition(f"{call.name}()")
        functions = {"startsWith": "starts_with", "endsWith": "ends_with", "contains": "contains"}
        if call.name not in functions or len(call.arguments) != 2:
            return None
        text, part = call.arguments
        if not isinstance(part, Literal):
            return None
        if isinstance(text, Name) and text.text == "github.ref" and call.name == "startsWith":
            return _ref_begins(literal_text(part))
        if isinstance(text, Name) and text.text == "github.ref_name":
            arguments = text_literal(literal_text(part))
            return either(*(Condition(f"{functions[call.name]}({fact}, {arguments})") for fact in ("branch", "tag")))
        return Condition(f"{functions[call.name]}({self._words.fact(text)}, {text_literal(literal_text(part))})")

    def _piece(self, source: str, files: bool) -> str:
        """One `${{ … }}` of a text, as a text of ours."""
        tree = _normal(expression_read(source))
        if isinstance(tree, Literal):
            return literal_piece(literal_text(tree))
        fixed = {"github.ref_name": VARIABLES["GITHUB_REF_NAME"], "runner.os": self.runner, "github.job": self.job.name}
        if isinstance(tree, Name) and tree.text in fixed:
            return fixed[tree.text]
        if isinstance(tree, Call) and tree.name == "hashFiles" and files:
            return piece(f"hashFiles({', '.join(_text_argument(argument) for argument in tree.arguments)})")
        self._words.facts = self._facts()
        if isinstance(tree, Name) and self._is_no_axis(tree.text):
            return ""
        if isinstance(tree, Name):
            flag = self._flag(tree.text)
            return piece(flag.text if isinstance(flag, Condition) else self._words.fact(tree))
        return self._truth(tree)

    def _truth(self, tree: Tree) -> str:
        """A condition within a text, which is true or false."""
        if isinstance(tree, Operation) and tree.operator in ("&&", "||") and not _is_boolean(tree):
            raise Unmapped("a choice between texts (a && b || c) has no counterpart")
        outcome = self._words.condition(tree)
        if isinstance(outcome, Condition):
            if "()" in outcome.text:
                raise Unmapped("the result of the steps before is known only to `if`")
            return piece(outcome.text)
        return "true" if outcome else "false"

    def _shell_piece(self, source: str, before: str) -> str:
        tree = _normal(expression_read(source))
        if isinstance(tree, Literal):
            return literal_text(tree)
        name = tree.text if isinstance(tree, Name) else source
        if isinstance(tree, Name):
            fixed = self._shell_name(tree.text)
            if fixed is not None:
                return self._variable(fixed, before)
        template = self._piece(source, files=False)
        if "${{" not in template:
            return template
        return self._variable(hoist(self.job, name.strip()[:60], template), before)

    def _shell_name(self, name: str) -> str | None:
        root, _, rest = name.partition(".")
        if root == "secrets" and rest == "GITHUB_TOKEN":
            raise Unmapped("there is no token for GitHub; make one and give the job a secret with it")
        if root == "secrets":
            # GitHub's names have no case.
            name = rest.upper()
            if not SECRET_NAME.fullmatch(name):
                raise Unmapped(f"give the secret another name: it must be {SECRET_NAME_FORM}")
            self.secret(name)
            return name
        if root == "env":
            return rest
        return {"github.workspace": "GITHUB_WORKSPACE", "github.run_id": "HYBRID_CI_JOB_ID"}.get(name)

    @staticmethod
    def _variable(name: str, before: str) -> str:
        line = before.rpartition("\n")[2]
        outside = re.sub(r'\\.|"(?:[^"\\]|\\.)*"', "", line)
        if outside.count("'") % 2:
            # The shell would not fill in a variable within single quotes: they end and begin again around it.
            return f"'\"${{{name}}}\"'"
        return f"${{{name}}}"


def _in_quotes(text: str) -> str:
    return re.sub(r'([\\"$`])', r"\\\1", text)


def output_name(name: str) -> str:
    """The name of an output, which has no hyphens here."""
    return re.sub(r"[^A-Za-z0-9_]", "_", name)


def _normal(tree: Tree) -> Tree:
    """With dots for brackets, as in matrix['go-version']."""
    if isinstance(tree, Name):
        return Name(_BRACKETS.sub(lambda match: f".{match[1] or match[2]}", tree.text))
    if isinstance(tree, Call):
        return Call(tree.name, tuple(_normal(argument) for argument in tree.arguments))
    if isinstance(tree, Operation):
        return Operation(tree.operator, tuple(_normal(operand) for operand in tree.operands))
    return tree


def _is_boolean(tree: Tree) -> bool:
    """Whether a tree is true or false, and no text."""
    if isinstance(tree, Operation) and tree.operator in ("&&", "||"):
        return all(_is_boolean(operand) for operand in tree.operands)
    if isinstance(tree, Literal):
        return isinstance(tree.value, bool)
    return isinstance(tree, Operation | Call)


def _axis_values(matrix: MatrixDraft | None, axis: str) -> set[str]:
    if matrix is None:
        return set()
    return {*matrix.axes.get(axis, []), *(cell.get(axis, "") for cell in matrix.cells)}


def _text_argument(tree: Tree) -> str:
    if isinstance(tree, Literal):
        return text_literal(literal_text(tree))
    raise Unmapped("hashFiles() takes only texts here")


def _ref_is(text: str) -> Outcome:
    for prefix, fact in (("refs/heads/", "branch"), ("refs/tags/", "tag")):
        if text.startswith(prefix):
            return equals(fact, text.removeprefix(prefix))
    return equals("ref", text)


def _ref_begins(text: str) -> Outcome:
    for prefix, fact in (("refs/heads/", "branch"), ("refs/tags/", "tag")):
        if text == prefix:
            return Condition(f"{fact} != ''")
        if text.startswith(prefix):
            return Condition(f"starts_with({fact}, {text_literal(text.removeprefix(prefix))})")
    return Condition(f"starts_with(ref, {text_literal(text)})")
