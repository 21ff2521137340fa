"""Pipelines: listed, looked at, and saved."""

from pathlib import Path

import pytest

from tests.cli.conftest import hci
from tests.clients import Client
from tests.sources.hooks import connected

YAML = "steps:\n  - run: make\n"


def test_a_pipeline_is_made_from_a_file_changed_in_part_and_looked_at(boss: Client, tmp_path: Path) -> None:
    file = tmp_path / "ci.yml"
    file.write_text(YAML)
    assert hci("pipelines", "put", "web", str(file)).code == 2
    made = hci("pipelines", "put", "web", str(file), "--repository", "https://git.example.com/web.git", "--json").json
    assert (made["definition"], made["default_ref"]) == (YAML, "main")
    assert hci("pipelines", "put", "web", "--ref", "trunk").code == 0
    found = hci("pipelines", "get", "web", "--json").json
    assert (found["definition"], found["default_ref"], found["repository"]) == (YAML, "trunk", made["repository"])
    assert YAML.strip() in hci("pipelines", "get", "web").out
    assert hci("pipelines", "put", "web", "--from-repository", "--label", "linux", "--json").json["definition"] is None
    assert hci("pipelines", "list", "-q").out == "web\n"
    assert hci("pipelines", "get", "nothing").code == 3


def test_what_starts_its_runs_and_with_what_it_is_fetched_can_be_set_and_ended(boss: Client) -> None:
    connected("forge", "gitea")
    given = ("--connection", "forge", "--connection-repository", "acme/web", "--fetch-secret", "GIT", "--public-badge")
    made = hci("pipelines", "put", "web", "--repository", "https://git.example.com/web.git", *given, "--json").json
    assert (made["source"], made["source_repository"], made["fetch_secret"], made["badge"]) == (
        "forge", "acme/web", "GIT", True,
    )  # fmt: skip
    kept = hci("pipelines", "put", "web", "--ref", "trunk", "--json").json
    assert {name: kept[name] for name in ("source", "fetch_secret", "badge")} == {
        name: made[name] for name in ("source", "fetch_secret", "badge")
    }
    assert "forge: acme/web" in hci("pipelines", "get", "web").out
    ended = hci("pipelines", "put", "web", "--connection", "", "--fetch-secret", "", "--private-badge", "--json").json
    assert (ended["source"], ended["source_repository"], ended["fetch_secret"], ended["badge"]) == (
        None, None, None, False,
    )  # fmt: skip
    refused = hci("pipelines", "put", "web", "--connection", "elsewhere")
    assert (refused.code, "there is none with the id elsewhere" in refused.err) == (2, True)


def test_mistakes_of_a_definition_are_shown_with_their_lines(boss: Client) -> None:
    command = ("pipelines", "put", "web", "-", "--repository", "https://git.example.com/web.git")
    ended = hci(*command, stdin="steps:\n  - rum: make\n")
    assert (ended.code, "line 2" in ended.err) == (2, True)
    assert hci(*command, stdin=b"\xff").code == 2
    assert hci(*command, stdin=b"x" * 70_000).code == 2
    assert hci("pipelines", "put", "web", "/nothing/here", "--repository", "x").code == 2


def test_a_file_is_checked_and_nothing_is_saved(user: Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert hci("pipelines", "check").code == 2
    (tmp_path / ".hybrid-ci.yml").write_text("jobs: {lint: {steps: [{run: x}]}}")
    checked = hci("pipelines", "check")
    assert (checked.code, checked.err) == (0, ".hybrid-ci.yml is valid. Its jobs: lint\n")
    wrong = hci("pipelines", "check", "-", stdin="steps:\n  - rum: x\n")
    assert (wrong.code, "line 2" in wrong.err) == (2, True)
    assert hci("pipelines", "check", "--json").json["jobs"] == ["lint"]
    assert hci("pipelines", "list", "-q").out == ""


def test_a_file_of_another_product_is_converted(user: Client, tmp_path: Path) -> None:
    workflow = tmp_path / "ci.yml"
    workflow.write_text("on: push\njobs: {a: {runs-on: x, steps: [{run: make}, {uses: a/b@v1}]}}\n")
    target = tmp_path / "out.yml"
    command = ("pipelines", "import", "--from", "github", str(workflow))
    ended = hci(*command, "-o", str(target))
    assert (ended.code, f"{workflow}:2: " in ended.err) == (0, True)
    assert hci("pipelines", "check", str(target)).code == 0
    assert hci(*command).out == target.read_text()
    assert hci(*command, "-o", str(target)).code == 2
    assert hci("pipelines", "import", "--from", "gitlab", "-", stdin="[").code == 2
