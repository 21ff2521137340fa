"""The entry point connects to the database when it is imported, so the emulator has to run before."""

import fcntl
from pathlib import Path

import pytest

from tests.zappa.cloud import package_build


@pytest.fixture(autouse=True)
def _database(emulator: str) -> None:
    """Start the emulator first."""


@pytest.fixture(scope="session")
def package(tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> Path:
    """The package, which one of the test processes builds for all."""
    folder = tmp_path_factory.getbasetemp()
    if worker_id != "master":
        folder = folder.parent
    with (folder / "package.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        archive = folder / "package.zip"
        return archive if archive.exists() else package_build(archive)
