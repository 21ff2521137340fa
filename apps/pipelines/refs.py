"""What may be handed to git: refs and the addresses of repositories.

Neither ever reaches a shell, and agents pass both behind ``--``; these rules are the first fence, so that nothing that
a shell or git could take for something else is stored at all.
"""

import re
from urllib.parse import urlsplit

from controlplane.lib.errors import InvalidInput

_REF = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._/+@#-]{0,254}")
_SCHEMES = ("https", "http", "ssh", "git", "file")
# What scp and git understand as a host and a path, as in git@example.org:team/project.git
_SCP_LIKE = re.compile(r"(?:[A-Za-z0-9_][A-Za-z0-9._-]*@)?[A-Za-z0-9][A-Za-z0-9.-]*:(?![:/-])[^:\\]+")
_REPOSITORY_MAX_LENGTH = 2048


def ref_validate(ref: str, *, field: str = "git_ref") -> str:
    """`ref` as it is, when it may name a branch, tag or commit.

    Stricter than git itself: only letters, digits and ``. _ / + @ # -``. Raises InvalidInput, naming `field`, with the
    code ``invalid_ref``.
    """
    if not _REF.fullmatch(ref):
        raise _invalid_ref(
            field,
            "use 1 to 255 letters, digits and the characters . _ / + @ # -, beginning with a letter, a digit or _",
        )
    for part in ("..", "//", "@{", "/."):
        if part in ref:
            raise _invalid_ref(field, f"git allows no {part!r} in a ref")
    for end in ("/", ".", ".lock"):
        if any(component.endswith(end) for component in (ref, *ref.split("/"))):
            raise _invalid_ref(field, f"git allows no part of a ref to end with {end!r}")
    return ref


def repository_validate(repository: str, *, field: str = "repository") -> str:
    """`repository` as it is, when it is an address that an agent may clone from.

    That is an https, http, ssh, git or file URL, ``user@host:path``, or the absolute path of a directory on the agent's
    machine. Raises InvalidInput, naming `field`, with the code ``invalid_repository``.
    """
    if not repository or len(repository) > _REPOSITORY_MAX_LENGTH:
        raise _invalid_repository(field, f"give an address of 1 to {_REPOSITORY_MAX_LENGTH} characters")
    if any(character.isspace() or not character.isprintable() for character in repository):
        raise _invalid_repository(field, "white space and control characters are not allowed (write a space as %20)")
    if "://" in repository:
        _url_validate(repository, field)
    elif not repository.startswith("/") and not _SCP_LIKE.fullmatch(repository):
        # This refuses a leading "-" and helpers of git's such as ext::
        raise _invalid_repository(
            field,
            "give a URL (https, http, ssh, git or file), user@host:path, or the absolute path of a local repository",
        )
    return repository


def _url_validate(repository: str, field: str) -> None:
    try:
        url = urlsplit(repository)
        # Reading the port is what finds one that is no number.
        url.port  # noqa: B018
    except ValueError:
        raise _invalid_repository(field, "this is no valid URL") from None
    if url.scheme not in _SCHEMES:
        raise _invalid_repository(field, f"the URL must begin with one of {', '.join(f'{s}://' for s in _SCHEMES)}")
    if url.password is not None or (url.scheme in ("https", "http") and url.username):
        raise _invalid_repository(
            field,
            "a password or token in the URL would be shown to everyone who may read the pipeline; "
            "let the agent's machine hold the credentials (a git credential helper or an SSH key)",
        )
    if url.scheme == "file":
        if not url.path.startswith("/"):
            raise _invalid_repository(field, "a file URL needs an absolute path, as in file:///srv/project.git")
    elif not url.hostname or url.hostname.startswith("-") or (url.username or "").startswith("-"):
        # ssh would take a host with a leading dash for an option.
        raise _invalid_repository(field, "the URL names no valid host")


def _invalid_ref(field: str, message: str) -> InvalidInput:
    return InvalidInput.field(field, message, code="invalid_ref")


def _invalid_repository(field: str, message: str) -> InvalidInput:
    return InvalidInput.field(field, message, code="invalid_repository")
