"""`.ci/fetch` and `.ci/image`, with stand-ins for gh and docker that record how they are called."""

import hashlib
import os
import shutil
import subprocess
import tarfile
from pathlib import Path

import pytest

from tests.delivery.workflows import ROOT

DIGEST = "sha256:" + "b" * 64
BASE = f"python:3.11-slim-trixie@{DIGEST}"
GH = """#!/bin/bash
echo "gh $*" >> "{calls}"
case $1 in
  run) mkdir -p "$7"; cp "{artifacts}/$5"/* "$7" ;;
  api) echo "$NEWEST" ;;
esac
"""
DOCKER = f"""#!/bin/bash
echo "docker $*" >> "{{calls}}"
while (($#)); do
  if [[ $1 == --metadata-file ]]; then echo '{{{{"containerimage.digest": "{DIGEST}"}}}}' > "$2"; fi
  shift
done
"""


class Machine:
    """A copy of the scripts, and a PATH with the stand-ins."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.artifacts, self._calls = folder, folder / "artifacts", folder / "calls"
        (folder / ".ci").mkdir()
        for name in (".ci/fetch", ".ci/image", "Dockerfile"):
            shutil.copy2(ROOT / name, folder / name)
        programs = folder / "bin"
        programs.mkdir()
        for name, text in (("gh", GH), ("docker", DOCKER)):
            (programs / name).write_text(text.format(calls=self._calls, artifacts=self.artifacts))
            (programs / name).chmod(0o755)
        self._path = f"{programs}{os.pathsep}{os.environ['PATH']}"

    def run(self, *command: str, **environment: str) -> subprocess.CompletedProcess[str]:
        settings = {"PATH": self._path, "GITHUB_RUN_ID": "7", "BASE": BASE, "IMAGE": "ghcr.io/acme/ci", **environment}
        return subprocess.run(
            [f".ci/{command[0]}", *command[1:]],
            cwd=self.folder,
            env=settings,
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )

    def calls(self) -> list[str]:
        return self._calls.read_text().splitlines()

    def artifact(self, name: str, file: str, content: bytes) -> str:
        """Make an artifact of one file. Returns its digest."""
        (self.artifacts / name).mkdir(parents=True)
        (self.artifacts / name / file).write_bytes(content)
        return hashlib.sha256(content).hexdigest()


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


def test_what_earlier_jobs_made_is_unpacked_where_the_deployment_looks_for_it(machine: Machine) -> None:
    (machine.folder / "module.py").write_text("x = 1")
    with tarfile.open(machine.folder / "tools.tgz", "w:gz") as archive:
        archive.add(machine.folder / "module.py", "./module.py")
    tools = machine.artifact("tools", "tools.tgz", (machine.folder / "tools.tgz").read_bytes())
    package = machine.artifact("lambda", "lambda.zip", b"zip")
    done = machine.run("fetch", "lambda", package, "tools", tools)
    assert done.returncode == 0, done.stderr
    assert (machine.folder / ".package/lambda/lambda.zip").read_bytes() == b"zip"
    assert [path.name for path in (machine.folder / ".package/tools").iterdir()] == ["module.py"]
    assert machine.calls()[0] == "gh run download 7 --name lambda --dir .package/lambda"


def test_an_artifact_that_another_has_replaced_is_refused(machine: Machine) -> None:
    machine.artifact("lambda", "lambda.zip", b"another")
    done = machine.run("fetch", "lambda", hashlib.sha256(b"zip").hexdigest())
    assert done.returncode != 0
    assert "The artifact lambda is not the one that this run has made. Nothing was deployed." in done.stderr
    (machine.artifacts / "lambda" / "more.zip").touch()
    assert "must have one file, not 2" in machine.run("fetch", "lambda", "0" * 64).stderr


def test_a_pull_requests_images_are_checked_and_built_and_stay_here(machine: Machine) -> None:
    done = machine.run("image", "build")
    assert done.returncode == 0, done.stderr
    check, *builds = machine.calls()
    assert check == "docker buildx build --check ."
    assert {call.split("--target ")[1].split()[0] for call in builds} == {"control-plane", "agent"}
    for call in builds:
        assert f"--build-context python:3.11-slim-trixie=docker-image://{BASE} --output type=cacheonly" in call


def test_images_are_pushed_by_digest_with_sbom_and_provenance_and_then_joined_under_the_commit(
    machine: Machine,
) -> None:
    for processor in ("one", "two"):
        done = machine.run("image", "push", f"digests/{processor}")
        assert done.returncode == 0, done.stderr
    for call in machine.calls():
        name = "ghcr.io/acme/ci-agent" if "--target agent" in call else "ghcr.io/acme/ci"
        assert "--provenance mode=max --sbom true" in call
        assert f"type=image,name={name},push-by-digest=true,name-canonical=true,push=true" in call
    machine.run("image", "join", "digests", GITHUB_REPOSITORY="acme/ci", GITHUB_SHA="c0ffee", NEWEST="c0ffee")
    joined = [call for call in machine.calls() if "imagetools" in call]
    assert sorted(joined) == [
        f"docker buildx imagetools create --tag={name}:c0ffee --tag={name}:main {name}@{DIGEST} {name}@{DIGEST}"
        for name in ("ghcr.io/acme/ci-agent", "ghcr.io/acme/ci")
    ]


def test_the_images_of_an_older_commit_do_not_become_main(machine: Machine) -> None:
    machine.run("image", "push", "digests/one")
    machine.run("image", "join", "digests", GITHUB_REPOSITORY="acme/ci", GITHUB_SHA="c0ffee", NEWEST="decade")
    joined = [call for call in machine.calls() if "imagetools" in call]
    assert len(joined) == 2
    assert all(":c0ffee" in call and ":main" not in call for call in joined)
