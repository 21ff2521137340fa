"""A pipeline file that is being made. Converters fill it in; `pipeline_write` gives its text."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

from apps.pipelines.importing.writing import Commented, yaml_write

# Jobs, axes, parameters and outputs.
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_-]{0,62}")
_NOT_IN_NAMES = re.compile(r"[^A-Za-z0-9_-]+")
_CRON = re.compile(
    r"(?:\*|[0-9]{1,2}(?:-[0-9]{1,2})?)(?:/[1-9][0-9]?)?(?:,(?:\*|[0-9]{1,2}(?:-[0-9]{1,2})?)(?:/[1-9][0-9]?)?)*"
)
_NOT_IN_LABELS = re.compile(r"[^A-Za-z0-9._:/=-]+")
# The node that reads the file.
_RESERVED = "pipeline"
MAX_JOBS = 1000
MAX_STEPS = 100
MAX_STEP_NAME = 100
MAX_LABELS = 20
MAX_MINUTES = 24 * 60


@dataclass
class StepDraft:
    """One step."""

    run: str
    name: str | None = None
    env: dict[str, str] = field(default_factory=dict)
    timeout: str | None = None
    comments: list[str] = field(default_factory=list)
    # It fails until a person has acted.
    by_hand: bool = False

    def written(self) -> Commented:
        members: dict[str, Any] = {}
        _put(members, "name", one_line(self.name) if self.name else None)
        _put(members, "env", self.env)
        _put(members, "timeout", self.timeout)
        members["run"] = self.run
        return Commented(members, self.comments)


@dataclass
class MatrixDraft:
    """Axes, and the cells that are added and left out."""

    axes: dict[str, list[str]] = field(default_factory=dict)
    cells: list[dict[str, str]] = field(default_factory=list)
    exclude: list[dict[str, str]] = field(default_factory=list)
    max_parallel: int | None = None
    fail_fast: bool = False

    @property
    def names(self) -> set[str]:
        return {*self.axes, *(name for cell in self.cells for name in cell)}

    def written(self) -> dict[str, Any]:
        members: dict[str, Any] = {}
        _put(members, "axes", self.axes)
        _put(members, "include", self.cells)
        _put(members, "exclude", self.exclude)
        _put(members, "max_parallel", self.max_parallel)
        _put(members, "fail_fast", self.fail_fast)
        return members


@dataclass
class JobDraft:
    """One job. `needs` has names of jobs with the result that is asked for."""

    name: str
    steps: list[StepDraft] = field(default_factory=list)
    needs: dict[str, str] = field(default_factory=dict)
    condition: str | None = None
    matrix: MatrixDraft | None = None
    env: dict[str, str] = field(default_factory=dict)
    labels: list[str] = field(default_factory=list)
    timeout: str | None = None
    retries: dict[str, Any] = field(default_factory=dict)
    concurrency: dict[str, Any] = field(default_factory=dict)
    priority: int | None = None
    artifacts: list[str] = field(default_factory=list)
    expire_in: str | None = None
    take: list[str] = field(default_factory=list)
    caches: list[dict[str, Any]] = field(default_factory=list)
    environment: str | None = None
    secrets: list[str] = field(default_factory=list)
    allow_failure: bool = False
    container: str | None = None
    outputs: list[str] = field(default_factory=list)
    reports: dict[str, Any] = field(default_factory=dict)
    submodules: bool = False
    comments: list[str] = field(default_factory=list)
    # In the foreign file.
    line: int = 1

    @property
    def is_whole(self) -> bool:
        """Whether no step of it stops until a person has acted."""
        return not any(step.by_hand for step in self.steps)

    def written(self) -> Commented:
        members: dict[str, Any] = {}
        _put(members, "needs", self._needs())
        _put(members, "if", self.condition)
        _put(members, "matrix", self.matrix.written() if self.matrix else None)
        _put(members, "labels", list(dict.fromkeys(self.labels)))
        for name in ("container", "submodules", "timeout", "retries", "concurrency", "priority", "allow_failure"):
            _put(members, name, getattr(self, name))
        _put(members, "environment", self.environment)
        # A name that is a variable, too, would be refused.
        _put(members, "secrets", [name for name in dict.fromkeys(self.secrets) if name not in self.env])
        _put(members, "env", self.env)
        _put(members, "caches", self.caches)
        _put(members, "artifacts", self._artifacts())
        _put(members, "outputs", list(dict.fromkeys(self.outputs)))
        _put(members, "reports", self.reports)
        members["steps"] = [step.written() for step in self.steps]
        return Commented(members, self.comments)

    def _needs(self) -> list[Any]:
        return [name if result == "success" else {"job": name, "result": result} for name, result in self.needs.items()]

    def _artifacts(self) -> dict[str, Any]:
        members: dict[str, Any] = {}
        _put(members, "from", self.take)
        _put(members, "paths", self.artifacts)
        _put(members, "expire_in", self.expire_in if self.artifacts else None)
        return members


@dataclass
class PipelineDraft:
    """The whole file."""

    jobs: list[JobDraft] = field(default_factory=list)
    env: dict[str, str] = field(default_factory=dict)
    parameters: dict[str, dict[str, Any]] = field(default_factory=dict)
    on: dict[str, Any] = field(default_factory=dict)
    concurrency: dict[str, Any] = field(default_factory=dict)


def pipeline_write(draft: PipelineDraft, comments: list[str]) -> str:
    """The text of the pipeline file."""
    members: dict[str, Any] = {}
    _put(members, "on", draft.on)
    _put(members, "env", draft.env)
    _put(members, "parameters", draft.parameters)
    _put(members, "concurrency", draft.concurrency)
    members["jobs"] = {job.name: job.written() for job in draft.jobs}
    return yaml_write(members, comments)


class Names:
    """Gives each foreign name one that is valid here, and gives none twice."""

    def __init__(self) -> None:
        self._taken = {_RESERVED}

    def new(self, foreign: str) -> str:
        base = name_of(foreign)
        name, number = base, 2
        while name in self._taken:
            name = f"{base[:58]}-{number}"
            number += 1
        self._taken.add(name)
        return name


def name_of(foreign: str) -> str:
    """A valid name that reads like `foreign`."""
    name = _NOT_IN_NAMES.sub("-", foreign).strip("-")[:63].rstrip("-") or "job"
    return name if _NAME.fullmatch(name) else f"_{name[:62]}"


def label_of(foreign: str) -> str | None:
    """A valid label that reads like `foreign`, or None."""
    return _NOT_IN_LABELS.sub("-", foreign).strip("-._:/=")[:63] or None


def one_line(text: str) -> str | None:
    """A text as the name of a step."""
    printable = "".join(character for character in " ".join(text.split()) if character.isprintable())
    return printable[:MAX_STEP_NAME].strip() or None


def cron_is_valid(text: str) -> bool:
    """Whether the times are five fields in numbers."""
    fields = text.split()
    return len(fields) == 5 and all(_CRON.fullmatch(part) for part in fields)


def duration_of(seconds: int) -> str:
    """A number of seconds as a pipeline file has it, as in 1h30m; at least a second, at most a day."""
    seconds = min(max(seconds, 1), MAX_MINUTES * 60)
    parts = ((seconds // 3600, "h"), (seconds % 3600 // 60, "m"), (seconds % 60, "s"))
    return "".join(f"{number}{unit}" for number, unit in parts if number)


def _put(members: dict[str, Any], name: str, value: Any) -> None:
    if value not in (None, [], {}, "", False):
        members[name] = value
