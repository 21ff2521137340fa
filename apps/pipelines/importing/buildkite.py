"""Pipelines of Buildkite."""

from __future__ import annotations

from dataclasses import dataclass, field

from apps.pipelines.importing.buildkite_step import FACTS, StepReader
from apps.pipelines.importing.drafts import JobDraft, Names, PipelineDraft, name_of
from apps.pipelines.importing.expressions import Condition, Outcome, both, condition_text
from apps.pipelines.importing.foreign import (
    Mapping,
    Sequence,
    Value,
    document_of,
    entries_of,
    members_of,
    scalar_text,
    truth,
)
from apps.pipelines.importing.ordering import after_all, go_on_without, take_from
from apps.pipelines.importing.remarks import ImportRefused, Remarks, quoted
from apps.pipelines.importing.sections import Section
from apps.pipelines.importing.values import literal_piece, piece
from apps.pipelines.importing.variables import Variables

_WAITS = ("wait", "waiter")
_BLOCKS = ("block", "input", "manual")
_KEYS = ("key", "id", "identifier")
_LEFT = {
    "notify": "nothing is sent from a file here",
    "priority": "write `priority` in the jobs",
}


def buildkite_convert(documents: list[Value], remarks: Remarks) -> PipelineDraft:
    """The pipeline. Raises ImportRefused."""
    node = document_of(documents)
    steps = node if isinstance(node, Sequence) else members_of(node).get("steps")
    if not isinstance(steps, Sequence) or not steps.entries:
        raise ImportRefused("The file is no pipeline of Buildkite: it has no list `steps`.")
    return _File(node, steps, remarks).convert()


@dataclass
class _Barrier:
    """What later steps wait for. `flags` are the parameters that a person sets for them."""

    earlier: list[list[JobDraft]] = field(default_factory=list)
    current: list[JobDraft] = field(default_factory=list)
    flags: list[str] = field(default_factory=list)
    whatever: bool = False


@dataclass
class _Place:
    """What a step has from the group around it."""

    condition: Outcome = True
    depends_on: Value | None = None
    may_fail: bool = False
    subject: str = "steps"


class _File:
    def __init__(self, root: Value, steps: Sequence, remarks: Remarks) -> None:
        self._remarks = remarks
        self._root = Section(root if isinstance(root, Mapping) else None, "", remarks)
        self._steps = steps
        self._draft = PipelineDraft()
        self._names = Names()
        self._barrier = _Barrier()
        self._found = 0
        self._optional: set[str] = set()
        # By key: the names of jobs, and the flags of blocks.
        self._jobs: dict[str, list[str]] = {}
        self._flags: dict[str, list[str]] = {}
        self._depends: list[tuple[JobDraft, Value, Outcome, bool]] = []
        self._env: dict[str, str] = {}

    def convert(self) -> PipelineDraft:
        root = self._root
        root.take("steps")
        self._environment()
        self._defaults = {name: root.take(name) for name in ("agents", "image", "secrets")}
        cache = root.take("cache")
        if cache is not None:
            root.note("cache", "caches belong to jobs here; write `caches` in those that need them", cache)
        root.leave(_LEFT)
        for name in [
            name for name in members_of(root.node) if name.startswith((".", "x-")) or name in ("common", "anchors")
        ]:
            root.take(name)
        self._walk([*self._steps.entries], _Place())
        for job, node, condition, may_fail in self._depends:
            self._depend(job, node, condition, may_fail)
        root.close()
        _cycles_refuse(self._draft.jobs)
        return self._draft

    def _environment(self) -> None:
        env = self._root.section("env")
        for name, node in members_of(env.node).items():
            env.take(name)
            value = scalar_text(node) or ""
            self._env[name] = value
            if "$" not in value:
                self._draft.env[name] = literal_piece(value)
        env.close()

    def _walk(self, nodes: list[Value], place: _Place) -> None:
        for number, node in enumerate(nodes):
            members = members_of(node)
            text = scalar_text(node)
            subject = f"{place.subject}[{number}]"
            kind = next((key for key in (*_WAITS, *_BLOCKS, "group", "trigger") if key in members), text)
            if kind in _WAITS:
                self._wait(node, subject)
            elif kind in _BLOCKS:
                self._block(node, subject, str(kind))
            elif kind == "group":
                self._group(node, subject, place)
            elif not members:
                self._remarks.add(node.line, subject, "is no step that is known here, so it was left out")
            else:
                self._job(node, subject, place)

    def _wait(self, node: Value, subject: str) -> None:
        step = Section(node if isinstance(node, Mapping) else None, subject, self._remarks)
        for name in (*_WAITS, *_KEYS, "label", "name"):
            step.take(name)
        self._close_group(whatever=truth(step.take("continue_on_failure")) is True)
        step.leave(
            {"if": "all jobs after it wait, whatever the condition", "depends_on": "it waits for all steps before it"}
        )
        step.close()

    def _close_group(self, *, whatever: bool = False) -> None:
        barrier = self._barrier
        if barrier.current:
            barrier.earlier.append(barrier.current)
            barrier.current = []
        barrier.whatever = whatever

    def _block(self, node: Value, subject: str, kind: str) -> None:
        step = Section(node if isinstance(node, Mapping) else None, subject, self._remarks)
        label = step.text(kind) or step.text("label") or step.text("name") or kind
        keys = [key for name in _KEYS if (key := step.text(name))]
        flag = name_of(f"run_{name_of(keys[0] if keys else _plain(label))}")
        parameter: dict[str, object] = {"type": "flag"}
        if description := " ".join((step.text("prompt") or _plain(label)).split())[:200]:
            parameter["description"] = description
        self._draft.parameters[flag] = parameter
        self._remarks.add(
            node.line, subject, f"nothing waits for a person within a run here; start a run with the parameter {flag}"
        )
        for field_node in entries_of(step.take("fields")):
            self._field(field_node, step)
        for key in keys:
            self._flags[key] = [flag]
        if kind != "input":
            self._close_group()
            self._barrier.flags = [*self._barrier.flags, flag]
        elif self._barrier.current:
            self._close_group()
        step.leave({
            "if": "the parameter is asked for whatever the condition",
            "branches": "the parameter is asked for on all branches",
        })  # fmt: skip
        for name in ("depends_on", "allowed_teams", "blocked_state", "submit", "allow_dependency_failure", "prompt"):
            step.take(name)
        step.close()

    def _field(self, node: Value, step: Section) -> None:
        options = Section(node, step.path("fields"), self._remarks)
        key = options.text("key") or "field"
        choices = [scalar_text(members_of(entry).get("value")) or "" for entry in entries_of(options.take("options"))]
        choices = [choice for choice in choices if choice.strip() and choice.isprintable() and len(choice) <= 100]
        parameter: dict[str, object] = {"type": "choice" if choices else "text"}
        if description := " ".join(
            (options.text("hint") or options.text("text") or options.text("select") or "").split()
        )[:200]:
            parameter["description"] = description
        if choices:
            parameter["options"] = choices
        default = options.text("default")
        if default and (default in choices or not choices):
            parameter["default"] = default
        self._draft.parameters.setdefault(name_of(key), parameter)
        options.note(
            "key",
            f"became the parameter {name_of(key)}; scripts read it from a variable that a job gets in `env`",
            node,
        )
        for name in ("required", "format", "text", "select", "hint", "multiple"):
            options.take(name)
        options.close()

    def _group(self, node: Value, subject: str, place: _Place) -> None:
        step = Section(node, subject, self._remarks)
        label = step.text("group") or step.text("label") or ""
        keys = [key for name in _KEYS if (key := step.text(name))]
        inner = _Place(place.condition, step.take("depends_on"), subject=f"{subject}.steps")
        inner.may_fail = truth(step.take("allow_dependency_failure")) is True
        reader = StepReader(
            step, JobDraft("group"), self._variables("group"), set(self._draft.env), self._ask, self._remarks
        )
        inner.condition = both(place.condition, reader.condition())
        reader.finish()
        before = len(self._draft.jobs)
        steps = entries_of(step.take("steps"))
        step.leave({"notify": "nothing is sent from a file here"})
        step.take("skip")
        step.close()
        self._walk(steps, inner)
        made = [job.name for job in self._draft.jobs[before:]]
        for key in keys or [label]:
            self._jobs[key] = made

    def _variables(self, name: str) -> Variables:
        commands = {
            "BUILDKITE_JOB_ID": "$HYBRID_CI_JOB_ID",
            "BUILDKITE_BUILD_ID": "$HYBRID_CI_JOB_ID",
            "BUILDKITE_BUILD_CHECKOUT_PATH": "$PWD",
        }
        templates = {**FACTS, "BUILDKITE_LABEL": literal_piece(name), "BUILDKITE_STEP_KEY": literal_piece(name)}
        return Variables(("BUILDKITE_",), templates, commands, dict(self._env))

    def _ask(self, name: str, line: int) -> None:
        if name_of(name) not in self._draft.parameters:
            self._draft.parameters[name_of(name)] = {"type": "text"}
            self._draft.env.setdefault(name, piece(f"parameters.{name_of(name)}"))
            self._remarks.add(line, f"env.{quoted(name, 40)}", "is not in this file; it became a parameter of runs")

    def _job(self, node: Value, subject: str, place: _Place) -> None:
        self._found += 1
        remarks = self._remarks.scope()
        step = Section(node, subject, remarks)
        keys = [key for name in _KEYS if (key := step.text(name))]
        label = step.text("label") or step.text("name") or step.text("trigger") or ""
        name = self._names.new(name_of(keys[0] if keys else _plain(label) or f"step-{self._found}"))
        draft = JobDraft(name, line=node.line)
        if label and _plain(label) != name:
            draft.comments.append(quoted(_plain(label), 200))
        parameters = {key for key in self._draft.env if name_of(key) in self._draft.parameters}
        reader = StepReader(step, draft, self._variables(name), set(self._draft.env) - parameters, self._ask, remarks)
        condition = both(place.condition, reader.convert(self._defaults))
        may_fail = truth(step.take("allow_dependency_failure")) is True or place.may_fail
        depends_on = step.take("depends_on")
        if depends_on is None and "depends_on" not in members_of(node):
            depends_on = place.depends_on
        step.close()
        draft.comments += remarks.close()
        for key in keys:
            self._jobs[key] = [name]
        if label and label not in self._jobs:
            self._jobs[label] = [name]
        self._place(draft, depends_on, condition, may_fail)
        self._take_from_needs(draft, reader)

    def _place(self, draft: JobDraft, depends_on: Value | None, condition: Outcome, may_fail: bool) -> None:
        barrier = self._barrier
        if depends_on is None:
            condition = both(*(Condition(f"parameters.{flag}") for flag in barrier.flags), condition)
            after_all(draft, barrier.earlier, self._optional, whatever=barrier.whatever or may_fail)
            condition = go_on_without(draft, self._optional, condition)
        else:
            self._depends.append((draft, depends_on, condition, may_fail))
        draft.condition = condition_text(condition)
        if condition is not True:
            self._optional.add(draft.name)
        barrier.current.append(draft)
        self._draft.jobs.append(draft)

    def _depend(self, draft: JobDraft, node: Value, condition: Outcome, may_fail: bool) -> None:
        """Needs that the file names, after all steps are known. Artifacts come from them, too."""
        flags: list[Outcome] = []
        for entry in entries_of(node):
            key = scalar_text(entry) or scalar_text(members_of(entry).get("step")) or ""
            result = "any" if may_fail or truth(members_of(entry).get("allow_failure")) else "success"
            if key in self._flags:
                flags += [Condition(f"parameters.{flag}") for flag in self._flags[key]]
            elif key in self._jobs:
                draft.needs.update(dict.fromkeys((name for name in self._jobs[key] if name != draft.name), result))
            else:
                self._remarks.add(
                    entry.line, f"{draft.name}.depends_on", f"there is no step with the key {quoted(key)!r}"
                )
        condition = go_on_without(draft, self._optional, both(*flags, condition))
        draft.condition = condition_text(condition)

    def _take_from_needs(self, draft: JobDraft, reader: StepReader) -> None:
        """Artifacts that the script downloads: from the steps that it names, else from all before that leave some."""
        if not reader.downloads:
            return
        named = [name for key in reader.downloads if key for name in self._jobs.get(key, [])]
        everything = [job.name for job in self._draft.jobs if job.artifacts and job is not draft]
        take_from(draft, named if named and "" not in reader.downloads else everything, self._draft.jobs)


def _plain(label: str) -> str:
    """A label without its emoji, which are written as in :docker:."""
    words = [word for word in label.split() if not (len(word) > 2 and word[0] == word[-1] == ":")]
    return " ".join(words) or label.strip(": ")


def _cycles_refuse(jobs: list[JobDraft]) -> None:
    needs = {job.name: [*job.needs] for job in jobs}
    done: set[str] = set()
    while ready := [name for name, before in needs.items() if name not in done and done.issuperset(before)]:
        done.update(ready)
    if len(done) < len(needs):
        circle = sorted(needs.keys() - done)[:5]
        raise ImportRefused(f"The needs of jobs lead back to themselves, among {', '.join(circle)}.")
