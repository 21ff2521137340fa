"""Submodules and files of Git LFS: what is fetched, and what a hostile repository cannot make the agent fetch."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from agent.checkout import CheckoutFailed, Tools, checkout
from agent.submodules import submodules_fetch
from tests.agent.conftest import AgentProcess, History
from tests.agent.fake_server import FakeControlPlane
from tests.agent.git_server import GitServer
from tests.agent.test_mirrors import Machine
from tests.repositories import BareRepository, Entry


class Repositories:
    """Bare repositories in a folder, each with one file, that may have others as submodules."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._commits: dict[str, str] = {}
        folder.mkdir()

    def make(self, name: str, submodules: dict[str, str] | None = None, gitmodules: str | None = None) -> str:
        """Make `name` with submodules, given as path and URL. Returns the commit."""
        entries: dict[str, Entry] = {"name": f"{name}\n".encode()}
        listed = ""
        for path, url in (submodules or {}).items():
            entries[path] = self._commits.get(url.rpartition("/")[2].removesuffix(".git"), "1" * 40)
            listed += f'[submodule "{path}"]\n\tpath = {path}\n\turl = {url}\n'
        if listed or gitmodules:
            entries[".gitmodules"] = (gitmodules or listed).encode()
        commit = BareRepository(self.folder / f"{name}.git").commit("main", entries)
        self._commits[name] = commit
        return commit


@pytest.fixture
def repositories(tmp_path: Path) -> Repositories:
    return Repositories(tmp_path / "origin")


@pytest.fixture
def server(tmp_path: Path) -> Iterator[GitServer]:
    server = GitServer(tmp_path / "origin")
    yield server
    server.close()


@pytest.fixture
def fetch(tmp_path: Path, repositories: Repositories) -> Any:
    """Check out a repository with its submodules; returns the workspace and the number of submodules."""

    def fetch(url: str, allowed: Any = lambda _: True) -> tuple[Path, int]:
        workspace = tmp_path / "workspace"
        workspace.mkdir()
        folder = tmp_path / "machine"
        folder.mkdir()
        tools = Tools(Machine(folder, url).git(workspace))
        checkout(url=url, ref="main", workspace=workspace, tools=tools)
        return workspace, submodules_fetch(url=url, workspace=workspace, tools=tools, is_allowed=allowed)

    return fetch


def test_submodules_and_theirs_are_fetched_shallow(fetch: Any, repositories: Repositories, server: GitServer) -> None:
    repositories.make("inner")
    repositories.make("library", {"deep/inner": "../inner.git"})
    repositories.make("app", {"lib": "../library.git", "again": f"{server.url}/inner.git"})
    workspace, count = fetch(f"{server.url}/app.git")
    assert count == 3
    assert (workspace / "lib" / "name").read_text() == "library\n"
    assert (workspace / "lib" / "deep" / "inner" / "name").read_text() == "inner\n"
    assert (workspace / "again" / "name").read_text() == "inner\n"


def test_a_repository_without_submodules_is_fetched_as_ever(fetch: Any, repositories: Repositories) -> None:
    repositories.make("app")
    assert fetch(f"file://{repositories.folder}/app.git")[1] == 0


def test_a_repository_from_elsewhere_reads_no_repository_of_the_machine(
    fetch: Any, repositories: Repositories, server: GitServer
) -> None:
    repositories.make("secret")
    repositories.make("app", {"lib": f"file://{repositories.folder}/secret.git"})
    with pytest.raises(CheckoutFailed, match=r"The submodule file://.*/secret\.git is a path on the agent's machine"):
        fetch(f"{server.url}/app.git")


def test_a_submodule_outside_the_agent_s_patterns_is_refused(
    fetch: Any, repositories: Repositories, server: GitServer
) -> None:
    repositories.make("inner")
    repositories.make("library", {"inner": "../inner.git"})
    repositories.make("app", {"lib": "../library.git"})
    asked: list[str] = []

    def allowed(url: str) -> bool:
        asked.append(url)
        return not url.endswith("/inner.git")

    with pytest.raises(CheckoutFailed, match=r"This agent may not fetch the submodule .*/inner\.git"):
        fetch(f"{server.url}/app.git", allowed)
    assert asked == [f"{server.url}/library.git", f"{server.url}/inner.git"]


@pytest.mark.parametrize("url", ["ext::sh -c touch% {mark}", "-u{mark}", "ssh://-oProxyCommand=touch%20{mark}/x"])
def test_a_submodule_s_address_cannot_pass_options_or_commands(
    url: str, fetch: Any, repositories: Repositories, tmp_path: Path
) -> None:
    mark = tmp_path / "mark"
    address = url.format(mark=mark)
    repositories.make("app", {"lib": "../x.git"}, f'[submodule "lib"]\n\tpath = lib\n\turl = "{address}"\n')
    with pytest.raises(CheckoutFailed):
        fetch(f"file://{repositories.folder}/app.git")
    assert not mark.exists()


def test_a_submodule_s_update_command_is_not_run(fetch: Any, repositories: Repositories, tmp_path: Path) -> None:
    repositories.make("inner")
    mark = tmp_path / "mark"
    repositories.make(
        "app",
        {"lib": "../inner.git"},
        f'[submodule "lib"]\n\tpath = lib\n\turl = ../inner.git\n\tupdate = "!touch {mark}"\n',
    )
    with pytest.raises(CheckoutFailed):
        fetch(f"file://{repositories.folder}/app.git")
    assert not mark.exists()


def test_a_job_gets_the_submodules_that_its_pipeline_asks_for(
    agent: AgentProcess, plane: FakeControlPlane, repositories: Repositories
) -> None:
    repositories.make("inner")
    repositories.make("app", {"lib": "../inner.git"})
    url = f"file://{repositories.folder}/app.git"
    without = plane.add_job(url, run="ls lib | wc -l")
    asked = plane.add_job(url, run="cat lib/name", submodules=True)
    agent.start()
    assert plane.finished(without)["exit_code"] == 0
    assert "\n0\n" in without.text
    assert plane.finished(asked)["exit_code"] == 0
    assert "── 1 submodules fetched in " in asked.text
    assert "\ninner\n" in asked.text


# Git LFS

POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:{oid}\nsize {size}\n"


def test_a_file_of_lfs_without_git_lfs_fails_with_a_clear_sentence(tmp_path: Path) -> None:
    history = History(tmp_path / "origin")
    attributes, pointer = b"*.bin filter=lfs diff=lfs merge=lfs -text\n", POINTER.format(oid="0" * 64, size=5).encode()
    history.commit("lfs", {".gitattributes": attributes, "large.bin": pointer}, on=history.commits[2])
    (tmp_path / "machine").mkdir()
    machine = Machine(tmp_path / "machine", history.url)
    for _ in range(2):
        with pytest.raises(CheckoutFailed) as caught:
            machine.check_out("lfs")
        assert str(caught.value) == (
            "The repository keeps large.bin in Git LFS, and git-lfs is not installed on this agent's machine. "
            "Install git-lfs there, or give the pipeline a label of agents that have it."
        )
    assert machine.path.exists(), "this is no fault of the mirror"
    assert machine.check_out("main")[1].joinpath("number").read_text() == "3\n"


@pytest.mark.skipif(shutil.which("git-lfs") is None, reason="git-lfs is not installed")
def test_a_file_of_lfs_is_fetched_with_git_lfs(tmp_path: Path) -> None:
    origin, work = tmp_path / "origin.git", tmp_path / "work"
    environment = {"HOME": str(tmp_path), "PATH": "/usr/bin:/bin", "GIT_CONFIG_NOSYSTEM": "1"}

    def git(*arguments: str) -> None:
        subprocess.run(["git", *arguments], cwd=tmp_path, env=environment, check=True, capture_output=True)

    git("init", "--quiet", "--bare", "--initial-branch=main", str(origin))
    git("init", "--quiet", "--initial-branch=main", str(work))
    git("-C", str(work), "lfs", "install", "--local")
    (work / ".gitattributes").write_text("*.bin filter=lfs diff=lfs merge=lfs -text\n")
    (work / "large.bin").write_bytes(b"large\0" * 1000)
    git("-C", str(work), "add", "--all")
    git("-C", str(work), "-c", "user.name=T", "-c", "user.email=t@example.org", "commit", "--quiet", "--message=lfs")
    git("-C", str(work), "push", "--quiet", f"file://{origin}", "main")
    (tmp_path / "machine").mkdir()
    machine = Machine(tmp_path / "machine", f"file://{origin}")
    for number in range(2):
        workspace = tmp_path / f"workspace-{number}"
        workspace.mkdir()
        tools = Tools(machine.git(workspace), machine.mirrors, has_lfs=True)
        checkout(url=machine.url, ref="main", workspace=workspace, tools=tools)
        assert (workspace / "large.bin").read_bytes() == b"large\0" * 1000
