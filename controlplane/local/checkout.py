"""The git checkout that contains this code. The first pipeline builds it."""

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
    """The checkout that contains `folder`. Raises LocalError without git, without a checkout or without a commit."""
    if shutil.which("git") is None:
        raise LocalError("git is not on the PATH. Agents fetch the code of a job with git: please install it.")
    top = _git(folder, "rev-parse", "--show-toplevel")
    commit = _git(folder, "rev-parse", "--verify", "HEAD^{commit}")
    try:
        ref = _git(folder, "symbolic-ref", "--quiet", "--short", "HEAD")
    except LocalError:
        # No branch is checked out; this is common in CI.
        ref = commit
    return Checkout(url=Path(top).as_uri(), ref=ref)


def _git(folder: Path, *arguments: str) -> str:
    result = subprocess.run(["git", *arguments], cwd=folder, capture_output=True, text=True, check=False)
    if result.returncode != 0:
        raise LocalError(
            f"{folder} must be a git checkout with a commit, because the first pipeline builds it. "
            f"git says: {result.stderr.strip()}"
        )
    return result.stdout.strip()
