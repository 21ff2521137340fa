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
    commit = _git(folder, "rev-parse", "--verify", "HEAD^{commit}")
    try:
        ref = _git(folder, "symbolic-ref", "--quiet", "--short", "HEAD")
    except LocalError:
        # No branch is checked out, as in many a CI.
        ref = commit
    return Checkout(url=Path(top).as_uri(), ref=ref)


def _git(folder: Path, *arguments: str) -> str:
    result = subprocess.run(["git", *arguments], cwd=folder, capture_output=True, text=True, check=False)
    if result.returncode != 0:
        raise LocalError(
            f"{folder} must be a git checkout with a commit, for that is what the first pipeline builds. "
            f"git says: {result.stderr.strip()}"
        )
    return result.stdout.strip()
