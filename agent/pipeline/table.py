"""The format of a pipeline file as one table. The reader, the JSON Schema and the reference in the guide use it.

A new key is one line here and one attribute of the dataclass that it goes to. Each key has a title, a description and
an example, which stands in the guide; a test reads every example.
"""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any, Optional

from agent.pipeline.constants import (
    CONTAINER_LABEL,
    DEFAULT_TIMEOUT_SECONDS,
    ENV_NAME,
    ENVIRONMENT,
    ENVIRONMENT_FORM,
    FIRST_NODE,
    GUIDE_PATH,
    HIGHEST_PRIORITY,
    IMAGE,
    IMAGE_FORM,
    LABEL,
    LABEL_FORM,
    MAIN_JOB,
    MAX_JOBS,
    MAX_LABELS,
    MAX_OUTPUTS,
    MAX_RETRIES,
    MAX_STEP_NAME,
    MAX_STEPS,
    MAX_TIMEOUT_SECONDS,
    NAME,
    NAME_FORM,
    NEED_RESULTS,
    PULL_REQUEST_TYPES,
    SECRET_NAME,
    SECRET_NAME_FORM,
)
from agent.pipeline.definition import (
    Artifacts,
    Cache,
    Concurrency,
    Job,
    Matrix,
    Need,
    Parameter,
    Reports,
    Retries,
    SecretUse,
    Step,
)
from agent.pipeline.fields import (
    Choice,
    Condition,
    Duration,
    Either,
    Json,
    Key,
    Kind,
    Line,
    ListOf,
    MappingOf,
    Members,
    Name,
    Optionally,
    Pattern,
    Scalar,
    Templated,
    Text,
    Untemplated,
    WholeNumber,
    YesOrNo,
)
from agent.pipeline.nodes import MappingNode, Node, Problems, quoted
from agent.pipeline.parameters import PARAMETER_TYPES, parameter_value

MAX_AXES = 10
MAX_EXCLUDED = 100
MAX_PARAMETERS = 50
MAX_CACHES = 10
MAX_SECRETS = 50
MAX_PATHS = 100
MAX_CONCURRENT = 1000
# For how long the control plane keeps artifacts.
MIN_EXPIRE_SECONDS, MAX_EXPIRE_SECONDS = 3600, 90 * 86400
_MAX_PATTERN = 500

# For a command whose first line has nothing that can be printed.
_UNNAMED = "unnamed step"


def _step(*, run: str, name: Optional[str] = None, **members: Any) -> Step:
    """A step without a name has the printable part of its command's first line as its name."""
    if name is None:
        first_line = run.strip().partition("\n")[0]
        printable = "".join(character for character in first_line if character.isprintable())
        name = printable.strip()[:MAX_STEP_NAME] or _UNNAMED
    return Step(name=name, run=run, **members)


def _main(*, on: Optional[Json] = None, **members: Any) -> tuple[Job, Json]:
    """The job of a file in the form `steps:`, and its triggers."""
    retries = members.pop("retries", None)
    if retries is not None:
        members["retries"] = Retries(max=retries)
    return job_make(MAIN_JOB, members), on or {}


def job_make(name: str, members: Json, *, place: tuple[int, int] = (1, 1)) -> Job:
    """The job of that name. One in a container needs an agent that can run containers."""
    wanted = [*members.get("labels", ()), *([CONTAINER_LABEL] if members.get("container") else ())]
    made = {**members, "labels": list(dict.fromkeys(wanted))}
    artifacts = made.pop("artifacts", None)
    if artifacts:
        made["take"] = artifacts.get("take", [])
        if artifacts.get("paths"):
            made["artifacts"] = Artifacts(artifacts["paths"], artifacts.get("expire_in"))
    return Job(name=name, line=place[0], column=place[1], **made)


def _retries(*, max: Optional[int] = None, on: Optional[list[str]] = None) -> Retries:  # noqa: A002 — the file's word
    default = Retries()
    reasons = ["lost"] if on is None else on
    codes = sorted({int(reason) for reason in reasons if reason != "lost"})
    return Retries(max=default.max if max is None else max, lost="lost" in reasons, exit_codes=codes)


class _Path(Scalar[str]):
    """A pattern of paths in the workspace, or with `plain` one path, which never leads out of it.

    `outside` says what to write instead of a path outside of the workspace.
    """

    def __init__(self, *, plain: bool = False, outside: str = "") -> None:
        self._plain = plain
        self._outside = outside

    def value(self, text: str) -> Optional[str]:
        parts = text.split("/")
        if not text.strip() or not text.isprintable() or len(text) > _MAX_PATTERN:
            return None
        if text.startswith(("/", "~")) or "\\" in text or ".." in parts or (self._plain and re.search(r"[*?]", text)):
            return None
        return text

    def words(self) -> str:
        what = "a path in the workspace" if self._plain else "a path in the workspace, or a pattern with * and **,"
        return f"{what} without .. and without / or ~ at the beginning"

    def form(self) -> str:
        return "text"

    def advice(self, text: str) -> str:
        if self._plain and re.search(r"[*?]", text):
            return "name the folder itself, without * and ?"
        return self._outside if text.startswith(("/", "~")) else ""

    def schema(self) -> Json:
        return {"type": "string", "minLength": 1, "maxLength": _MAX_PATTERN}


class _Cron(Scalar[str]):
    """Minute, hour, day, month and day of the week, as cron has them, in numbers."""

    _RANGES = ((0, 59), (0, 23), (1, 31), (1, 12), (0, 7))
    _PART = re.compile(r"(?:\*|([0-9]{1,2})(?:-([0-9]{1,2}))?)(?:/([1-9][0-9]?))?")

    def value(self, text: str) -> Optional[str]:
        parts = text.split()
        if len(parts) != len(self._RANGES) or len(text) > 100:
            return None
        pairs = zip(parts, self._RANGES)
        return " ".join(parts) if all(self._field_is_valid(part, *limits) for part, limits in pairs) else None

    def _field_is_valid(self, text: str, least: int, most: int) -> bool:
        for part in text.split(","):
            match = self._PART.fullmatch(part)
            if match is None:
                return False
            numbers = [int(number) for number in match.groups()[:2] if number]
            if numbers != sorted(numbers) or not all(least <= number <= most for number in numbers):
                return False
        return True

    def words(self) -> str:
        return "five fields as cron has them, in numbers, as in 30 3 * * 1-5"

    def advice(self, text: str) -> str:
        meant = {"@hourly": "0 * * * *", "@daily": "0 0 * * *", "@midnight": "0 0 * * *", "@weekly": "0 0 * * 0"}
        meant |= {"@monthly": "0 0 1 * *", "@yearly": "0 0 1 1 *", "@annually": "0 0 1 1 *"}
        return f"write {meant[text.lower()]}" if text.lower() in meant else ""

    def schema(self) -> Json:
        return {"type": "string", "pattern": r"^\s*\S+(\s+\S+){4}\s*$"}


class _Parameter(Members[Parameter]):
    """A parameter, whose default and options fit its type."""

    def read(self, node: Node, problems: Problems) -> Optional[Parameter]:
        parameter = super().read(node, problems)
        if parameter is None or not isinstance(node, MappingNode):
            return None
        if (parameter.type == "choice") != bool(parameter.options):
            where = node.members.get("options", node)
            problems.add(where, "must have `options` if, and only if, its type is choice")
            return None
        if parameter.default is None:
            return parameter
        if parameter.required:
            problems.add(node.members["default"], "must be left out of a required parameter")
            return None
        try:
            return replace(parameter, default=parameter_value(parameter, parameter.default))
        except ValueError as error:
            problems.add(node.members["default"], f"{error}, not {quoted(str(parameter.default))!r}")
            return None


def _parameter(**members: Any) -> Parameter:
    return Parameter(name="", **members)


def _templated(plain: Kind[str], place: str = "early") -> Templated:
    return Templated(plain, place)


_LABEL = Pattern(LABEL, LABEL_FORM)
_IMAGE = Pattern(IMAGE, IMAGE_FORM)
_ENV_NAME = Pattern(ENV_NAME, "1 to 255 letters, digits and _, not beginning with a digit")
_SECRET_NAME = Pattern(SECRET_NAME, SECRET_NAME_FORM)
_NAME = Pattern(NAME, NAME_FORM)
_JOB_NAME = Pattern(
    re.compile(rf"(?!{FIRST_NODE}$){NAME.pattern}"), f"{NAME_FORM}, and not {FIRST_NODE}, which is the run's first job"
)
_OUTPUT = Pattern(
    re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,62}"), "1 to 63 letters, digits and _, not beginning with a digit"
)
_REASON = Pattern(
    re.compile(r"lost|[1-9]|[1-9][0-9]|1[0-9][0-9]|2[0-4][0-9]|25[0-5]"), "`lost` or an exit code from 1 to 255"
)

_ENV = MappingOf(_ENV_NAME, Text())
_TIMEOUT = Duration(most=MAX_TIMEOUT_SECONDS)
_LABELS = ListOf(Name(_LABEL), most=MAX_LABELS)
_PATTERNS = ListOf(_templated(_Path()), most=MAX_PATHS, least=1, or_one=True)
_PLAIN_PATTERNS = ListOf(_Path(), most=MAX_PATHS, least=1, or_one=True)
_CACHED = _Path(outside="set the tool's cache folder to one in the workspace, as in `env: {PIP_CACHE_DIR: .cache/pip}`")
_CACHED_PATTERNS = ListOf(_templated(_CACHED), most=MAX_PATHS, least=1, or_one=True)
_PLAIN_CACHED_PATTERNS = ListOf(_CACHED, most=MAX_PATHS, least=1, or_one=True)
_GLOBS = ListOf(Line(max_length=200), most=MAX_PATHS, least=1, or_one=True)
_CELL = MappingOf(_NAME, Line(max_length=100), most=MAX_AXES * 2, least=1)

_VARIABLES = ("variables", "vars", "environment_variables")

_STEP_KEYS = {
    "name": Key(
        Line(max_length=MAX_STEP_NAME),
        "Name of the step",
        "One line of up to 100 characters, for the page and the log. Left out, it is the first line of `run`.",
        "name: unit tests",
    ),
    "run": Key(
        Text(filled=True),
        "Script",
        "A script for sh. Another exit code than 0 fails the job, and the steps after it are skipped.",
        "run: |\n  make build\n  make test",
        short="run: make test",
        advice="write the lines below `run: |`",
        foreign=("command", "commands", "cmd", "script", "sh", "bash"),
    ),
    "env": Key(
        _ENV,
        "Variables of the step",
        "Environment variables for this step; they override those of the job. Values are taken as they are written.",
        "env: {COLOUR: never}",
        foreign=("environment", "variables"),
    ),
    "timeout": Key(
        _TIMEOUT,
        "Time limit of the step",
        "Seconds, or hours, minutes and seconds with their letters. Left out, only the limit of the job applies.",
        "timeout: 10m",
    ),
}

_STEP_HINTS = {
    **dict.fromkeys(
        ("needs", "matrix", "labels", "retries", "container", "submodules", "priority", "caches"),
        "write it beside `steps`, for the whole job",
    ),
    **dict.fromkeys(
        ("concurrency", "artifacts", "secrets", "allow_failure", "outputs", "inputs", "reports"),
        "write it beside `steps`, for the whole job",
    ),
    "steps": "write them as further entries of the list",
    "if": "only jobs have `if`; test it in the script",
    "uses": f"write what it does in `run`; {GUIDE_PATH} shows how",
    "with": f"write what it does in `run`; {GUIDE_PATH} shows how",
    "id": "remove it; jobs give values to later jobs by `outputs`",
    "shell": "remove it; `run` is a script for sh, which can call others",
    **dict.fromkeys(
        ("continue-on-error", "continue_on_error"), "write `|| true` in the script, or `allow_failure: true` in the job"
    ),
    **dict.fromkeys(("working-directory", "working_directory", "dir"), "write `cd` at the beginning of `run`"),
}
STEP = Members(_step, _STEP_KEYS, required=("run",), hints=_STEP_HINTS, alone="run")

GRAPH_STEP = Members(
    _step,
    {
        **_STEP_KEYS,
        "run": replace(
            _STEP_KEYS["run"],
            kind=Untemplated(Text(filled=True), "give the value to the job in `env`, and use it as a variable"),
        ),
        "env": replace(
            _STEP_KEYS["env"],
            kind=MappingOf(_ENV_NAME, Untemplated(Text(), "write it in the `env` of the job", strict=True)),
        ),
    },
    required=("run",),
    hints=_STEP_HINTS,
    alone="run",
)

_STEPS = Key(
    ListOf(STEP, least=1, most=MAX_STEPS),
    "Steps",
    "1 to 100 commands that run one after the other, in the checkout of the repository.",
    "steps:\n  - run: make",
    short="steps: [{run: make}]",
    foreign=("script", "scripts", "run", "command", "commands"),
)

_SUPERSEDED = Key(
    YesOrNo(),
    "Cancel older ones",
    "With true, newer commits of the branch or pull request cancel the runs of older ones, also after a forced push. "
    "Left out: they go on.",
    "cancel_superseded: true",
)

_ON: Members[Json] = Members(
    dict,
    {
        "push": Key(
            Optionally(
                Members(
                    dict,
                    {
                        "branches": Key(
                            _GLOBS, "Branches", "Patterns of branches. Left out: all of them.", "branches: [main]"
                        ),
                        "paths": Key(
                            _GLOBS,
                            "Paths",
                            "Patterns of paths. The run starts if a changed path matches one of them.",
                            "paths: ['src/**', Makefile]",
                        ),
                        "cancel_superseded": _SUPERSEDED,
                    },
                    hints={"tags": "write them beside `push`, as in tag: {names: ['v*']}"},
                ),
                {},
            ),
            "Pushed commits",
            "A run for each push to a branch.",
            "push: {branches: [main, 'release/*']}",
        ),
        "pull_request": Key(
            Optionally(
                Members(
                    dict,
                    {
                        "branches": Key(
                            _GLOBS,
                            "Target branches",
                            "Patterns of the branches that the change is for. Left out: all of them.",
                            "branches: [main]",
                        ),
                        "paths": Key(
                            _GLOBS,
                            "Paths",
                            "Patterns of paths. The run starts if a changed path matches one of them.",
                            "paths: ['src/**']",
                        ),
                        "types": Key(
                            ListOf(Choice(PULL_REQUEST_TYPES, {"synchronized": "synchronize"}), least=1, most=4),
                            "Types",
                            "What happened to the pull request: `opened`, `synchronize` (new commits came), `reopened` "
                            "or `closed`. Left out: all but `closed`.",
                            "types: [opened, synchronize, reopened, closed]",
                        ),
                        "cancel_superseded": _SUPERSEDED,
                    },
                ),
                {},
            ),
            "Pull requests",
            "A run for each pull request that is opened, and for each of its later commits.",
            "pull_request: {branches: [main]}",
            foreign=("merge_request", "merge_requests"),
        ),
        "tag": Key(
            Optionally(
                Members(
                    dict,
                    {"names": Key(_GLOBS, "Names", "Patterns of tags. Left out: all of them.", "names: ['v*']")},
                ),
                {},
            ),
            "Tags",
            "A run for each new tag.",
            "tag: {names: ['v*']}",
        ),
        "schedule": Key(
            ListOf(
                Members(
                    dict,
                    {
                        "cron": Key(
                            _Cron(),
                            "When",
                            "Minute, hour, day, month and day of the week in UTC, in numbers.",
                            "cron: 30 3 * * 1-5",
                        ),
                        "branch": Key(
                            Line(max_length=255), "Branch", "Left out: the pipeline's default ref.", "branch: main"
                        ),
                        "parameters": Key(
                            MappingOf(_NAME, Text(), most=MAX_PARAMETERS),
                            "Parameters",
                            "Values for parameters of the pipeline.",
                            "parameters: {target: staging}",
                        ),
                    },
                    required=("cron",),
                ),
                most=20,
            ),
            "Times",
            "A run at each of these times.",
            "schedule: [{cron: 30 3 * * 1-5}]",
            foreign=("cron",),
        ),
    },
    hints={
        **dict.fromkeys(("workflow_dispatch", "manual", "api"), "remove it; a run can always be started by hand"),
        **dict.fromkeys(("branches", "paths"), "write it in `push` or `pull_request`"),
    },
)

_ON_KEY = Key(
    _ON,
    "What starts a run",
    "The events of the repository that start runs, if the pipeline is bound to a connection to GitHub, GitLab, Gitea "
    "or another sender of webhooks. Without `on`, pushes to the default branch and pull requests do. `schedule` is "
    "checked and kept; users make schedules on the page of the pipeline.",
    "on:\n  push: {branches: [main]}\n  schedule: [{cron: 30 3 * * 1-5}]",
    short="on: {push: {}}",
    foreign=("triggers", "trigger"),
)

_CONCURRENCY = Either(
    _templated(Line(max_length=200), "group"),
    lambda group: Concurrency(group=group),
    Members(
        Concurrency,
        {
            "group": Key(
                _templated(Line(max_length=200), "group"),
                "Group",
                "The name that those have in common which wait for each other, in all pipelines.",
                "group: deploy-${{ parameters.target }}",
                short="group: deploy",
                foreign=("name", "key"),
            ),
            "limit": Key(
                WholeNumber(least=1, most=MAX_CONCURRENT), "Limit", "How many run at once; 1 if left out.", "limit: 2"
            ),
            "cancel_in_progress": Key(
                YesOrNo(),
                "Cancel older ones",
                "With true, a new one cancels those that run or wait in the group. Left out: it waits in line.",
                "cancel_in_progress: true",
            ),
        },
        required=("group",),
    ),
    "the name of a group, or a mapping with it",
)

_NEED = Members(
    Need,
    {
        "job": Key(Name(_NAME), "Job", "The name of another job of the file.", "job: build"),
        "result": Key(
            Choice(
                NEED_RESULTS,
                {"succeeded": "success", "passed": "success", "failed": "failure", "always": "any", "completed": "any"},
            ),
            "How it must end",
            "`success` (if left out): it succeeded, or may fail. `failure`: it failed. `any`: it ended, in whatever "
            "way; it may also have been skipped.",
            "result: any",
        ),
    },
    required=("job",),
    stray="as in {job: build, result: any}",
)

_MATRIX = Members(
    Matrix,
    {
        "axes": Key(
            MappingOf(_NAME, ListOf(Line(max_length=100), least=1, most=MAX_JOBS), most=MAX_AXES),
            "Axes",
            "Up to 10 names with their values. There is one job for each combination. Values are text, as written.",
            "axes:\n  python: ['3.11', '3.12']\n  os: [linux, macos]",
            short="axes: {python: ['3.11', '3.12']}",
            foreign=("matrix",),
        ),
        "include": Key(
            ListOf(_CELL, most=MAX_JOBS),
            "Added values and cells",
            "Each entry adds its other values to the cells that have its values of the axes. If there are none, it is "
            "a cell of its own.",
            "include:\n  - {python: '3.13', os: linux, experimental: 'yes'}",
            short="include: [{python: '3.13', os: linux}]",
        ),
        "exclude": Key(
            ListOf(_CELL, most=MAX_EXCLUDED),
            "Left out cells",
            "Cells that have all the values of an entry are left out, before `include` adds others.",
            "exclude:\n  - {python: '3.11', os: macos}",
            short="exclude: [{python: '3.11', os: macos}]",
        ),
        "max_parallel": Key(
            WholeNumber(least=1, most=MAX_JOBS),
            "Most at once",
            "How many cells run at the same time. Left out: as many as there are agents for.",
            "max_parallel: 2",
        ),
        "fail_fast": Key(
            YesOrNo(),
            "End early",
            "With true, the first cell that fails cancels the others. Left out: each runs to its end.",
            "fail_fast: true",
        ),
    },
    stray="write an axis under `axes`, as in axes: {python: ['3.11', '3.12']}",
)

_RETRIES = Either(
    WholeNumber(least=0, most=MAX_RETRIES),
    lambda number: Retries(max=number),
    Members(
        _retries,
        {
            "max": Key(
                WholeNumber(least=0, most=MAX_RETRIES),
                "How often",
                "0 to 10; 2 if left out.",
                "max: 3",
                foreign=("limit", "attempts", "count"),
            ),
            "on": Key(
                ListOf(Name(_REASON), most=50, least=1, or_one=True),
                "Reasons",
                "`lost`: the agent of the job was lost. A number: the job ended with this exit code. Left out: [lost].",
                "on: [lost, 75]",
                foreign=("when", "exit_codes", "exit_status"),
            ),
        },
    ),
    "a number or a mapping",
)

_EXPIRE_IN = Key(
    Duration(most=MAX_EXPIRE_SECONDS, least=MIN_EXPIRE_SECONDS),
    "Lifetime",
    "How long they are kept, from an hour to 90 days. Left out: 30 days.",
    "expire_in: 30d",
    foreign=("retention-days", "retention_days", "expires"),
)


def _kept(patterns: Kind[list[str]]) -> dict[str, Key]:
    paths = "Files and folders in the workspace, as paths or patterns, that are kept after the job."
    return {"paths": Key(patterns, "Paths", paths, "paths: ['dist/**']"), "expire_in": _EXPIRE_IN}


def _caches(place: str, patterns: Kind[list[str]]) -> ListOf[Cache]:
    """Caches whose keys may name what is known at this place."""
    key = _templated(Line(max_length=400), place)
    cache = Members(
        Cache,
        {
            "key": Key(
                key,
                "Key",
                "The name of the cache. A job that finds none of this name saves one when it has succeeded.",
                "key: pip-${{ hashFiles('requirements/*.txt') }}",
                short="key: pip",
                foreign=("name",),
            ),
            "restore_keys": Key(
                ListOf(key, most=10, or_one=True),
                "Other keys",
                "If there is none of this name, the newest whose name begins with the longest of these is taken.",
                "restore_keys: [pip-]",
            ),
            "paths": Key(patterns, "Paths", "Files and folders in the workspace.", "paths: [.cache/pip]"),
        },
        required=("key", "paths"),
    )
    return ListOf(cache, most=MAX_CACHES)


def _reports(patterns: Kind[list[str]], path: Kind[str]) -> Members[Reports]:
    return Members(
        Reports,
        {
            "junit": Key(patterns, "JUnit", "Paths or patterns of JUnit XML files.", "junit: ['reports/*.xml']"),
            "coverage": Key(path, "Coverage", "A file in Cobertura's format.", "coverage: coverage.xml"),
        },
    )


_ARTIFACTS: Members[Json] = Members(
    dict,
    {
        **_kept(_PATTERNS),
        "from": Key(
            ListOf(Name(_NAME), most=50, least=1, or_one=True),
            "Artifacts of other jobs",
            "Jobs in `needs`, or that those need in turn. Their artifacts are in the workspace before the first step.",
            "from: build",
        ),
    },
    renamed={"from": "take"},
)

# --- jobs -----------------------------------------------------------------------------------------------------------

_SHARED = {
    "labels": Key(
        ListOf(_templated(Name(_LABEL)), most=MAX_LABELS),
        "Labels",
        "Up to 20 labels. The job runs on an agent that has all of them.",
        "labels: [arm64, '${{ matrix.os }}']",
        short="labels: [linux]",
        foreign=("tags", "runs-on", "runs_on", "agents"),
    ),
    "timeout": Key(
        _TIMEOUT,
        "Time limit",
        f"Of the whole job: seconds, or as in 10m and 1h30m; up to 24h. Left out: {DEFAULT_TIMEOUT_SECONDS // 3600}h.",
        "timeout: 30m",
        foreign=("timeout-minutes", "timeout_minutes", "timeout_in_minutes"),
    ),
    "retries": Key(
        _RETRIES,
        "Retries",
        "How often the job runs again after its agent was lost: 0 to 10, 2 if left out. As a mapping, it may also run "
        "again after exit codes.",
        "retries: {max: 3, on: [lost, 75]}",
        foreign=("retry",),
    ),
    "container": Key(
        _templated(Name(_IMAGE)),
        "Container",
        "An image. Steps run in its containers, on agents with the label `container`.",
        "container: python:${{ matrix.python }}-slim",
        short="container: python:3.12-slim",
        advice="write only the image, as in container: python:3.12-slim",
        foreign=("image", "docker"),
    ),
    "submodules": Key(
        YesOrNo(), "Submodules", "With true, the repository's submodules are fetched, and theirs.", "submodules: true"
    ),
    "priority": Key(
        WholeNumber(least=0, most=HIGHEST_PRIORITY),
        "Priority",
        "0 to 100. Waiting jobs with a higher one start first. Left out: that of the run.",
        "priority: 80",
    ),
    "caches": Key(
        _caches("files", _CACHED_PATTERNS),
        "Caches",
        "Up to 10 caches. Later jobs of the pipeline get back what earlier ones saved.",
        "caches:\n  - key: pip-${{ hashFiles('requirements.txt') }}\n    restore_keys: [pip-]\n    paths: [.cache/pip]",
        short="caches: [{key: pip, paths: [.cache/pip]}]",
        foreign=("cache",),
    ),
}

_SECRET = Members(
    SecretUse,
    {
        "name": Key(Name(_SECRET_NAME), "Name", "The name of the secret and of the variable.", "name: KUBECONFIG"),
        "file": Key(
            YesOrNo(),
            "As a file",
            "With true, the variable has the path of a file with the value. The file ends with the job.",
            "file: true",
        ),
    },
    required=("name",),
)

JOB: Members[Json] = Members(
    dict,
    {
        "steps": replace(_STEPS, kind=ListOf(GRAPH_STEP, least=1, most=MAX_STEPS)),
        "needs": Key(
            ListOf(
                Either(Name(_NAME), lambda job: Need(job=job), _NEED, "the name of a job, or a mapping with it"),
                most=MAX_JOBS,
                or_one=True,
            ),
            "Jobs before this one",
            "The job starts when these have ended, and is skipped if one did not end as it asks. A job with a matrix "
            "stands for all of its cells.",
            "needs:\n  - build\n  - {job: lint, result: any}",
            short="needs: [build]",
            foreign=("stage", "depends_on", "depends-on", "dependsOn", "dependencies", "requires", "after"),
        ),
        "if": Key(
            Condition(),
            "Condition",
            "An expression, which the control plane evaluates when all `needs` have ended. If it is false, the job is "
            "skipped.",
            "if: branch == default_branch && changed('src/**')",
            short="if: branch == 'main'",
            foreign=("rules", "only", "when", "condition", "branches"),
        ),
        "matrix": Key(
            _MATRIX,
            "Matrix",
            "Makes several jobs out of one, each with other values, which are in `matrix.AXIS`.",
            "matrix:\n  axes:\n    python: ['3.11', '3.12']",
            short="matrix: {axes: {python: ['3.11', '3.12']}}",
            foreign=("strategy", "parallel"),
        ),
        "env": Key(
            MappingOf(_ENV_NAME, _templated(Text(), "env")),
            "Variables",
            "Environment variables for all steps. Values are taken as they are written, and ${{ … }} is filled in.",
            "env:\n  PYTHON: ${{ matrix.python }}",
            short="env: {CI: 'true'}",
            foreign=_VARIABLES,
        ),
        **_SHARED,
        "concurrency": Key(
            _CONCURRENCY,
            "Concurrency group",
            "Jobs of one group wait for each other, first come, first served; a lost job gives its place back.",
            "concurrency:\n  group: deploy-${{ parameters.target }}\n  limit: 1",
            short="concurrency: {group: deploy, limit: 1}",
            foreign=("resource_group", "concurrency_group"),
        ),
        "artifacts": Key(
            _ARTIFACTS,
            "Artifacts",
            "Files that the job leaves for people and for later jobs, and those that it takes from earlier jobs.",
            "artifacts:\n  paths: ['dist/**']\n  expire_in: 30d",
            short="artifacts: {paths: ['dist/**']}",
            foreign=("artifact_paths",),
        ),
        "environment": Key(
            _templated(Name(Pattern(ENVIRONMENT, ENVIRONMENT_FORM))),
            "Environment",
            "The environment that the job deploys to, as in production. The job waits for its gates, such as approvals "
            "and freezes, is alone in it, and is never retried by itself.",
            "environment: ${{ parameters.target }}",
            short="environment: production",
            advice="write only its name, as in environment: production; variables belong in `env`",
        ),
        "secrets": Key(
            ListOf(
                Either(Name(_SECRET_NAME), SecretUse, _SECRET, "the name of a secret, or a mapping with it"),
                most=MAX_SECRETS,
            ),
            "Secrets",
            "Up to 50 secrets. All steps get each as the variable of its name, or with `file` there the path of a file "
            "with the value, which only they can read. The log shows `***` in place of the values.",
            "secrets:\n  - PYPI_TOKEN\n  - {name: KUBECONFIG, file: true}",
            short="secrets: [PYPI_TOKEN]",
            advice="write only the names, as in secrets: [PYPI_TOKEN]; operators set the values",
        ),
        "allow_failure": Key(
            YesOrNo(),
            "May fail",
            "With true, a failure of the job does not fail the run, and counts as a success for `needs`.",
            "allow_failure: true",
            foreign=("continue-on-error", "continue_on_error", "soft_fail"),
        ),
        "outputs": Key(
            ListOf(Name(_OUTPUT), most=MAX_OUTPUTS),
            "Outputs",
            "Up to 32 names of values. Steps write lines NAME=value to the file $HYBRID_CI_OUTPUT; later jobs read "
            "them as needs.JOB.outputs.NAME.",
            "outputs: [VERSION]",
            advice="write only the names, as in outputs: [VERSION]; steps write the values to $HYBRID_CI_OUTPUT",
        ),
        "inputs": Key(
            ListOf(_Path(plain=True), most=MAX_PATHS, least=1, or_one=True),
            "Inputs",
            "All paths of the repository that the job's result depends on. If nothing in them changed since the job "
            "succeeded, nor in what it needs, that result is taken and the job does not run.",
            "inputs: [src, requirements.txt]",
        ),
        "reports": Key(
            _reports(_PATTERNS, _templated(_Path())),
            "Test reports",
            "Files that the pages show: failed, slow and flaky tests, and the coverage.",
            "reports:\n  junit: reports/*.xml\n  coverage: coverage.xml",
            short="reports: {junit: reports/*.xml}",
        ),
    },
    required=("steps",),
    renamed={"if": "condition"},
    hints={
        "name": "remove it; a job has its name before the colon",
        "on": "write it at the top of the file; a job has `if`",
        "parameters": "write it at the top of the file",
        **dict.fromkeys(("before_script", "after_script"), "write its commands as steps in `steps`"),
        **dict.fromkeys(("uses", "with"), f"write what it does in `steps`; {GUIDE_PATH} shows how"),
        "services": f"start it in a step; {GUIDE_PATH} shows how",
    },
)

PARAMETER = _Parameter(
    _parameter,
    {
        "type": Key(
            Choice(
                PARAMETER_TYPES,
                {
                    **dict.fromkeys(("boolean", "bool"), "flag"),
                    **dict.fromkeys(("string", "str"), "text"),
                    **dict.fromkeys(("integer", "int", "float"), "number"),
                    **dict.fromkeys(("enum", "select", "list"), "choice"),
                },
            ),
            "Type",
            "text (if left out), number, choice or flag (true or false).",
            "type: text",
        ),
        "default": Key(
            Text(),
            "Default",
            "The value if none is given. Without it: empty text, 0, false, or the first option.",
            "default: staging",
            foreign=("value",),
        ),
        "required": Key(YesOrNo(), "Required", "With true, who starts a run must give it.", "required: true"),
        "options": Key(
            ListOf(Line(max_length=100), most=100, least=1),
            "Options",
            "The values that a choice has.",
            "options: [staging, production]",
            foreign=("choices", "values", "enum"),
        ),
        "description": Key(
            Line(max_length=200), "Description", "One line for the page.", "description: where to deploy to"
        ),
    },
    alone="default",
)

DEFAULTS: Members[Json] = Members(
    dict,
    _SHARED,
    hints={
        "env": "write it at the top of the file",
        **dict.fromkeys((name for name in JOB.keys if name not in (*_SHARED, "env")), "write it in each job"),
    },
)

# --- the two forms of a file ----------------------------------------------------------------------------------------

_JOBS_FORM = "write `jobs:` with a job that has these steps, and put it there"
_NOT_BOTH = "write either `steps` or `jobs`"
_JOBS = "write a job under `jobs`, as in jobs: {test: {steps: [{run: make}]}}"
_TOP_HINTS = {
    "include": "remove it; a file has all of its jobs itself",
    **dict.fromkeys(("job", "pipeline"), _JOBS),
    "name": "remove it; the control plane has the pipeline's name",
    "version": "remove it; no version is needed",
}

DEFINITION = Members(
    _main,
    {
        "steps": _STEPS,
        "env": Key(
            _ENV,
            "Variables",
            "For all steps. Values are taken as they are written.",
            "env: {CI: 'true'}",
            foreign=_VARIABLES,
        ),
        "labels": replace(_SHARED["labels"], kind=_LABELS, example="labels: [linux]", short=""),
        "timeout": _SHARED["timeout"],
        "retries": Key(
            WholeNumber(least=0, most=MAX_RETRIES),
            "Retries",
            "How often the job runs again after its agent was lost: 0 to 10, 2 if left out.",
            "retries: 2",
            foreign=("retry",),
        ),
        "container": replace(_SHARED["container"], kind=Name(_IMAGE), example="container: python:3.12-slim", short=""),
        "submodules": _SHARED["submodules"],
        "artifacts": Key(
            Members(dict, _kept(_PLAIN_PATTERNS), required=("paths",)),
            "Artifacts",
            "Files that the job leaves for people.",
            "artifacts: {paths: ['dist/**']}",
        ),
        "caches": replace(_SHARED["caches"], kind=_caches("agent", _PLAIN_CACHED_PATTERNS)),
        "outputs": JOB.keys["outputs"],
        "secrets": JOB.keys["secrets"],
        "reports": replace(JOB.keys["reports"], kind=_reports(_PLAIN_PATTERNS, _Path())),
        "on": _ON_KEY,
    },
    required=("steps",),
    hints={
        **_TOP_HINTS,
        **dict.fromkeys((*JOB.keys, "defaults", "parameters"), _JOBS_FORM),
        "jobs": _NOT_BOTH,
    },
    stray=_JOBS,
)

GRAPH: Members[Json] = Members(
    dict,
    {
        "jobs": Key(
            MappingOf(_JOB_NAME, JOB, most=MAX_JOBS, least=1, deeper=JOB.keys),
            "Jobs",
            "The jobs by their names. They run at the same time as far as `needs` allows, each on its own agent with "
            "its own checkout.",
            "jobs:\n  test:\n    steps:\n      - run: make test",
            short="jobs: {test: {steps: [{run: make test}]}}",
        ),
        "on": _ON_KEY,
        "env": Key(
            MappingOf(_ENV_NAME, _templated(Text())),
            "Variables of all jobs",
            "Environment variables for the steps of all jobs; those of a job override them.",
            "env:\n  CI: 'true'\n  BRANCH: ${{ branch }}",
            short="env: {CI: 'true'}",
            foreign=_VARIABLES,
        ),
        "defaults": Key(
            DEFAULTS,
            "Defaults of jobs",
            "Keys for all jobs. A job that has the key itself does not use the default.",
            "defaults:\n  labels: [linux]\n  timeout: 20m",
            short="defaults: {labels: [linux]}",
            foreign=("default",),
        ),
        "parameters": Key(
            MappingOf(_NAME, PARAMETER, most=MAX_PARAMETERS),
            "Parameters",
            "Values that a run may be started with. The page has a field for each if the control plane keeps the "
            "definition; for a file in the repository, and with `POST /runs`, they are given by name.",
            "parameters:\n  target:\n    type: choice\n    options: [staging, production]\n    default: staging",
            short="parameters: {target: {default: staging}}",
            foreign=("inputs", "params"),
        ),
        "concurrency": Key(
            _CONCURRENCY,
            "Concurrency group of runs",
            "Runs of one group wait for each other.",
            "concurrency: ${{ pipeline }}-${{ branch }}",
        ),
    },
    required=("jobs",),
    # The needs of the jobs that can be read are checked even if others cannot.
    partial=True,
    hints={
        **_TOP_HINTS,
        "steps": _NOT_BOTH,
        **dict.fromkeys(_SHARED, "write it in `defaults`, or in a job"),
        **{
            name: f"write `{own}` instead, in `defaults` or in a job, as in {key.line}"
            for own, key in _SHARED.items()
            for name in key.foreign
        },
    },
    stray=_JOBS,
)

# What a file may have at its top, in either form.
TOP_KEYS = frozenset((*DEFINITION.keys, *GRAPH.keys))
