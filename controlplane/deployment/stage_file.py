"""Reads `.env.<stage>`, which has the settings of a stage, for every command that acts on the stage from outside.

`manage.py --stage …` and Zappa's hook read it in the same way, so that a command means the same however it is typed.
"""

import difflib
import os
from collections.abc import Sequence
from pathlib import Path

from botocore.session import Session
from dotenv import dotenv_values

from controlplane.infrastructure.errors import InfrastructureError

_ROOT = Path(__file__).resolve().parents[2]


def stage_file_read(stage: str) -> None:
    """Add the settings of `.env.<stage>` to this process's environment. They replace what the shell has set.

    A dollar sign has no meaning, and a # starts a comment only after a space, so keys need no quotes. Without the file
    (as in CI) the settings are those of the environment. Raises InfrastructureError for a line that is no setting.
    """
    file = stage_file(stage)
    if not file.is_file():
        return
    for name, value in dotenv_values(file, interpolate=False).items():
        if value is None:
            raise InfrastructureError(f"{file.name} has the line {name!r}. A line must be NAME=VALUE.")
        os.environ[name] = value


def stage_file(stage: str) -> Path:
    """The file with the stage's settings, which need not exist."""
    return _ROOT / f".env.{stage}"


def region_require(stage: str) -> str:
    """AWS_REGION, the only source of the region. All of AWS's libraries in this process use it from now on.

    Raises InfrastructureError when it is missing or names no region.
    """
    region = os.environ.get("AWS_REGION", "")
    if not region:
        raise InfrastructureError(
            f"AWS_REGION is not set. Add a line such as AWS_REGION=eu-central-1 to .env.{stage}, or export it."
        )
    known = Session().get_available_regions("lambda")
    if region not in known:
        similar = difflib.get_close_matches(region, known, 1)
        hint = f" Is it {similar[0]}?" if similar else ""
        raise InfrastructureError(f"AWS_REGION is {region}, which is no region.{hint} Change it in .env.{stage}.")
    # boto3 and Zappa prefer this one, which the shell may have set for other programs.
    os.environ["AWS_DEFAULT_REGION"] = region
    return region


def stage_named(arguments: Sequence[str]) -> str | None:
    """The stage that a command line of `manage.py` names with --stage, or None."""
    for index, argument in enumerate(arguments):
        if argument.startswith("--stage="):
            return argument.removeprefix("--stage=")
        if argument == "--stage" and index + 1 < len(arguments):
            return arguments[index + 1]
    return None
