"""Reading what a provider sends. Each member may be missing or of another type than documented: then it is None."""

import hashlib
import hmac
import json
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, cast
from urllib.parse import parse_qs

from apps.sources.providers.interface import Connection, SourceEvent, WebhookRequest
from apps.sources.states import EventKind
from controlplane.lib import clock
from controlplane.lib.error_codes import ErrorCode
from controlplane.lib.errors import Forbidden, InvalidInput

# Of a stored text; of a commit's message, whose last lines may ask to skip the run.
MAX_TEXT, MAX_MESSAGE = 300, 4_000
# More changed paths than these are as good as unknown: the run's first job then asks git.
MAX_PATHS, MAX_PATHS_BYTES = 1_000, 32 * 1024
_FORM = "application/x-www-form-urlencoded"


class Payload:
    """A JSON value of a provider. ``payload.at("head", "repo").text("full_name")``."""

    def __init__(self, value: Any) -> None:
        self._value = value

    def at(self, *path: str) -> "Payload":
        """What is there; of a missing member, a payload in which all is missing."""
        value = self._value
        for name in path:
            value = value.get(name) if isinstance(value, Mapping) else None
        return Payload(value)

    @property
    def is_there(self) -> bool:
        return self._value is not None

    def text(self, *path: str, limit: int = MAX_TEXT) -> str | None:
        """A text, shortened; None for an empty one."""
        value = self.at(*path)._value
        # Half of a surrogate pair is valid in JSON, but cannot be stored.
        return value[:limit].encode("utf-8", "replace").decode() if isinstance(value, str) and value else None

    def url(self, *path: str) -> str | None:
        """An http or https URL; None for anything else, such as javascript:"""
        text = self.text(*path, limit=2048)
        return text if text and text.lower().startswith(("https://", "http://")) else None

    def number(self, *path: str) -> int | None:
        """A whole number from 0 to 2^53."""
        value = self.at(*path)._value
        is_number = isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= 2**53
        return cast("int", value) if is_number else None

    def identifier(self, *path: str) -> str | None:
        """A number or a text, as a text."""
        number = self.number(*path)
        return str(number) if number is not None else self.text(*path, limit=100)

    def flag(self, *path: str) -> bool:
        return self.at(*path)._value is True

    def entries(self, *path: str) -> "list[Payload]":
        """The entries of a list."""
        value = self.at(*path)._value
        return [Payload(entry) for entry in value] if isinstance(value, list) else []

    def texts(self, *path: str, limit: int = 4096) -> list[str]:
        """The texts in a list; those that are too long are left out."""
        value = self.at(*path)._value
        entries = value if isinstance(value, list) else []
        texts = (entry for entry in entries if isinstance(entry, str) and 0 < len(entry) <= limit)
        return [text.encode("utf-8", "replace").decode() for text in texts]


# What reads one kind of webhook: its payload, and the event with what each webhook says; None if it does not matter.
EventReader = Callable[[Payload, SourceEvent], SourceEvent | None]


def payload_of(request: WebhookRequest) -> Payload:
    """The body of a webhook: JSON, or a form whose field `payload` has it. Raises InvalidInput."""
    body = request.body
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() == _FORM:
        try:
            fields = parse_qs(body.decode("ascii"), max_num_fields=10, strict_parsing=True)
        except ValueError:
            raise InvalidInput("The body is not a form.") from None
        body = fields.get("payload", [""])[0].encode("utf-8", "surrogatepass")
    try:
        value = json.loads(body.decode())
    except (ValueError, RecursionError):
        raise InvalidInput("The body is not JSON in UTF-8.") from None
    if not isinstance(value, dict):
        raise InvalidInput("The body must be a JSON object.")
    return Payload(value)


def hmac_verify(connection: Connection, body: bytes, signature: str) -> None:
    """Raises Forbidden unless `signature` is the HMAC-SHA256 of the body, in hexadecimal digits.

    The connection's secret counts, and the one before it until its time.
    """
    given = signature.lower().encode("ascii", "replace")
    expected = (hmac.digest(secret.encode(), body, hashlib.sha256) for secret in webhook_secrets(connection))
    if not any(hmac.compare_digest(one.hex().encode(), given) for one in expected):
        raise signature_invalid()


def webhook_secrets(connection: Connection) -> list[str]:
    """The secrets with which the provider may sign now. Raises DecryptionFailed, Unavailable."""
    until = connection.previous_webhook_secret_until
    is_overlap = until is not None and str(until) > clock.timestamp(clock.now())
    names = ["webhook_secret", *(["previous_webhook_secret"] if is_overlap else [])]
    return [secret for name in names if (secret := connection.secret(name))]


def signature_missing(header: str) -> Forbidden:
    """The error for a webhook without a signature."""
    message = f"The header {header} is missing. Enter the secret of the connection at the provider."
    return Forbidden(message, code=ErrorCode.SIGNATURE_MISSING)


def signature_invalid() -> Forbidden:
    """The error for a webhook whose signature is wrong, or whose connection does not exist."""
    message = "The signature does not match. Enter the secret of the connection at the provider."
    return Forbidden(message, code=ErrorCode.SIGNATURE_INVALID)


def commit_of(payload: Payload, *path: str) -> str | None:
    """The hash of a commit; None where the provider has zeros, which stand for no commit, or something else."""
    text = payload.text(*path, limit=65)
    is_hash = text is not None and len(text) in (40, 64) and all(digit in "0123456789abcdef" for digit in text)
    return text if is_hash and text and text.strip("0") else None


def changed_paths(commits: Sequence[Payload]) -> list[str] | None:
    """The paths that the commits add, change or remove; None if there are too many."""
    members = ("added", "modified", "removed")
    return paths_kept({path for commit in commits for member in members for path in commit.texts(member)})


def paths_kept(paths: Collection[str]) -> list[str] | None:
    """The paths in their order; None if there are too many to store."""
    if len(paths) > MAX_PATHS or sum(len(path.encode("utf-8", "replace")) for path in paths) > MAX_PATHS_BYTES:
        return None
    return sorted(paths)


def first_line(text: str | None) -> str | None:
    """The first line of a message, shortened."""
    return text.strip().partition("\n")[0][:MAX_TEXT] or None if text else None


def ref_pushed(payload: Payload, common: SourceEvent, *, message: str | None) -> SourceEvent | None:
    """`common` as a push of the branch or the tag that `ref` names in full; None for another ref.

    `message` is that of the commit which the ref now has.
    """
    ref = payload.text("ref")
    branch, tag = _ref_parts(ref)
    if branch is None and tag is None:
        return None
    kind = EventKind.TAG if tag is not None else EventKind.PUSH
    return replace(common, kind=kind, ref=ref, branch=branch, tag=tag, message=message, title=first_line(message))


def _ref_parts(ref: str | None) -> tuple[str | None, str | None]:
    """The branch and the tag that a full ref names; one of them is None, and both are for another ref."""
    for place, beginning in enumerate(("refs/heads/", "refs/tags/")):
        if ref and ref.startswith(beginning) and ref != beginning:
            name = ref.removeprefix(beginning)
            return (name, None) if place == 0 else (None, name)
    return None, None


def moment(payload: Payload) -> datetime | None:
    """A time: seconds since 1970, or a text as ISO 8601 has it; None for anything else."""
    seconds, text = payload.number(), payload.text(limit=40)
    try:
        if seconds is not None:
            return datetime.fromtimestamp(seconds, UTC)
        found = datetime.fromisoformat(text.removesuffix(" UTC")) if text else None
        return (found if found.tzinfo else found.replace(tzinfo=UTC)).astimezone(UTC) if found else None
    except (ValueError, OverflowError, OSError):
        return None
