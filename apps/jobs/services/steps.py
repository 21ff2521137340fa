"""The steps of a job before they run."""

from collections.abc import Mapping
from typing import Any

from apps.jobs.states import StepState


def steps_of(definition: Mapping[str, Any]) -> list[dict[str, str]]:
    """The steps of a parsed definition, none of which has run."""
    return [{"name": step["name"], "state": StepState.PENDING} for step in definition["steps"]]
