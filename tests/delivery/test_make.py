"""`make dev` and `make build`: what they start, and what they say where it cannot be started."""

import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
MAKE = shutil.which("make") or "make"


def make(*arguments: str, path: Path) -> subprocess.CompletedProcess[str]:
    """Run make where only the programs in `path` are found. The package is not made."""
    return subprocess.run(
        [MAKE, "--old-file=package", "--old-file=install", *arguments],
        cwd=ROOT,
        env={"PATH": str(path), "HOME": str(path)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def engine(folder: Path, name: str, *, runs: bool) -> Path:
    """A container engine that writes down what it is asked."""
    asked = folder / "asked"
    program = folder / name
    program.write_text(f'#!/bin/sh\necho "$@" >> {asked}\ntest "$1" != info || exit {0 if runs else 1}\n')
    program.chmod(0o755)
    return asked


def test_make_build_makes_the_package_first() -> None:
    planned = subprocess.run([MAKE, "-n", "build"], cwd=ROOT, capture_output=True, text=True, timeout=60, check=True)
    assert "zappa package" in planned.stdout.split("docker")[0]


@pytest.mark.parametrize("name", ["docker", "podman"])
def test_make_build_makes_the_image(name: str, tmp_path: Path) -> None:
    asked = engine(tmp_path, name, runs=True)
    made = make("build", "IMAGE=ours:1", path=tmp_path)
    assert made.returncode == 0, made.stderr
    assert asked.read_text().splitlines() == ["info", "build --tag ours:1 ."]


def test_make_build_says_so_without_a_container_engine(tmp_path: Path) -> None:
    made = make("build", path=tmp_path)
    assert made.returncode != 0
    assert "there is no image: install docker or podman" in made.stderr


def test_make_build_says_so_when_the_engine_does_not_run(tmp_path: Path) -> None:
    asked = engine(tmp_path, "docker", runs=False)
    made = make("build", path=tmp_path)
    assert made.returncode != 0
    assert "docker does not run. Start it" in made.stderr
    assert asked.read_text().splitlines() == ["info"]


def test_make_dev_runs_with_reload(tmp_path: Path) -> None:
    planned = make("-n", "dev", "PORT=8123", path=tmp_path)
    assert "manage.py local --reload --port" in planned.stdout
    assert '"8123"' in planned.stdout
