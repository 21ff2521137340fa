"""Everything that is installed is locked, with hashes, and each lock is what its input needs."""

import json
import re
from importlib.metadata import distribution

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from controlplane.deployment import lambda_package
from tests.delivery.locks import FOLDER, entries, locked, wanted
from tests.delivery.workflows import ROOT

LOCKS = sorted(path.stem for path in FOLDER.glob("*.in"))


def closure(names: set[str]) -> set[str]:
    """These distributions and all that they need here, by what the installed ones say of themselves."""
    found: set[str] = set()
    left = [(name, "") for name in names]
    seen = set(left)
    while left:
        name, extra = left.pop()
        found.add(name)
        for text in distribution(name).requires or ():
            need = Requirement(text)
            if need.marker is None or need.marker.evaluate({"extra": extra}):
                more = [(canonicalize_name(need.name), of) for of in ("", *need.extras)]
                left += [one for one in more if one not in seen]
                seen.update(more)
    return found


@pytest.mark.parametrize("name", LOCKS)
def test_each_distribution_is_locked_with_hashes(name: str) -> None:
    for requirement, hashes in entries(name):
        assert hashes, requirement
        assert all(re.fullmatch("sha256:[0-9a-f]{64}", one) for one in hashes), requirement


@pytest.mark.parametrize("name", LOCKS)
def test_a_lock_agrees_with_its_input_and_has_what_that_needs_and_no_more(name: str) -> None:
    """`make lock` makes it so."""
    versions = locked(name)
    assert {name: versions.get(name) for name in wanted(name)} == wanted(name)
    assert set(versions) - INSTALLERS == closure(set(wanted(name))) - INSTALLERS


# They install; uv brings the environment without them, and Zappa names them among what it needs.
INSTALLERS = {"pip", "setuptools", "wheel"}


@pytest.mark.parametrize("name", LOCKS)
def test_all_locks_have_the_same_versions(name: str) -> None:
    assert locked(name).items() <= locked("dev").items()


def test_the_file_at_the_top_names_the_lock_that_the_package_for_lambda_is_made_of() -> None:
    """People and tools look for it there. It has no versions of its own, so that no lock can contradict it."""
    assert (ROOT / "requirements.txt").read_text() == "-r requirements/runtime.txt\n"
    assert lambda_package._LOCK == FOLDER / "runtime.txt"
    # The package does not contain it, and Dependabot looks into the folder of the locks alone.
    assert "requirements.txt" in json.loads((ROOT / "zappa_settings.json").read_text())["base"]["exclude_glob"]
    updates = yaml.safe_load((ROOT / ".github" / "dependabot.yml").read_text())["updates"]
    folders = {update["directory"] for update in updates if update["package-ecosystem"] in ("pip", "uv")}
    assert folders == {"/requirements"}


def test_no_lock_names_an_index_or_a_place_outside_the_project() -> None:
    for path in FOLDER.iterdir():
        assert not re.search(r"index-url|find-links|https?://|file:", path.read_text()), path


def test_whatever_installs_asks_for_hashes() -> None:
    """Also what a stranger's CI or image would copy from here."""
    files = [ROOT / name for name in ("Makefile", "Dockerfile", ".hybrid-ci.yml", ".ci/run")]
    files += (ROOT / ".github" / "workflows").glob("*.yml")
    found = []
    for path in files:
        for line in re.sub(r"\\\n\s*", "", path.read_text()).splitlines():
            if re.search(r"\bpip install\b", line) and "--dry-run" not in line:
                found.append(path.name)
                assert "--require-hashes" in line, f"{path}: {line}"
    assert {"Makefile", "Dockerfile"} <= set(found)
