"""The git checkout that this code stands in: the first thing there is to build."""

import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from controlplane.local.errors import LocalError


@dataclass(frozen=True)
class Checkout:
    """Its URL for agents on this machine, and the branch that is checked out (without one, the commit)."""

    url: str
    ref: str


def checkout_find(folder: Path) -> Checkout:
    """The checkout around `folder`. Raises LocalError without git, without a checkout or without a commit."""
    if shutil.which("git") is None:
        raise LocalError("There is no git on the PATH. Agents fetch what they run with git: please install it.")
    top = _git(folder, "rev-parse", "--show-toplevel")
    commit = _git(folder, "rev-parse", "--verify", "--quiet", "HEAD^{commit}") if top else None
    if top is None or commit is None:
        raise LocalError(
            f"{folder} is no git checkout with a commit, so there is nothing to build. Please clone the repository."
        )
    branch = _git(folder, "symbolic-ref", "--quiet", "--short", "HEAD")
    return Checkout(url=Path(top).as_uri(), ref=branch or commit)


def _git(folder: Path, *arguments: str) -> str | None:
    result = subprocess.run(["git", *arguments], cwd=folder, capture_output=True, text=True, check=False)
    return result.stdout.strip() if result.returncode == 0 else None
