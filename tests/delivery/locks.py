"""The files of requirements/, for the tests that read them."""

import re
from collections.abc import Iterator
from pathlib import Path

from django.conf import settings
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

FOLDER = Path(settings.BASE_DIR) / "requirements"


def entries(name: str) -> Iterator[tuple[Requirement, list[str]]]:
    """Each distribution of a lock, with its hashes."""
    text = re.sub(r"\\\n\s*", "", (FOLDER / f"{name}.txt").read_text())
    for line in text.splitlines():
        if line and not line.lstrip().startswith("#"):
            wanted, *hashes = line.split("--hash=")
            yield Requirement(wanted), [found.strip() for found in hashes]


def locked(name: str) -> dict[str, str]:
    """The versions that a lock installs here, by the normal form of their names."""
    return {canonicalize_name(wanted.name): _version(wanted) for wanted, _ in entries(name) if _fits(wanted)}


def wanted(name: str) -> dict[str, str]:
    """The versions that an input names, and the inputs that it includes."""
    found: dict[str, str] = {}
    for line in (FOLDER / f"{name}.in").read_text().splitlines():
        if line.startswith("-r "):
            found |= wanted(line.removeprefix("-r ").removesuffix(".in"))
        elif line and not line.startswith("#"):
            requirement = Requirement(line)
            found[canonicalize_name(requirement.name)] = _version(requirement)
    return found


def _version(requirement: Requirement) -> str:
    (specifier,) = requirement.specifier
    assert specifier.operator == "==", requirement
    return specifier.version


def _fits(requirement: Requirement) -> bool:
    return requirement.marker is None or requirement.marker.evaluate()
