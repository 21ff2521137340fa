"""The full names of repositories, which become parts of addresses and give lists their order."""

import re
from collections.abc import Iterable

from apps.sources.providers.interface import Repository
from controlplane.lib.errors import InvalidInput

_PART = r"(?!\.{1,2}(?:/|$))[A-Za-z0-9._-]{1,255}"
_FULL_NAME = re.compile(rf"{_PART}(?:/{_PART}){{1,20}}")
_LONGEST = 500


def repository_require(full_name: str, *, field: str = "repository") -> str:
    """The name, if it is owner/name, or group/…/name as GitLab has them. Raises InvalidInput for the field."""
    if len(full_name) > _LONGEST or not _FULL_NAME.fullmatch(full_name):
        raise InvalidInput.field(field, "must be the full name of a repository, such as acme/shop")
    return full_name


def by_name(found: Iterable[Repository]) -> list[Repository]:
    """The repositories in the order of their full names. Capitals do not count."""
    return sorted(found, key=lambda one: one.full_name.lower())
