"""What a pipeline does: the YAML of ``.hybrid-ci.yml``, read strictly.

labels: [linux]             # what an agent must offer
timeout: 1h                 # of the whole job: seconds, or 10m, 1h30m
retries: 2                  # how often a job is run again when its agent was lost, 0 to 10
env: {CI: "true"}
steps:                      # 1 to 100, run one after the other
  - name: lint              # the first line of `run`, if left out
    run: make lint          # given to sh; the only member that a step must have
    env: {COLOUR: never}
    timeout: 10m
"""

import re
from dataclasses import asdict, dataclass
from typing import Any

from controlplane.lib.errors import InvalidInput

# Where a repository keeps its pipeline definition.
DEFINITION_PATH = ".hybrid-ci.yml"

MAX_BYTES = 64 * 1024
MAX_RETRIES = 10
DEFAULT_RETRIES = 2
MAX_TIMEOUT_SECONDS = 7 * 24 * 3600

ENV_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,254}")
PIPELINE_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,62}")


@dataclass(frozen=True)
class Step:
    """One command. `timeout` is in seconds; None: only the limit of the whole job holds."""

    name: str
    run: str
    env: dict[str, str]
    timeout: int | None


@dataclass(frozen=True)
class Definition:
    """A valid pipeline. `timeout`, in seconds, is that of the whole job; `labels` are as written, each once."""

    steps: list[Step]
    env: dict[str, str]
    labels: list[str]
    timeout: int | None
    retries: int

    def as_dict(self) -> dict[str, Any]:
        """As JSON has it."""
        return asdict(self)


def pipeline_name_validate(name: str, *, field: str = "name") -> str:
    """`name` as it is, when a pipeline may be called so. Raises InvalidInput, naming `field`."""
    if not PIPELINE_NAME.fullmatch(name):
        raise InvalidInput.field(
            field, "use 1 to 63 lower-case letters, digits, - and _, beginning with a letter or digit"
        )
    return name


def definition_parse(text: str) -> Definition:
    """The pipeline that `text` defines.

    Raises InvalidInput with the code ``definition_invalid``; its `errors` list every mistake as
    ``{"field": "steps[1].timeout", "line": 7, "message": …}``, in the order of the lines.
    """
    # Most processes never read one, and YAML takes its time to load.
    from apps.pipelines.definition_reader import definition_read

    return definition_read(text)
