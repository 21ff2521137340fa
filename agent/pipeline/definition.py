"""What a pipeline file says: its parts. `reader` makes one from YAML, `graph` makes nodes of it.

docs/guide/pipelines.md describes the file. What a text has between ``${{`` and ``}}`` is still in it; `expressions`
fills it in.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields
from typing import Any, Optional, Union

from agent.pipeline.constants import DEFAULT_RETRIES

Value = Union[str, bool, int, float]


@dataclass(frozen=True)
class Step:
    """One command. `timeout` is in seconds; None: only the limit of the whole job applies."""

    name: str
    run: str
    env: dict[str, str] = field(default_factory=dict)
    timeout: Optional[int] = None


@dataclass(frozen=True)
class Need:
    """Another job that ends before this one, and how it has to end for this one to run."""

    job: str
    result: str = "success"


@dataclass(frozen=True)
class Matrix:
    """The axes with their values, and the cells to leave out or to add. A value is text, as it is written."""

    axes: dict[str, list[str]] = field(default_factory=dict)
    include: list[dict[str, str]] = field(default_factory=list)
    exclude: list[dict[str, str]] = field(default_factory=list)
    max_parallel: Optional[int] = None
    fail_fast: bool = False


@dataclass(frozen=True)
class Retries:
    """How often a job runs again, and why: its agent was `lost`, or it ended with one of these exit codes."""

    max: int = DEFAULT_RETRIES
    lost: bool = True
    exit_codes: list[int] = field(default_factory=list)


@dataclass(frozen=True)
class Concurrency:
    """At most `limit` jobs or runs of the same `group` run at once; the others wait in order, or end the older ones."""

    group: str
    limit: int = 1
    cancel_in_progress: bool = False


@dataclass(frozen=True)
class Artifacts:
    """The files that a job leaves behind: patterns of paths in the workspace, and how many seconds they are kept."""

    paths: list[str]
    expire_in: Optional[int] = None


@dataclass(frozen=True)
class Cache:
    """Paths that later jobs get back: those saved under `key`, else the newest under the longest of `restore_keys`."""

    key: str
    paths: list[str]
    restore_keys: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class SecretUse:
    """A secret that the steps of a job get: as the variable of its name, or with `file` there the path of a file."""

    name: str
    file: bool = False

    def as_stored(self) -> Union[str, dict[str, Any]]:
        """The use as JSON: the name alone, or a mapping."""
        return {"name": self.name, "file": True} if self.file else self.name

    @classmethod
    def from_stored(cls, stored: Union[str, dict[str, Any]]) -> SecretUse:
        """The use that `as_stored` gave, also in an earlier version, which kept names alone."""
        return cls(stored) if isinstance(stored, str) else cls(str(stored["name"]), bool(stored.get("file")))


@dataclass(frozen=True)
class Reports:
    """Patterns of the paths of JUnit files, and the path of a Cobertura file."""

    junit: list[str] = field(default_factory=list)
    coverage: Optional[str] = None


@dataclass(frozen=True)
class Parameter:
    """A value that the one who starts a run can give. `type` is text, number, choice or flag."""

    name: str
    type: str = "text"
    default: Optional[Value] = None
    required: bool = False
    options: list[str] = field(default_factory=list)
    description: str = ""


@dataclass(frozen=True)
class Job:
    """One job of the file. `timeout` is in seconds; `take` names the jobs whose artifacts it gets.

    `line` and `column` are where the file has it.
    """

    name: str
    steps: list[Step]
    needs: list[Need] = field(default_factory=list)
    condition: Optional[str] = None
    matrix: Optional[Matrix] = None
    env: dict[str, str] = field(default_factory=dict)
    labels: list[str] = field(default_factory=list)
    timeout: Optional[int] = None
    retries: Retries = field(default_factory=Retries)
    concurrency: Optional[Concurrency] = None
    priority: Optional[int] = None
    artifacts: Optional[Artifacts] = None
    take: list[str] = field(default_factory=list)
    caches: list[Cache] = field(default_factory=list)
    environment: Optional[str] = None
    secrets: list[SecretUse] = field(default_factory=list)
    allow_failure: bool = False
    container: Optional[str] = None
    submodules: bool = False
    outputs: list[str] = field(default_factory=list)
    inputs: list[str] = field(default_factory=list)
    reports: Reports = field(default_factory=Reports)
    line: int = field(default=1, compare=False)
    column: int = field(default=1, compare=False)


@dataclass(frozen=True)
class Pipeline:
    """A valid file. A file in the form `steps:` is no graph; its one job is `MAIN_JOB`.

    `on` has the triggers: ``{"push": {"branches": […], "paths": […]}, "schedule": [{"cron": …}]}``.
    """

    jobs: dict[str, Job]
    env: dict[str, str] = field(default_factory=dict)
    parameters: dict[str, Parameter] = field(default_factory=dict)
    on: dict[str, Any] = field(default_factory=dict)
    concurrency: Optional[Concurrency] = None
    is_graph: bool = True


@dataclass(frozen=True)
class Node:
    """One job of a run: a job of the file, or one cell of its matrix. All members are as JSON has them.

    `needs` are nodes: ``{"node": name, "result": "success"}``. `group` is None, or has the members of `Concurrency`
    with the name of the group in `name`. `max_parallel` and `fail_fast` are those of the matrix. `secrets` are as
    `SecretUse.as_stored` gives them. The steps are in ``Pipeline.jobs[node.job].steps``, once for all cells.
    """

    name: str
    job: str
    cell: dict[str, str] = field(default_factory=dict)
    needs: list[dict[str, str]] = field(default_factory=list)
    condition: Optional[str] = None
    env: dict[str, str] = field(default_factory=dict)
    labels: list[str] = field(default_factory=list)
    timeout: Optional[int] = None
    retries: dict[str, Any] = field(default_factory=lambda: vars(Retries()).copy())
    priority: Optional[int] = None
    group: Optional[dict[str, Any]] = None
    max_parallel: Optional[int] = None
    fail_fast: bool = False
    allow_failure: bool = False
    container: Optional[str] = None
    submodules: bool = False
    artifacts: Optional[dict[str, Any]] = None
    take: list[str] = field(default_factory=list)
    caches: list[dict[str, Any]] = field(default_factory=list)
    environment: Optional[str] = None
    secrets: list[Any] = field(default_factory=list)
    outputs: list[str] = field(default_factory=list)
    inputs: list[str] = field(default_factory=list)
    reports: dict[str, Any] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """The node as JSON, without the members that have their defaults."""
        default = Node("", "")
        members = ((member.name, getattr(self, member.name)) for member in fields(self))
        return {name: value for name, value in members if value != getattr(default, name)}

    @classmethod
    def from_dict(cls, members: dict[str, Any]) -> Node:
        """The node that `as_dict` gave, also when a newer version added members."""
        return cls(**{member.name: members[member.name] for member in fields(cls) if member.name in members})


def names_before(name: str, needs: Mapping[str, Iterable[str]]) -> set[str]:
    """The names that this one needs, itself or through others. `needs` has what each name needs itself."""
    found: set[str] = set()
    waiting = [*needs.get(name, ())]
    while waiting:
        other = waiting.pop()
        if other not in found:
            found.add(other)
            waiting += needs.get(other, ())
    return found
