"""What all jobs of an agent share."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from agent.container import Engines
from agent.mirror import Mirrors
from agent.process import Launcher
from agent.protocol import ControlPlane
from agent.repositories import RepositoryPattern
from agent.spool import Spool
from agent.step_users import StepUsers


@dataclass(frozen=True)
class JobContext:
    """What all jobs of an agent share.

    `repositories` has the patterns of those that may be fetched, and is empty for all. `step_env` and `git_env` are the
    environments that steps and git start with, `container_env` that of steps in a container; `agent_name` is shown in
    logs.
    """

    plane: ControlPlane
    spool: Spool
    launcher: Launcher
    work_dir: Path
    mirrors: Mirrors
    repositories: list[RepositoryPattern]
    step_env: dict[str, str]
    git_env: dict[str, str]
    agent_name: str
    step_users: StepUsers
    engines: Engines
    container_env: dict[str, str]
