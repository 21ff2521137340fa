"""The format of a pipeline definition as one table, and the function that reads a text by it.

A new member is one line in the table, one attribute of the dataclass that it goes to, and one line in the example at
the top of `definitions`; a test compares the three.
"""

import json
from typing import Any

from apps.pipelines.definitions import (
    CONTAINER_LABEL,
    ENV_NAME,
    IMAGE,
    MAX_RETRIES,
    MAX_STORED_BYTES,
    MAX_TIMEOUT_SECONDS,
    Definition,
    Step,
)
from apps.pipelines.fields import (
    Duration,
    Line,
    ListOf,
    MappingOf,
    Members,
    Name,
    Names,
    Pattern,
    Text,
    WholeNumber,
    YesOrNo,
)
from apps.pipelines.nodes import Node, Problems, TooManyProblems
from apps.pipelines.yaml_nodes import compose
from controlplane.lib.labels import LABEL, LABEL_FORM, MAX_LABELS
from controlplane.lib.steps import MAX_STEP_NAME, MAX_STEPS

# For a command whose first line has nothing that can be printed.
_UNNAMED = "unnamed step"


def _step(*, run: str, name: str | None = None, **members: Any) -> Step:
    """A step without a name has the printable part of its command's first line as its name."""
    if name is None:
        first_line = run.strip().partition("\n")[0]
        printable = "".join(character for character in first_line if character.isprintable())
        name = printable.strip()[:MAX_STEP_NAME] or _UNNAMED
    return Step(name=name, run=run, **members)


def _definition(*, labels: list[str] | None = None, container: str | None = None, **members: Any) -> Definition:
    """A job in a container needs an agent that can run containers."""
    wanted = [*(labels or []), *([CONTAINER_LABEL] if container else [])]
    return Definition(labels=list(dict.fromkeys(wanted)), container=container, **members)


_LABEL = Pattern(LABEL, LABEL_FORM)
_IMAGE = Pattern(IMAGE, "an image, as in python:3.12-slim or registry.example.org/team/image:1")
_ENV_NAME = Pattern(ENV_NAME, "1 to 255 letters, digits and _, not beginning with a digit")

_ENV = MappingOf(_ENV_NAME, Text())
_TIMEOUT = Duration(most=MAX_TIMEOUT_SECONDS)

STEP = Members(
    _step,
    {
        "name": Line(max_length=MAX_STEP_NAME),
        "run": Text(filled=True),
        "env": _ENV,
        "timeout": _TIMEOUT,
    },
    required=("run",),
)

DEFINITION = Members(
    _definition,
    {
        "steps": ListOf(STEP, least=1, most=MAX_STEPS),
        "env": _ENV,
        "labels": Names(Name(_LABEL), most=MAX_LABELS),
        "timeout": _TIMEOUT,
        "retries": WholeNumber(least=0, most=MAX_RETRIES),
        "container": Name(_IMAGE),
        "submodules": YesOrNo(),
    },
    required=("steps",),
)


def definition_read(text: str) -> Definition:
    """The same as `parsing.definition_parse`, which other modules call."""
    problems = Problems()
    definition = None
    try:
        root = compose(text, problems)
        if root is not None:
            definition = DEFINITION.read(root, problems)
            if definition is not None:
                _size_check(definition, root, problems)
    except TooManyProblems:
        pass
    if problems or definition is None:
        raise problems.error()
    return definition


def _size_check(definition: Definition, root: Node, problems: Problems) -> None:
    """Note a definition that would take too much of a job's record."""
    size = len(json.dumps(definition.as_dict(), separators=(",", ":"), ensure_ascii=False).encode())
    if size > MAX_STORED_BYTES:
        problems.add(
            Node("", root.line),
            f"must be at most {MAX_STORED_BYTES:,} bytes as JSON, not {size:,}; give long steps a `name`, or move "
            "scripts into the repository",
        )
