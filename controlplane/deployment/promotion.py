"""What keeps a pipeline from deploying something else than was tested, or something old: `manage.py deploy` asks."""

import hashlib
import re
import subprocess
from pathlib import Path

from controlplane.deployment.live import Live
from controlplane.infrastructure.errors import InfrastructureError

_ROOT = Path(__file__).resolve().parent.parent.parent


def package_require(path: Path, sha256: str | None) -> Path:
    """The absolute path of a package that was made before. Raises InfrastructureError unless it has that digest."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise InfrastructureError(f"The package {path} cannot be read: {error.strerror}.") from error
    found = hashlib.sha256(content).hexdigest()
    if sha256 is not None and found != sha256.lower():
        raise InfrastructureError(f"The package {path} has the digest {found}, not {sha256}. Nothing was deployed.")
    return path.resolve()


def forward_require(live: Live, folder: Path = _ROOT) -> None:
    """Require that the commit in `folder` has what is live among its ancestors, so that nothing newer is replaced.

    Raises InfrastructureError for an older commit, for one of another branch, and when the live version's commit is not
    known here. A stage without a live version, and versions whose descriptions name no commit, are not compared.
    """
    if not live.exists():
        return
    state = live.state()
    for version in live.versions():
        commit = re.search(r" ([0-9a-f]{12})\+?$", version.description)
        if commit and state.share(version.number) and not _is_ancestor(commit[1], folder):
            raise InfrastructureError(
                f"Version {version.number} of {live.stage}, {version.description}, is no ancestor of this commit, "
                "which would replace newer code by older. Nothing was deployed. To go back, run `manage.py release "
                f"rollback --stage {live.stage}`; to deploy this commit all the same, leave out --forward-only."
            )


def _is_ancestor(commit: str, folder: Path) -> bool:
    done = subprocess.run(  # noqa: S603
        ["git", "merge-base", "--is-ancestor", commit, "HEAD"],  # noqa: S607
        cwd=folder,
        capture_output=True,
        check=False,
    )
    return done.returncode == 0
