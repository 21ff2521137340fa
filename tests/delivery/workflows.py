"""The workflows of GitHub Actions as data, for the tests that read them."""

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml
from django.conf import settings

ROOT = Path(settings.BASE_DIR)
FOLDER = ROOT / ".github" / "workflows"

Part = dict[Any, Any]


def workflows() -> dict[str, Part]:
    """Each workflow by the name of its file; `on` is the key True, as YAML 1.1 has it."""
    return {path.stem: yaml.safe_load(path.read_text()) for path in sorted(FOLDER.glob("*.yml"))}


def jobs() -> dict[str, Part]:
    """Each job by its workflow and name."""
    return {f"{file}/{name}": job for file, workflow in workflows().items() for name, job in workflow["jobs"].items()}


def commands() -> Iterator[list[str]]:
    """The words of each command that a step runs, without what is written into files and other commands."""
    for job in jobs().values():
        for step in job["steps"]:
            for line in step.get("run", "").splitlines():
                words = shlex.split(re.split(r"[|;>]", line)[0])
                if words:
                    yield words


def with_credentials(job: Part) -> bool:
    """Whether the job can get credentials for AWS."""
    return job["permissions"].get("id-token") == "write"
