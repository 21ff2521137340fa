"""The description of a published version: it names the code of the version in lists."""

import subprocess
from pathlib import Path

_ROOT = Path(__file__).resolve().parent.parent.parent


def revision_describe(version: str) -> str:
    """The product's version and the commit of this checkout, with a plus if files were changed since."""
    commit = _git("rev-parse", "--short=12", "HEAD")
    if not commit:
        return version
    return f"{version} {commit}{'+' if _git('status', '--porcelain', '--untracked-files=no') else ''}"


def _git(*arguments: str) -> str:
    """The output of git. Empty without a repository or without git."""
    try:
        done = subprocess.run(["git", *arguments], cwd=_ROOT, capture_output=True, text=True, check=False)  # noqa: S603, S607
    except FileNotFoundError:
        return ""
    return done.stdout.strip()
