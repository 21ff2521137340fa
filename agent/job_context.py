"""What all jobs of an agent share."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Optional

from agent.container import Engines
from agent.mirror import Mirrors
from agent.process import Launcher
from agent.protocol import ControlPlane
from agent.repositories import RepositoryPattern
from agent.spool import Spool
from agent.step_users import StepUsers
from agent.store import Archives


@dataclass(frozen=True)
class StepContext:
    """What steps run with: the environments that they start with, `container_env` in a container, and the engines."""

    step_env: dict[str, str]
    container_env: dict[str, str]
    engines: Engines


@dataclass(frozen=True)
class JobContext:
    """What all jobs of an agent share.

    `repositories` has the patterns of those that may be fetched, and is empty for all. `git_env` is the environment
    that git starts with; `agent_name` is shown in logs.
    """

    plane: ControlPlane
    spool: Spool
    launcher: Launcher
    work_dir: Path
    mirrors: Mirrors
    repositories: list[RepositoryPattern]
    git_env: dict[str, str]
    agent_name: str
    step_users: StepUsers
    steps: StepContext
    archives: Archives
    # For what must not reach a disk, if the machine has a place for it.
    private_dir: Optional[Path] = None
