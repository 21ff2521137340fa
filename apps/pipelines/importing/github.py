"""Workflows of GitHub Actions."""

from __future__ import annotations

import re
from itertools import product

from apps.pipelines.definitions import PULL_REQUEST_TYPES, SECRET_NAME
from apps.pipelines.importing.drafts import (
    MAX_LABELS,
    MAX_STEPS,
    JobDraft,
    MatrixDraft,
    Names,
    PipelineDraft,
    cron_is_valid,
    duration_of,
    label_of,
    name_of,
)
from apps.pipelines.importing.expressions import Condition, condition_text
from apps.pipelines.importing.foreign import (
    Mapping,
    Scalar,
    Sequence,
    Value,
    document_of,
    entries_of,
    members_of,
    scalar_text,
    truth,
)
from apps.pipelines.importing.github_steps import StepContext, steps_convert
from apps.pipelines.importing.github_values import Values, output_name
from apps.pipelines.importing.remarks import ImportRefused, Remarks, Unmapped, quoted
from apps.pipelines.importing.scripts import by_hand_step, variable_step
from apps.pipelines.importing.sections import Section

_HOSTED = re.compile(r"(ubuntu|macos|windows)-[a-z0-9.-]+")
_SYSTEMS = {"ubuntu": "linux", "macos": "macos", "windows": "windows"}
_RUNNERS = {"linux": "Linux", "macos": "macOS", "windows": "Windows"}
_NO_STATUS = ("success()", "failure()", "always()", "cancelled()")
_MAX_CELLS = 256
_TYPES = {"string": "text", "number": "number", "boolean": "flag", "choice": "choice", "environment": "text"}


def github_convert(documents: list[Value], remarks: Remarks) -> PipelineDraft:
    """The pipeline. Raises ImportRefused."""
    node = document_of(documents)
    if not members_of(members_of(node).get("jobs")):
        raise ImportRefused("The file is no workflow of GitHub Actions: it has no mapping `jobs` with a job in it.")
    return _Workflow(node, remarks).convert()


class _Workflow:
    def __init__(self, node: Value, remarks: Remarks) -> None:
        self._remarks = remarks
        self._root = Section(node, "", remarks)
        self._draft = PipelineDraft()
        self._names: dict[str, str] = {}
        self._kinds: dict[str, str] = {}
        # Variables of all jobs whose values have no counterpart.
        self._missing: list[str] = []

    def convert(self) -> PipelineDraft:
        root = self._root
        root.take("name")
        root.leave({"run-name": "runs have no names of their own", "permissions": _PERMISSIONS})
        self._triggers(root.take("on"))
        jobs = members_of(root.take("jobs"))
        self._environment()
        defaults = root.section("defaults")
        run = defaults.section("run")
        shell, folder = run.text("shell"), run.text("working-directory")
        self._concurrency()
        names = Names()
        self._names = {there: names.new(there) for there in jobs}
        outputs = {there: [*members_of(members_of(node).get("outputs"))] for there, node in jobs.items()}
        artifacts = _artifacts(jobs, self._names)
        for there, node in jobs.items():
            job = _Job(there, node, self._names, outputs, self._kinds, set(self._draft.env), self._remarks)
            made = job.convert(artifacts, shell, folder)
            made.steps[:0] = [variable_step(name) for name in self._missing if name not in made.env]
            self._draft.jobs.append(made)
        for section in (run, defaults, root):
            section.close()
        return self._draft

    def _environment(self) -> None:
        env = self._root.section("env")
        values = Values(JobDraft("pipeline"), parameters=self._kinds)
        for name, node in members_of(env.node).items():
            env.take(name)
            try:
                self._draft.env[name] = values.inline(scalar_text(node) or "")
            except Unmapped as problem:
                env.note(name, f"{problem}; the variable is missing, so the jobs stop", node)
                self._missing.append(name)
        env.close()

    def _concurrency(self) -> None:
        node = self._root.take("concurrency")
        if node is not None:
            values = Values(JobDraft("pipeline"), parameters=self._kinds)
            self._draft.concurrency = concurrency_convert(node, values, "concurrency", self._remarks)

    def _triggers(self, node: Value | None) -> None:
        events: dict[str, Value | None] = dict(members_of(node))
        for entry in entries_of(node) if not events else []:
            events[scalar_text(entry) or ""] = None
        for name, options in events.items():
            subject = f"on.{quoted(name, 40)}"
            line = (options or node or self._root).line
            if name in ("push", "pull_request", "pull_request_target"):
                self._ref_trigger(name, options, subject, line)
            elif name == "schedule":
                self._schedule(options, subject)
            elif name in ("workflow_dispatch", "workflow_call"):
                self._inputs(Section(options, subject, self._remarks))
            else:
                self._remarks.add(line, subject, "starts no run here; what knows of it can send POST /runs")

    def _schedule(self, options: Value | None, subject: str) -> None:
        for entry in entries_of(options):
            cron = scalar_text(members_of(entry).get("cron")) or ""
            if cron_is_valid(cron):
                self._draft.on.setdefault("schedule", []).append({"cron": cron})
            else:
                self._remarks.add(entry.line, subject, f"{quoted(cron)!r} has other parts than numbers, * , - and /")

    def _ref_trigger(self, name: str, options: Value | None, subject: str, line: int) -> None:
        section = Section(options, subject, self._remarks)
        filters: dict[str, list[str]] = {}
        for key in ("branches", "tags", "paths"):
            if kept := _patterns(section, key):
                filters[key] = kept
        for key in ("branches-ignore", "tags-ignore", "paths-ignore"):
            if section.texts(key):
                section.note(key, "has no counterpart; use `if` with changed() or with branch in the jobs")
        if types := _types(section):
            filters["types"] = types
        section.close()
        event = "pull_request" if name.startswith("pull_request") else "push"
        if name == "pull_request_target":
            self._remarks.add(line, subject, "became pull_request; runs of forks get no secrets here")
        if tags := filters.pop("tags", None):
            self._draft.on["tag"] = {} if tags in (["*"], ["**"]) else {"names": tags}
        elif event == "push" and not filters:
            self._draft.on["tag"] = {}
        if event == "pull_request" or filters or not tags:
            self._draft.on[event] = filters

    def _inputs(self, section: Section) -> None:
        inputs = section.section("inputs")
        for name, node in members_of(inputs.node).items():
            inputs.take(name)
            options = Section(node, inputs.path(name), self._remarks)
            kind = _TYPES.get(options.text("type") or "string", "text")
            here = name_of(name)
            if here != name:
                options.note("", f"became the parameter {here}", node)
            self._draft.parameters[here] = _parameter(kind, options)
            self._kinds[here] = str(self._draft.parameters[here]["type"])
            options.leave({"deprecationMessage": "has no counterpart"})
            options.close()
        section.leave({"secrets": "secrets of a pipeline need no list", "outputs": "a run has no outputs of its own"})
        section.close()


def _types(section: Section) -> list[str]:
    types = section.texts("types")
    known = [one for one in types if one in PULL_REQUEST_TYPES]
    if known != types:
        section.note("types", f"only {', '.join(PULL_REQUEST_TYPES)} start runs here; the others were left out")
    return known


def _patterns(section: Section, key: str) -> list[str]:
    patterns = section.texts(key)
    kept = [pattern for pattern in patterns if not pattern.startswith("!")]
    if kept != patterns:
        section.note(key, "patterns that begin with ! have no counterpart; they were left out")
    return kept


def _parameter(kind: str, options: Section) -> dict[str, str | bool | list[str]]:
    """An input as a parameter; a default that its type does not have is left out."""
    choices = [choice for choice in options.texts("options") if choice.strip()]
    default, required = options.text("default"), truth(options.take("required"))
    description = " ".join((options.text("description") or "").split())[:200]
    if kind == "choice" and not choices:
        kind = "text"
    fits = {
        "choice": default in choices,
        "flag": default in ("true", "false"),
        "number": bool(re.fullmatch(r"-?[0-9]{1,15}(\.[0-9]{1,9})?", default or "")),
    }
    parameter: dict[str, str | bool | list[str]] = {"type": kind, "description": description}
    if default and fits.get(kind, True):
        parameter["default"] = default
    elif required and kind != "flag":
        parameter["required"] = True
    if kind == "choice":
        parameter["options"] = choices
    return {name: value for name, value in parameter.items() if value}


_PERMISSIONS = "steps get no token for GitHub, so there is nothing to permit"


class _Job:
    def __init__(
        self,
        there: str,
        node: Value,
        names: dict[str, str],
        outputs: dict[str, list[str]],
        parameters: dict[str, str],
        env: set[str],
        remarks: Remarks,
    ) -> None:
        self._remarks = remarks.scope()
        self._section = Section(node, f"jobs.{quoted(there, 40)}", self._remarks)
        self._names = names
        self._draft = JobDraft(names[there], line=node.line)
        self._values = Values(self._draft, outputs=outputs, parameters=parameters, known_env=env)
        self._outputs = outputs

    def convert(self, artifacts: dict[str, list[str]], shell: str | None, folder: str | None) -> JobDraft:
        section, draft = self._section, self._draft
        if (title := section.text("name")) and title != draft.name:
            draft.comments.append(title)
        self._needs()
        self._matrix()
        self._runner()
        self._container()
        self._env()
        self._condition()
        self._limits()
        self._simple()
        defaults = section.section("defaults")
        run = defaults.section("run")
        context = StepContext(draft, self._values, self._remarks, artifacts)
        context.shell, context.folder = run.text("shell") or shell, run.text("working-directory") or folder
        run.close()
        defaults.close()
        self._steps(context)
        self._job_outputs(context)
        section.close()
        comments = self._remarks.close()
        own = [comment for comment in comments if ".steps[" not in comment]
        draft.comments += [comment for comment in own if comment not in draft.comments]
        return draft

    def _needs(self) -> None:
        for there in self._section.texts("needs"):
            if there in self._names:
                self._draft.needs[self._names[there]] = "success"
                self._values.needs[there] = self._names[there]
            else:
                self._section.note("needs", f"there is no job {quoted(there)!r}")

    def _matrix(self) -> None:
        strategy = self._section.section("strategy")
        node = strategy.take("matrix")
        fail_fast, parallel = strategy.take("fail-fast"), strategy.text("max-parallel")
        strategy.close()
        if node is None:
            return
        matrix = MatrixDraft(fail_fast=truth(fail_fast) is not False)
        matrix.max_parallel = int(parallel[:4]) if parallel and parallel.isdecimal() and int(parallel[:4]) else None
        try:
            _matrix_fill(matrix, node, self._values.axes)
        except Unmapped as problem:
            self._stop("strategy.matrix", str(problem), node)
            self._values.axes.clear()
            return
        fits = all(len(value) <= 100 and value.isprintable() for value in _all_values(matrix))
        if not fits:
            self._stop("strategy.matrix", "a value has more than one line or more than 100 characters", node)
            self._values.axes.clear()
            return
        self._draft.matrix = matrix if matrix.axes or matrix.cells else None

    def _stop(self, name: str, reason: str, node: Value | None) -> None:
        """Note what decides about the whole job, and let it fail until a person has acted."""
        self._section.note(name, reason, node)
        line = node.line if node is not None else self._section.line
        self._draft.steps.append(by_hand_step(name, f"line {line}, {name}: {reason}"))

    def _runner(self) -> None:
        node = self._section.take("runs-on")
        if isinstance(node, Mapping):
            group = Section(node, self._section.path("runs-on"), self._remarks)
            group.leave({"group": "groups of runners have no counterpart; use labels"})
            node = group.take("labels")
            group.close()
        texts = self._section.flat(node, "runs-on")
        for text in texts:
            self._label(text, node)

    def _label(self, text: str, node: Value | None) -> None:
        hosted = _HOSTED.fullmatch(text)
        if hosted:
            label: str | None = _SYSTEMS[hosted[1]]
            self._values.runner = _RUNNERS[label or ""]
            if label == "windows":
                self._section.note("runs-on", "agents run on Linux and macOS; their steps are scripts for sh", node)
        elif text == "self-hosted":
            return
        elif "${{" in text:
            label = self._inline(text, "runs-on", node)
            self._section.note("runs-on", "agents must have the labels that the matrix names", node)
        else:
            label = label_of(text.lower() if text in ("Linux", "macOS", "Windows") else text)
        if label and len(self._draft.labels) < MAX_LABELS:
            self._draft.labels.append(label)

    def _inline(self, text: str, name: str, node: Value | None) -> str | None:
        try:
            return self._values.inline(text)
        except Unmapped as problem:
            self._section.note(name, str(problem), node)
            return None

    def _container(self) -> None:
        node = self._section.take("container")
        image = scalar_text(node)
        if isinstance(node, Mapping):
            options = Section(node, self._section.path("container"), self._remarks)
            image = options.text("image")
            for name, member in members_of(options.take("env")).items():
                self._draft.env[name] = scalar_text(member) or ""
            options.leave(
                {
                    "credentials": "agents pull with the credentials of their machine",
                    "options": "containers get no options from a file",
                    "ports": "containers have no ports",
                    "volumes": "containers get the workspace and nothing else of the machine",
                }
            )
            options.close()
        if image:
            self._draft.container = self._inline(image, "container", node)
        services = self._section.take("services")
        for name, member in members_of(services).items():
            self._service(name, member)

    def _service(self, name: str, node: Value) -> None:
        image = scalar_text(node) or scalar_text(members_of(node).get("image")) or "?"
        options = Section(node, "", Remarks())
        details = [f"{key}: {', '.join(_flat_texts(options.take(key)))}" for key in members_of(node) if key != "image"]
        what = f"runs no service here; start {quoted(image)} in a step, or on the agent's machine"
        self._section.note(
            f"services.{quoted(name, 40)}", what + (f" ({quoted('; '.join(details), 300)})" if details else ""), node
        )

    def _env(self) -> None:
        env = self._section.section("env")
        for name, node in members_of(env.node).items():
            env.take(name)
            text = scalar_text(node) or ""
            secret = re.fullmatch(r"\$\{\{\s*secrets\.(\w+)\s*\}\}", text)
            if secret and secret[1] == name and SECRET_NAME.fullmatch(name):
                self._values.secret(name)
                continue
            try:
                self._draft.env[name] = self._values.inline(text, late=True)
                self._values.known_env = {*self._values.known_env, name}
            except Unmapped as problem:
                env.note(name, f"{problem}; the variable is missing, so the job stops", node)
                self._draft.steps.append(variable_step(name))
        env.close()

    def _condition(self) -> None:
        node = self._section.take("if")
        text = scalar_text(node)
        if not text:
            return
        try:
            outcome = self._values.condition(text)
        except Unmapped as problem:
            self._stop("if", str(problem), node)
            return
        for note in self._values.notes:
            self._section.note("if", note, node)
        self._draft.condition = condition_text(outcome)
        if isinstance(outcome, Condition) and any(call in outcome.text for call in _NO_STATUS):
            self._draft.needs = dict.fromkeys(self._draft.needs, "any")

    def _limits(self) -> None:
        minutes = self._section.text("timeout-minutes")
        if minutes and minutes.isdecimal():
            self._draft.timeout = duration_of(int(minutes[:6]) * 60)
        elif minutes:
            self._section.note("timeout-minutes", f"{quoted(minutes)!r} is no number of minutes")
        else:
            self._draft.timeout = "6h"
        node = self._section.take("continue-on-error")
        if truth(node) is not None:
            self._draft.allow_failure = bool(truth(node))
        elif node is not None:
            self._section.note("continue-on-error", "is decided for the whole job here; write allow_failure", node)
        concurrency = self._section.take("concurrency")
        if concurrency is not None:
            path = self._section.path("concurrency")
            self._draft.concurrency = concurrency_convert(concurrency, self._values, path, self._remarks)

    def _simple(self) -> None:
        node = self._section.take("environment")
        name = scalar_text(node) or scalar_text(members_of(node).get("name"))
        if name and re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,54}", name):
            self._draft.environment = name
        elif node is not None:
            self._section.note("environment", "is no name of an environment here", node)
        self._section.leave({"permissions": _PERMISSIONS, "snapshot": "has no counterpart"})

    def _steps(self, context: StepContext) -> None:
        uses = self._section.take("uses")
        if uses is not None:
            called = quoted(scalar_text(uses) or "?", 100)
            self._section.take("with")
            self._section.take("secrets")
            self._stop(
                "uses", f"the workflow {called} is not a part of this file; convert it, too, and copy its jobs", uses
            )
        steps_convert(entries_of(self._section.take("steps")), context, self._section.subject)
        if len(self._draft.steps) > MAX_STEPS:
            reason = f"a job has at most {MAX_STEPS} steps; the others were left out"
            self._section.note("steps", reason)
            self._draft.steps[MAX_STEPS - 1 :] = [by_hand_step("too many steps", reason)]
        if not self._draft.steps:
            self._draft.steps.append(by_hand_step("no steps", "the job has no step that does anything here"))

    def _job_outputs(self, context: StepContext) -> None:
        section = self._section.section("outputs")
        for name, node in members_of(section.node).items():
            section.take(name)
            text = scalar_text(node) or ""
            source = re.fullmatch(r"\$\{\{\s*steps\.([\w-]+)\.outputs\.([\w-]+)\s*\}\}", text)
            here = output_name(name)
            if here not in self._draft.outputs:
                self._draft.outputs.append(here)
            if not (source and source[2] == here and source[1] in context.scripts):
                reason = f"write {here}=VALUE to $HYBRID_CI_OUTPUT in a step of this job; it was {quoted(text)}"
                section.note(name, reason, node)
        section.close()


def concurrency_convert(node: Value, values: Values, path: str, remarks: Remarks) -> dict[str, str | bool]:
    """A group. Jobs of one group wait in order here, unless the file cancels the older one."""
    section = Section(node if isinstance(node, Mapping) else None, path, remarks)
    cancel_node = section.take("cancel-in-progress")
    group = section.text("group") or scalar_text(node) or ""
    section.close()
    try:
        members: dict[str, str | bool] = {"group": values.inline(group, late=True)}
    except Unmapped as problem:
        remarks.add(node.line, path, f"{problem}; the group was left out")
        return {}
    if truth(cancel_node):
        members["cancel_in_progress"] = True
    elif cancel_node is not None and truth(cancel_node) is None:
        remarks.add(
            cancel_node.line, path, "cancel-in-progress is true or false here, and no condition; it was left out"
        )
    return members if group else {}


def _artifacts(jobs: dict[str, Value], names: dict[str, str]) -> dict[str, list[str]]:
    """The jobs here that upload each artifact, by its name."""
    found: dict[str, list[str]] = {}
    for there, node in jobs.items():
        for step in entries_of(members_of(node).get("steps")):
            uses = scalar_text(members_of(step).get("uses")) or ""
            if uses.lower().startswith("actions/upload-artifact@"):
                name = scalar_text(members_of(members_of(step).get("with")).get("name")) or "artifact"
                found.setdefault(name, []).append(names[there])
    return found


def _flat_texts(node: Value | None) -> list[str]:
    if isinstance(node, Scalar):
        return [node.text]
    members = members_of(node)
    if members:
        return [f"{key}={' '.join(_flat_texts(member))}" for key, member in members.items()]
    return [text for entry in entries_of(node) if entry is not node for text in _flat_texts(entry)]


def _matrix_fill(matrix: MatrixDraft, node: Value, paths: dict[str, str]) -> None:
    """Fill in a matrix. `paths` gets the axis of each path. Raises Unmapped."""
    if not isinstance(node, Mapping):
        raise Unmapped(
            f"the matrix {quoted(scalar_text(node) or 'as a list')} is made by an earlier job; "
            "`agent.pyz upload` adds jobs to a run"
        )
    axes: dict[str, list[dict[str, str]]] = {}
    for name, member in node.members.items():
        if name in ("include", "exclude"):
            continue
        if not isinstance(member, Sequence):
            raise Unmapped(f"the axis {quoted(name)} is no list, but made by an expression")
        axes[name] = [_cell({name: entry}, paths) for entry in member.entries]
    matrix.exclude = _cells(node.members.get("exclude"), paths)
    matrix.cells = _cells(node.members.get("include"), paths)
    if all(len(cell) == 1 and all(cell.values()) for values in axes.values() for cell in values):
        matrix.axes = {
            next(iter(cells[0])): [value for cell in cells for value in cell.values()]
            for cells in axes.values()
            if cells
        }
        return
    count = 1
    for values in axes.values():
        count *= max(len(values), 1)
    if count > _MAX_CELLS:
        raise Unmapped(f"the matrix has more than {_MAX_CELLS} jobs")
    made = [{key: value for cell in cells for key, value in cell.items()} for cells in product(*axes.values())]
    kept = [cell for cell in made if not any(entry.items() <= cell.items() for entry in matrix.exclude)]
    matrix.exclude = []
    matrix.cells = [{axis: value for axis, value in cell.items() if value} for cell in [*kept, *matrix.cells]]


def _all_values(matrix: MatrixDraft) -> list[str]:
    cells = [*matrix.cells, *matrix.exclude]
    listed = [value for cell in cells for value in cell.values()]
    return [*listed, *(value for values in matrix.axes.values() for value in values)]


def _cells(node: Value | None, paths: dict[str, str]) -> list[dict[str, str]]:
    if node is not None and not isinstance(node, Sequence):
        raise Unmapped("`include` and `exclude` must be lists, and not made by an expression")
    return [_cell(members_of(entry), paths) for entry in entries_of(node)]


def _cell(members: dict[str, Value], paths: dict[str, str], prefix: str = "") -> dict[str, str]:
    """The values of a cell, with one axis for each value inside of a mapping."""
    cell: dict[str, str] = {}
    for name, node in members.items():
        path = f"{prefix}.{name}" if prefix else name
        if isinstance(node, Mapping):
            cell.update(_cell(node.members, paths, path))
        elif isinstance(node, Sequence):
            cell[paths.setdefault(path, _axis(path))] = " ".join(_flat_texts(node))
        else:
            text = node.text if isinstance(node, Scalar) and not node.is_null else ""
            if "${{" in text:
                raise Unmapped(f"the value {quoted(text)} of the matrix is made by an expression")
            cell[paths.setdefault(path, _axis(path))] = text
    return cell


def _axis(path: str) -> str:
    return name_of(path.replace(".", "_"))
