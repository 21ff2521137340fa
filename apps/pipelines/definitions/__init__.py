"""What a pipeline definition says, as the other apps see it. The language itself is in `agent.pipeline`."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import asdict, field
from typing import TYPE_CHECKING, Any

from agent.pipeline.constants import (
    DEFAULT_RETRIES,
    DEFAULT_TIMEOUT_SECONDS,
    DEFINITION_PATH,
    ENV_NAME,
    FIRST_NODE,
    GUIDE_PATH,
    MAIN_JOB,
    MAX_BYTES,
    MAX_JOBS,
    MAX_OUTPUTS,
    MAX_RETRIES,
    MAX_STORED_BYTES,
    MAX_TIMEOUT_SECONDS,
    PULL_REQUEST_TYPES,
    SECRET_NAME,
    SECRET_NAME_FORM,
)
from agent.pipeline.constants import ENVIRONMENT as ENVIRONMENT_NAME
from agent.pipeline.constants import ENVIRONMENT_FORM as ENVIRONMENT_NAME_FORM
from controlplane.lib.errors import InvalidInput
from controlplane.lib.frozen import frozen
from controlplane.lib.lazy_names import lazy_names

if TYPE_CHECKING:
    from apps.pipelines.definitions.language import Job, Node, Parameter, Pipeline, Step, names_before

__all__ = [
    "DEFAULT_RETRIES",
    "DEFAULT_TIMEOUT_SECONDS",
    "DEFINITION_PATH",
    "ENVIRONMENT_NAME",
    "ENVIRONMENT_NAME_FORM",
    "ENV_NAME",
    "FIRST_NODE",
    "GUIDE_PATH",
    "MAIN_JOB",
    "MAX_BYTES",
    "MAX_JOBS",
    "MAX_OUTPUTS",
    "MAX_RETRIES",
    "MAX_SERVER_BYTES",
    "MAX_STORED_BYTES",
    "MAX_TIMEOUT_SECONDS",
    "PIPELINE_NAME",
    "PULL_REQUEST_TYPES",
    "SECRET_NAME",
    "SECRET_NAME_FORM",
    "Definition",
    "Job",
    "Node",
    "Parameter",
    "Pipeline",
    "Step",
    "names_before",
    "pipeline_name_validate",
    "pipeline_schema",
    "secret_uses",
]

# A cold start needs the constants, but none of the classes of the language.
__getattr__ = lazy_names(__name__, {"language": ["Job", "Node", "Parameter", "Pipeline", "Step", "names_before"]})

# Of a definition that is kept on the server: lists of pipelines have them all, and a record has at most 400 KB.
MAX_SERVER_BYTES = 64 * 1024

PIPELINE_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,62}")


@frozen
class Definition:
    """What one job stores. `timeout`, in seconds, is that of the whole job; each label is listed once.

    With a `container`, an image, the labels include `controlplane.lib.labels.CONTAINER_LABEL`. `secrets` are as
    `secret_uses` gives them.
    """

    steps: "list[Step]"
    env: dict[str, str] = field(default_factory=dict)
    labels: list[str] = field(default_factory=list)
    timeout: int | None = None
    retries: int = DEFAULT_RETRIES
    container: str | None = None
    submodules: bool = False
    artifacts: dict[str, Any] | None = None
    caches: list[dict[str, Any]] = field(default_factory=list)
    reports: dict[str, Any] | None = None
    outputs: list[str] = field(default_factory=list)
    secrets: list[dict[str, Any]] = field(default_factory=list)
    environment: str | None = None

    def as_dict(self) -> dict[str, Any]:
        """The definition as JSON has it."""
        return asdict(self)

    def as_stored(self) -> dict[str, Any]:
        """The definition without what it does not say: each kilobyte of a job's record costs units at each write."""
        said = {name: value for name, value in self.as_dict().items() if value or name == "retries"}
        if self.secrets:
            said["secrets"] = [use if use["file"] else use["name"] for use in self.secrets]
        return said | {"steps": [{name: value for name, value in step.items() if value} for step in said["steps"]]}

    @classmethod
    def stored_fill(cls, stored: Mapping[str, Any]) -> dict[str, Any]:
        """A stored definition, also of an earlier version, with all members."""
        steps = [{"env": {}, "timeout": None, **step} for step in stored["steps"]]
        uses = {"secrets": secret_uses(stored.get("secrets") or ())}
        return cls(steps=[]).as_dict() | dict(stored) | {"steps": steps} | uses

    @classmethod
    def of(cls, job: "Job") -> "Definition":
        """What a job of a file stores."""
        return cls(
            steps=job.steps,
            env=job.env,
            labels=job.labels,
            timeout=job.timeout,
            retries=job.retries.max,
            container=job.container,
            submodules=job.submodules,
            artifacts=asdict(job.artifacts) if job.artifacts else None,
            caches=[asdict(cache) for cache in job.caches],
            reports=asdict(job.reports) if job.reports.junit or job.reports.coverage else None,
            outputs=job.outputs,
            secrets=[asdict(use) for use in job.secrets],
            environment=job.environment,
        )


def secret_uses(stored: Iterable[str | Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The secrets that a job uses, from what is stored: names, and mappings where a secret comes as a file.

    Each use is ``{"name": …, "file": …}``: with `file` the variable of the name has the path of a file.
    """
    uses = [{"name": use} if isinstance(use, str) else use for use in stored]
    return [{"name": str(use["name"]), "file": bool(use.get("file"))} for use in uses]


def pipeline_name_validate(name: str, *, field: str = "name") -> str:
    """Return `name` unchanged if it is a valid name of a pipeline. Raises InvalidInput for `field`."""
    if not PIPELINE_NAME.fullmatch(name):
        raise InvalidInput.field(
            field, "must be 1 to 63 lower-case letters, digits, - and _, beginning with a letter or digit"
        )
    return name


def pipeline_schema() -> dict[str, Any]:
    """The JSON Schema of pipeline files. The table that makes it takes long to load, so the first request loads it."""
    from agent.pipeline.schema import pipeline_schema as made

    return made()
