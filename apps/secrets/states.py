"""What a secret may be: its name, its value, the jobs that its scope includes, and the states of a version."""

import hashlib
import json
import re
from collections.abc import Sequence
from enum import StrEnum
from fnmatch import fnmatchcase

from controlplane.lib.errors import InvalidInput
from controlplane.lib.frozen import frozen

# The name of the variable in which steps get the value.
NAME = re.compile(r"[A-Z][A-Z0-9_]{0,63}")
NAME_FORM = "must be 1 to 64 capital letters, digits and _, beginning with a letter, such as PYPI_TOKEN"
# Of a shorter value, a log could not be masked without masking usual words.
MIN_CHARACTERS = 8
MAX_BYTES = 32 * 1024
MAX_BRANCHES = 20
_MAX_PATTERN = 255
# Agents set these themselves, and programs that steps start read them.
_RESERVED = re.compile(r"HYBRID_CI_.*|CI|PATH|HOME|USER|LOGNAME|SHELL|IFS|TMPDIR|LD_.*|DYLD_.*|BASH_ENV|ENV|PYTHONPATH")
_SCOPE_DIGITS = 12


class VersionState(StrEnum):
    """How far a version of a secret is.

    Jobs get the current version. A rotation makes a pending one and activates or reverts it. Then the version before it
    is the previous one, until systems no longer need it and it is retired. The last three have no value any more.
    """

    PENDING = "pending"
    CURRENT = "current"
    PREVIOUS = "previous"
    RETIRED = "retired"
    REVERTED = "reverted"
    DELETED = "deleted"


@frozen
class Scope:
    """Which jobs may get a secret. It never changes, so that what a job once could not get stays out of its reach.

    None and an empty sequence allow all. `branches` are patterns of branches, as in ``release/*``. Jobs of pull
    requests get the secret only if `pull_requests` is true, and never if the pull request comes from a fork.
    """

    pipeline: str | None = None
    environment: str | None = None
    branches: Sequence[str] = ()
    pull_requests: bool = False

    @property
    def key(self) -> str:
        """What tells secrets of one name apart: empty for the scope of everything, else 12 hexadecimal digits."""
        if self == Scope():
            return ""
        members = [self.pipeline, self.environment, sorted(self.branches), self.pull_requests]
        return hashlib.sha256(json.dumps(members).encode()).hexdigest()[:_SCOPE_DIGITS]

    @property
    def rank(self) -> tuple[bool, bool, bool]:
        """Of several secrets of one name that a job may get, it gets the one with the highest rank."""
        return bool(self.environment), bool(self.pipeline), bool(self.branches)

    @property
    def words(self) -> str:
        """The jobs that may get the secret, for people."""
        parts = [
            f"pipeline {self.pipeline}" if self.pipeline else "",
            f"environment {self.environment}" if self.environment else "",
            f"branches {', '.join(self.branches)}" if self.branches else "",
        ]
        said = ", ".join(part for part in parts if part) or "all jobs"
        return f"{said}, also of pull requests" if self.pull_requests else said

    def includes(self, job: "Recipient") -> bool:
        """Whether the job may get the secret."""
        if job.is_from_fork or (job.is_proposed and not self.pull_requests):
            return False
        if self.pipeline not in (None, job.pipeline) or self.environment not in (None, job.environment):
            return False
        if not self.branches:
            return True
        # Also “*” is a pattern of branches: it includes no tag.
        return job.branch is not None and any(fnmatchcase(job.branch, pattern) for pattern in self.branches)


@frozen
class Recipient:
    """A job that asks for secrets. `branch` is None if its ref is not known to be a branch."""

    pipeline: str
    branch: str | None
    environment: str | None = None
    is_proposed: bool = False
    is_from_fork: bool = False


def secret_id_of(name: str, scope: Scope) -> str:
    """The id of a secret: ``NAME``, or ``NAME.<key of the scope>``."""
    return f"{name}.{scope.key}" if scope.key else name


def name_validate(name: str) -> str:
    """The name unchanged. Raises InvalidInput for the field ``name``."""
    if not NAME.fullmatch(name):
        raise InvalidInput.field("name", NAME_FORM)
    if _RESERVED.fullmatch(name):
        raise InvalidInput.field("name", f"must not be {name}, since programs and agents use this variable themselves")
    return name


def value_validate(value: str) -> str:
    """The value unchanged. Raises InvalidInput for the field ``value``, whose message never has the value."""
    if len(value.strip()) < MIN_CHARACTERS:
        raise InvalidInput.field(
            "value", f"must have at least {MIN_CHARACTERS} characters, since a shorter one cannot be masked in logs"
        )
    try:
        size = len(value.encode())
    except UnicodeEncodeError:
        raise InvalidInput.field("value", "must be valid Unicode; encode binary data, for example as base64") from None
    if size > MAX_BYTES:
        raise InvalidInput.field("value", f"must be at most {MAX_BYTES:,} bytes, not {size:,}")
    if "\0" in value:
        raise InvalidInput.field("value", "must not contain NUL; encode binary data, for example as base64")
    return value


def branches_validate(branches: Sequence[str]) -> list[str]:
    """The patterns, each once. Raises InvalidInput for the field ``branches``."""
    if len(branches) > MAX_BRANCHES:
        raise InvalidInput.field("branches", f"must be at most {MAX_BRANCHES} patterns, not {len(branches)}")
    for pattern in branches:
        if not pattern or len(pattern) > _MAX_PATTERN or not pattern.isprintable() or " " in pattern:
            raise InvalidInput.field("branches", "must be names of branches, in which * stands for any characters")
    return sorted({*branches})
