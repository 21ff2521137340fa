"""How long an agent takes to fetch a repository of 500 MB for the first and for the second job.

`python -m benchmarks.second_fetch` makes two repositories of random content: `tip` has all of it in its only commit,
`history` has 20 MB in each of 24 commits and 20 MB more in the last. Each is fetched three times over HTTP (git's own
http-backend) and from a path. The time for the fetch is all but the checkout of the files, which comes on top.
"""

import os
import shutil
import subprocess
import tempfile
import time
from pathlib import Path

from agent.checkout import GIT_ENVIRONMENT, Tools, checkout
from agent.mirror import Mirrors
from tests.agent.git_server import GitServer

MEGABYTE = 2**20


def main() -> None:
    """Measure and print. Needs about 3 GB in the temporary folder."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name).resolve()
        (folder / "home").mkdir()
        served = folder / "served"
        _make(folder / "tip", served, commits=1, files=500)
        _make(folder / "history", served, commits=24, files=20)
        server = GitServer(served)
        print("repository   over   job   fetch s   checkout s")
        for kind in ("history", "tip"):
            for over, url in (("http", f"{server.url}/{kind}.git"), ("path", f"file://{served}/{kind}.git")):
                mirrors = Mirrors(folder / "mirrors")
                for job in (1, 2, 3):
                    total, files = _check_out(url, folder, mirrors)
                    print(f"{kind:10}   {over}   {job:3}   {total - files:7.2f}   {files:10.2f}", flush=True)
                shutil.rmtree(folder / "mirrors")
        server.close()


def _make(work: Path, served: Path, *, commits: int, files: int) -> None:
    work.mkdir()
    settings = ("user.name=Benchmark", "user.email=benchmark@example.org", "gc.auto=0", "core.bigFileThreshold=1k")

    def git(*arguments: str) -> None:
        options = [word for setting in settings for word in ("-c", setting)]
        subprocess.run(["git", *options, *arguments], cwd=work, check=True)

    git("init", "--quiet", "--initial-branch=main")
    for number in range(commits):
        for file in range(files):
            (work / f"file-{file}").write_bytes(os.urandom(MEGABYTE))
        if commits > 1 and number == commits - 1:
            for file in range(files):
                (work / f"more-{file}").write_bytes(os.urandom(MEGABYTE))
        git("add", "--all")
        git("commit", "--quiet", f"--message={number}")
    git("clone", "--quiet", "--bare", ".", str(served / f"{work.name}.git"))
    subprocess.run(["git", "repack", "-adq", "--window=0"], cwd=served / f"{work.name}.git", check=True)
    shutil.rmtree(work)


def _check_out(url: str, folder: Path, mirrors: Mirrors) -> tuple[float, float]:
    """The seconds of all, and those in `git checkout`."""
    workspace = folder / "workspace"
    workspace.mkdir()
    files = 0.0

    def git(arguments: list[str]) -> tuple[int, bytes]:
        nonlocal files
        began = time.monotonic()
        result = subprocess.run(
            ["git", *arguments],
            cwd=workspace,
            env={"PATH": os.environ["PATH"], "HOME": str(folder / "home"), **GIT_ENVIRONMENT},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            check=False,
        )
        files += time.monotonic() - began if "checkout" in arguments else 0
        return result.returncode, result.stdout

    began = time.monotonic()
    checkout(url=url, ref="main", workspace=workspace, tools=Tools(git, mirrors))
    total = time.monotonic() - began
    shutil.rmtree(workspace)
    return total, files


if __name__ == "__main__":
    main()
