"""What an agent tells of a commit before the control plane decides which jobs there are: trees and changed paths."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import pytest

from agent import commit_facts
from agent.commit_facts import FactFinder
from agent.protocol import CommitFacts, Wants
from tests.agent.conftest import AgentProcess, History
from tests.agent.fake_server import FakeControlPlane

_WORK = {"steps": [{"name": "all", "run": "echo it runs", "env": {}, "timeout": None}], "env": {}, "timeout": None}


class Repository:
    """A repository with a branch that left `main` two commits ago, and a shallow clone of that branch."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "origin"
        self.path.mkdir(parents=True)
        self.git("init", "--quiet", "--initial-branch=main")
        self.first = self.commit({"src/a.c": "1", "docs/x.md": "1", "number": "1"})
        self.git("branch", "other")
        self.main = self.commit({"only-main": "1"})
        self.git("checkout", "--quiet", "other")
        self.commit({"src/a.c": "2", "new/ünï\nline": "1"})
        (self.path / "number").unlink()
        self.head = self.commit({"src/b.c": "1"})
        self.clone = folder / "clone"
        subprocess.run(
            ["git", "clone", "--quiet", "--depth=1", "--branch=other", f"file://{self.path}", self.clone], check=True
        )

    def git(self, *arguments: str) -> str:
        identity = ["-c", "user.name=Test", "-c", "user.email=test@example.org", "-c", "commit.gpgsign=false"]
        command = ["git", *identity, *arguments]
        return subprocess.run(command, cwd=self.path, check=True, capture_output=True, text=True).stdout.strip()

    def commit(self, files: dict[str, str]) -> str:
        for name, text in files.items():
            (self.path / name).parent.mkdir(exist_ok=True)
            (self.path / name).write_text(text)
        self.git("add", "--all")
        self.git("commit", "--quiet", "--message=change")
        return self.git("rev-parse", "HEAD")

    def facts(
        self, *, trees: list[str] | None = None, since: str | None = None, branch: str | None = None
    ) -> CommitFacts:
        def run(arguments: list[str], output: Any) -> int:
            done = subprocess.run(["git", *arguments], cwd=self.clone, capture_output=True, check=False)
            output(done.stdout)
            return done.returncode

        scratch = self.clone.with_name("history.git")
        finder = FactFinder(
            run, commit=self.head, url=f"file://{self.path}", git_dir=self.clone / ".git", scratch=scratch
        )
        facts = finder.facts(Wants(trees or [], trees is None, since, branch))
        assert not scratch.exists()
        return facts


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Repository:
    return Repository(tmp_path_factory.mktemp("facts"))


CHANGED = ["new/ünï\nline", "number", "src/a.c", "src/b.c"]


def test_the_paths_that_changed_since_a_commit_are_found_in_a_shallow_checkout(repository: Repository) -> None:
    assert repository.facts(since=repository.first).changed_paths == CHANGED
    assert repository.facts(since=repository.head).changed_paths == []
    count = subprocess.run(
        ["git", "rev-list", "--count", "HEAD"], cwd=repository.clone, capture_output=True, check=True
    )
    assert count.stdout == b"1\n", "the checkout got a history"


def test_the_paths_that_changed_since_a_branch_was_left_are_found(repository: Repository) -> None:
    assert repository.facts(branch="main").changed_paths == CHANGED
    repository.git("checkout", "--quiet", "main")
    assert repository.facts().changed_paths == CHANGED, "main is the default branch now"
    assert repository.facts(branch="other").changed_paths == ["number", "src/b.c"], "it is on that branch"
    assert repository.facts(since=repository.main).changed_paths == sorted([*CHANGED, "only-main"])


@pytest.mark.parametrize(
    ("since", "branch"), [("f" * 40, None), ("--output=x", None), (None, "missing"), (None, "--upload-pack=x")]
)
def test_changes_since_something_unknown_are_unknown(
    since: str | None, branch: str | None, repository: Repository
) -> None:
    assert repository.facts(since=since, branch=branch).changed_paths is None


def test_too_many_changed_paths_are_as_good_as_unknown(repository: Repository, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(commit_facts, "MAX_CHANGED_PATHS", 3)
    assert repository.facts(since=repository.first).changed_paths is None
    monkeypatch.setattr(commit_facts, "MAX_CHANGED_PATHS", 4)
    assert repository.facts(since=repository.first).changed_paths == CHANGED


def test_trees_are_named_by_git_without_reading_files(repository: Repository) -> None:
    asked = ["src", "./src/", "src/a.c", "missing", ".", "**/*.c", "*.none", "../x*", ":(top)src"]
    for path in (repository.clone / "src").iterdir():
        path.unlink()
    trees = repository.facts(trees=asked).trees
    tree = repository.git("rev-parse", f"{repository.head}:src")
    assert list(trees) == asked
    assert (trees["src"], trees["./src/"]) == (tree, tree)
    assert trees["src/a.c"] == repository.git("rev-parse", f"{repository.head}:src/a.c")
    assert trees["."] == repository.git("rev-parse", f"{repository.head}^{{tree}}")
    assert len(trees["**/*.c"]) == 64
    assert [trees[path] for path in ("missing", "*.none", "../x*", ":(top)src")] == [""] * 4
    assert trees["**/*.c"] != repository.facts(trees=["src/*.c", "docs/**"]).trees["docs/**"]


def test_the_agent_reports_what_the_control_plane_wants_to_know(
    shared_agent: AgentProcess, shared_plane: FakeControlPlane, history: History
) -> None:
    job = shared_plane.add_job(history.url, from_repository=True, definition_answer=(200, _WORK))
    job.definition_path = None
    job.wants = {"trees": ["number", "missing"], "changes": True}
    shared_plane.finished(job, 30)
    assert "it runs" in job.text
    first, second = job.reports
    assert first == {"attempt": 1, "commit": history.commits[2]}
    assert second.keys() == {"attempt", "commit", "changed_paths", "trees", "answers"}
    assert second["changed_paths"] == ["number"]
    assert len(second["trees"]["number"]) == 40
    assert second["trees"]["missing"] == ""


def test_a_job_without_steps_is_completed(
    shared_agent: AgentProcess, shared_plane: FakeControlPlane, history: History
) -> None:
    job = shared_plane.add_job(history.url, steps=[])
    finish = shared_plane.finished(job, 30)
    assert (finish["exit_code"], finish["error_message"]) == (0, None)
