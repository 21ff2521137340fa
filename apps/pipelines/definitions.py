"""What a pipeline definition says: its parts and their limits. `definition_reader` makes one from YAML.

labels: [linux]             # an agent must have all of them; up to 20
timeout: 1h                 # of the whole job: seconds, or as in 10m and 1h30m; up to 24h; 1h if left out
container: python:3.12-slim # an image; steps run in its containers, on agents with the label `container`
submodules: true            # fetch the repository's submodules, and theirs; otherwise they stay empty
retries: 2                  # how often a job runs again after its agent was lost: 0 to 10
env: {CI: "true"}           # for all steps; values are taken as they are written
steps:                      # 1 to 100, which run one after the other; required
  - name: lint              # if left out, the first line of `run`
    run: make lint          # a script for sh; required
    env: {COLOUR: never}    # for this step; overrides the variables above
    timeout: 10m            # of this step
"""

import re
from dataclasses import asdict, dataclass, field
from typing import Any

from controlplane.lib.errors import InvalidInput

# The file in which a repository keeps its pipeline definition.
DEFINITION_PATH = ".hybrid-ci.yml"

MAX_BYTES = 64 * 1024
# What a job stores is longer than the text, since it has names for unnamed steps and escapes for control characters.
MAX_STORED_BYTES = 128 * 1024
MAX_RETRIES = 10
DEFAULT_RETRIES = 2
MAX_TIMEOUT_SECONDS = 24 * 3600
# Of a job whose definition has no `timeout`.
DEFAULT_TIMEOUT_SECONDS = 3600

# Agents that can run containers have this label.
CONTAINER_LABEL = "container"

ENV_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,254}")
# [registry[:port]/]name[:tag][@digest]; never something that podman takes for an option, a path or a transport.
_IMAGE_PART = r"[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*"
IMAGE = re.compile(
    rf"(?=.{{1,255}}\Z)(?:[A-Za-z0-9](?:[A-Za-z0-9.-]*[A-Za-z0-9])?(?::[0-9]{{1,5}})?/)?{_IMAGE_PART}(?:/{_IMAGE_PART})*"
    r"(?::[A-Za-z0-9_][A-Za-z0-9_.-]{0,127})?(?:@sha256:[0-9a-f]{64})?"
)
PIPELINE_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,62}")


@dataclass(frozen=True)
class Step:
    """One command. `timeout` is in seconds; None: only the limit of the whole job applies."""

    name: str
    run: str
    env: dict[str, str] = field(default_factory=dict)
    timeout: int | None = None


@dataclass(frozen=True)
class Definition:
    """A valid pipeline. `timeout`, in seconds, is that of the whole job; each label is listed once.

    With a `container`, an image, the labels include `CONTAINER_LABEL`.
    """

    steps: list[Step]
    env: dict[str, str] = field(default_factory=dict)
    labels: list[str] = field(default_factory=list)
    timeout: int | None = None
    retries: int = DEFAULT_RETRIES
    container: str | None = None
    submodules: bool = False

    def as_dict(self) -> dict[str, Any]:
        """The definition as JSON has it."""
        return asdict(self)


def pipeline_name_validate(name: str, *, field: str = "name") -> str:
    """Return `name` unchanged if it is a valid name of a pipeline. Raises InvalidInput for `field`."""
    if not PIPELINE_NAME.fullmatch(name):
        raise InvalidInput.field(
            field, "must be 1 to 63 lower-case letters, digits, - and _, beginning with a letter or digit"
        )
    return name
