"""The checkout that the first pipeline builds."""

import subprocess
from pathlib import Path

import pytest

from controlplane.local.checkout import Checkout, checkout_find
from controlplane.local.errors import LocalError


def git(folder: Path, *arguments: str) -> str:
    identity = ("-c", "user.name=Ann", "-c", "user.email=ann@example.com", "-c", "init.defaultBranch=trunk")
    return subprocess.run(
        ["git", *identity, *arguments], cwd=folder, check=True, capture_output=True, text=True
    ).stdout.strip()


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    folder = tmp_path / "a b"
    folder.mkdir()
    git(folder, "init")
    return folder


def test_the_branch_that_is_checked_out_is_built(repository: Path) -> None:
    git(repository, "commit", "--allow-empty", "-m", "one")
    assert checkout_find(repository) == Checkout(url=f"file://{repository.parent}/a%20b", ref="trunk")


def test_without_a_branch_the_commit_is_built(repository: Path) -> None:
    git(repository, "commit", "--allow-empty", "-m", "one")
    commit = git(repository, "rev-parse", "HEAD")
    git(repository, "checkout", "--detach")
    assert checkout_find(repository).ref == commit


def test_git_can_fetch_from_the_url(repository: Path, tmp_path: Path) -> None:
    git(repository, "commit", "--allow-empty", "-m", "one")
    found = checkout_find(repository)
    git(tmp_path, "clone", "--depth=1", "--branch", found.ref, found.url, "clone")
    assert git(tmp_path / "clone", "log", "--format=%s") == "one"


def test_a_repository_without_a_commit_is_refused(repository: Path) -> None:
    with pytest.raises(LocalError, match="must be a git checkout with a commit"):
        checkout_find(repository)


def test_a_folder_that_is_not_a_checkout_is_refused_with_gits_message(tmp_path: Path) -> None:
    with pytest.raises(LocalError, match=r"git says: .*not a git repository"):
        checkout_find(tmp_path)
