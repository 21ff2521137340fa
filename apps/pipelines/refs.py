"""What git may be given: refs and the addresses of repositories.

Neither ever reaches a shell, and agents pass both after ``--``. These rules are the first line of defence: a text that
a shell or git could misread is not even stored.
"""

import re
import unicodedata
from functools import cache, lru_cache
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from django.conf import settings

from controlplane.lib.error_codes import ErrorCode
from controlplane.lib.errors import InvalidInput

if TYPE_CHECKING:
    from agent.repositories import RepositoryPattern

# The invisible joiners that many scripts and emoji need within a word. Other invisible characters could make one ref
# look like another, or turn the text around it.
_JOINERS = "\u200c\u200d"
# What a query has in place of bytes that are not UTF-8.
_BROKEN = "\ufffd"
_SCHEMES = ("https", "http", "ssh", "git", "file")
# A host and a path as scp and git write them: git@example.org:team/project.git
_SCP_LIKE = re.compile(r"(?:[A-Za-z0-9_][A-Za-z0-9._-]*@)?[A-Za-z0-9][A-Za-z0-9.-]*:(?![:/-])[^:\\]+")
_REPOSITORY_MAX_LENGTH = 2048


def ref_validate(ref: str, *, field: str = "git_ref") -> str:
    """Return `ref` unchanged if it can be the name of a branch, tag or commit.

    This is stricter than git: of ASCII, only letters, digits and ``. _ / + @ # -`` are allowed. Of other characters,
    those that can be seen are: letters of any script, digits, signs and emoji. Raises InvalidInput for `field` with the
    code ``invalid_ref``.
    """
    if not _ref_form().fullmatch(ref) or unicodedata.category(ref[0]).startswith(("M", "C")):
        raise _invalid_ref(
            field,
            "must be 1 to 255 letters, digits and the characters . _ / + @ # -, or others beyond ASCII, beginning with "
            "a letter, a digit or _",
        )
    if not all(character.isprintable() or character in _JOINERS for character in ref) or _BROKEN in ref:
        raise _invalid_ref(field, "must be valid UTF-8 without white space and invisible characters")
    for part in ("..", "//", "/."):
        if part in ref:
            raise _invalid_ref(field, f"must not contain {part!r}, which git does not allow in a ref")
    for end in ("/", ".", ".lock"):
        if any(component.endswith(end) for component in (ref, *ref.split("/"))):
            raise _invalid_ref(field, f"must not have a part that ends with {end!r}, which git does not allow in a ref")
    return ref


def repository_validate(repository: str, *, field: str = "repository") -> str:
    """Return `repository` unchanged if it is an address that an agent may clone from.

    That is an https, http, ssh, git or file URL, ``user@host:path``, or the absolute path of a directory on the agent's
    machine. Raises InvalidInput for `field` with the code ``invalid_repository``.
    """
    if not repository or len(repository) > _REPOSITORY_MAX_LENGTH:
        raise _invalid_repository(field, f"must be 1 to {_REPOSITORY_MAX_LENGTH} characters long")
    if any(character.isspace() or not character.isprintable() for character in repository):
        raise _invalid_repository(field, "must not contain white space or control characters (write a space as %20)")
    if "://" in repository:
        _url_validate(repository, field)
    elif not repository.startswith("/") and not _SCP_LIKE.fullmatch(repository):
        # This refuses a leading "-" and git's remote helpers such as ext::
        raise _invalid_repository(
            field,
            "must be a URL (https, http, ssh, git or file), user@host:path, or the absolute path of a local repository",
        )
    return repository


def repository_allowed_require(repository: str, *, field: str = "repository") -> None:
    """Raises InvalidInput for `field` with the code ``repository_not_allowed`` unless ALLOWED_REPOSITORIES has it."""
    from agent.repositories import repository_is_allowed

    patterns = allowed_repositories()
    if not repository_is_allowed(repository, patterns):
        raise InvalidInput.field(
            field,
            "must have an address that the setting ALLOWED_REPOSITORIES allows: "
            + ", ".join(pattern.text for pattern in patterns),
            code=ErrorCode.REPOSITORY_NOT_ALLOWED,
        )


def allowed_repositories() -> "list[RepositoryPattern]":
    """The patterns of the setting ALLOWED_REPOSITORIES; empty: every repository. Raises ValueError."""
    return [_pattern(text.strip()) for text in settings.ALLOWED_REPOSITORIES]


@lru_cache
def _pattern(text: str) -> "RepositoryPattern":
    # Most stages allow all repositories, and no start needs the module.
    from agent.repositories import RepositoryPattern

    return RepositoryPattern.parse(text)


def _url_validate(repository: str, field: str) -> None:
    try:
        url = urlsplit(repository)
        # Only reading the port checks that it is a number.
        url.port  # noqa: B018
    except ValueError:
        raise _invalid_repository(field, "must be a valid URL: check its host and port") from None
    if url.scheme not in _SCHEMES:
        raise _invalid_repository(field, f"must begin with one of {', '.join(f'{s}://' for s in _SCHEMES)}")
    if url.password is not None or (url.scheme in ("https", "http") and url.username):
        raise _invalid_repository(
            field,
            "must not contain a password or token, which everyone who may read the pipeline would see; "
            "keep the credentials on the agent's machine (a git credential helper or an SSH key)",
        )
    if "?" in repository or "#" in repository:
        raise _invalid_repository(
            field, "must not contain ? or #; keep credentials on the agent's machine (a git credential helper)"
        )
    if url.scheme == "file":
        if not url.path.startswith("/"):
            raise _invalid_repository(field, "must have an absolute path, as in file:///srv/project.git")
    elif not url.hostname or url.hostname.startswith("-") or (url.username or "").startswith("-"):
        # ssh would read a host with a leading dash as an option.
        raise _invalid_repository(field, "must have a valid host, as in https://example.org/project.git")


@cache
def _ref_form() -> re.Pattern[str]:
    """Compiled when it is first needed: the ranges of Unicode take a fiftieth of a cold start."""
    return re.compile(r"[A-Za-z0-9_\u0080-\U0010ffff][A-Za-z0-9._/+@#\u0080-\U0010ffff-]{0,254}")


def _invalid_ref(field: str, message: str) -> InvalidInput:
    return InvalidInput.field(field, message, code=ErrorCode.INVALID_REF)


def _invalid_repository(field: str, message: str) -> InvalidInput:
    return InvalidInput.field(field, message, code=ErrorCode.INVALID_REPOSITORY)
