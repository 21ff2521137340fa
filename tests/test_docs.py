"""The documentation has every command, target and setting, and its links work."""

import re
from pathlib import Path

import pytest
from django.conf import settings

from apps.agents.states import AgentStatus
from apps.jobs.states import Status

ROOT = Path(settings.BASE_DIR)
# Variables that other programs read, and that settings.py does not.
OTHERS_READ = {
    "ADMIN_PASSWORD",
    "AWS_ACCESS_KEY_ID",
    "AWS_ENDPOINT_URL",
    "AWS_SECRET_ACCESS_KEY",
    "RELEASE_WATCH_SECONDS",
    "SECRETS_STORE",
    "STAGE_URL",
}


def settings_read() -> set[str]:
    source = (ROOT / "controlplane" / "settings.py").read_text()
    return set(re.findall(r"\benv(?:\.\w+)?\(\s*\"(\w+)\"", source))


def commands() -> list[str]:
    return sorted(
        path.stem
        for folder in ("apps", "controlplane")
        for path in (ROOT / folder).rglob("management/commands/*.py")
        if not path.stem.startswith("_")
    )


def make_targets() -> list[str]:
    """Each target that is not a file, explained or not."""
    phony = re.search(r"^\.PHONY: (.+)$", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert phony is not None
    return phony[1].split()


def links() -> list[tuple[Path, str]]:
    pages = [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")]
    return [
        (page, target)
        for page in pages
        for target in re.findall(r"\]\(([^)#]+)[^)]*\)", page.read_text())
        if "://" not in target
    ]


def test_every_setting_is_in_the_example_and_nothing_else_is() -> None:
    example = set(re.findall(r"^(\w+)=", (ROOT / ".env.example").read_text(), re.MULTILINE))
    assert example == settings_read() | OTHERS_READ


def test_the_departures_from_the_notes_name_every_status_of_a_job_and_of_an_agent() -> None:
    (record,) = (ROOT / "docs" / "decisions").glob("0033-*.md")
    text = record.read_text()
    for of, statuses in (("a job's", Status), ("an agent's", AgentStatus)):
        row = re.search(rf"^\| {of} status is ([^|]+) \| also ([^|]+) \|", text, re.MULTILINE)
        assert row is not None
        assert set(re.findall(r"[a-z_]+", f"{row[1]} {row[2]}")) - {"and", "or"} == set(statuses)


@pytest.mark.parametrize("command", commands())
def test_every_command_is_in_the_operations_manual(command: str) -> None:
    assert f"| `{command}` |" in (ROOT / "docs" / "operations.md").read_text()


def test_the_operations_manual_names_no_command_that_is_gone() -> None:
    section = (ROOT / "docs" / "operations.md").read_text().split("\n## ")[1]
    assert section.startswith("Commands")
    table = re.findall(r"^\| `(\w+)` \|", section, re.MULTILINE)
    assert set(table) == set(commands())


@pytest.mark.parametrize("target", make_targets())
def test_every_make_target_explains_itself(target: str) -> None:
    assert re.search(rf"^{target}:.*## \w", (ROOT / "Makefile").read_text(), re.MULTILINE)


@pytest.mark.parametrize(("page", "target"), links(), ids=lambda part: str(part).removeprefix(f"{ROOT}/"))
def test_every_link_of_the_documents_leads_somewhere(page: Path, target: str) -> None:
    assert (page.parent / target).exists()
