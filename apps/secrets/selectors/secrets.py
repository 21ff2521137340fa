"""Reading secrets and their versions. All reads are consistent."""

import re
from collections.abc import Iterable, Iterator, Sequence

from apps.secrets.models import SPACE, Secret, SecretVersion
from apps.secrets.states import NAME
from controlplane.lib.error_codes import ErrorCode
from controlplane.lib.errors import NotFound
from controlplane.lib.frozen import frozen
from controlplane.nosql.listing import Listing, place_decode

# The name of the list for its cursors.
_LIST = "secrets"
_ID = re.compile(rf"{NAME.pattern}(?:\.[0-9a-f]{{12}})?")
# It sorts directly after the point that separates a name from the key of a scope.
_AFTER_POINT = "/"

_BY_ID = Listing(Secret, None)


@frozen
class SecretPage:
    """A page of secrets by name; `next_cursor` is None on the last one."""

    secrets: list[Secret]
    next_cursor: str | None


def secret_get(secret_id: str) -> Secret:
    """The secret. Raises NotFound with the code ``secret_not_found``."""
    secret = Secret.find(SPACE, secret_id) if _ID.fullmatch(secret_id) else None
    if secret is None:
        raise NotFound(f"There is no secret with the id “{secret_id[:80]}”.", code=ErrorCode.SECRET_NOT_FOUND)
    return secret


def secret_list(*, limit: int = 50, cursor: str | None = None) -> SecretPage:
    """Up to `limit` secrets in the order of their ids. Raises InvalidInput for a cursor that no page gave."""
    page = _BY_ID.page([SPACE], limit=limit, start=place_decode(_LIST, cursor))
    return SecretPage(page.records, page.next_cursor(_LIST))


def secrets_all() -> Iterator[list[Secret]]:
    """All secrets in the order of their ids, up to 100 at a time. One query for each megabyte of them."""
    return _BY_ID.batches([SPACE])


def secrets_named(names: Iterable[str]) -> dict[str, list[Secret]]:
    """All secrets of these names, whatever their scopes. One query for each name."""
    return {
        name: list(
            Secret.query(SPACE, Secret.secret_id.between(name, f"{name}{_AFTER_POINT}"), consistent_read=True)
            if NAME.fullmatch(name)
            else ()
        )
        for name in names
    }


def secret_versions(secret_id: str, *, limit: int = 50) -> Sequence[SecretVersion]:
    """The newest versions of a secret, the newest first."""
    return list(SecretVersion.query(secret_id, scan_index_forward=False, limit=limit, consistent_read=True))


def version_get(secret_id: str, number: int) -> SecretVersion:
    """A version. Raises NotFound with the code ``secret_not_found``."""
    version = SecretVersion.find(secret_id, number)
    if version is None:
        raise NotFound(f"The secret {secret_id} has no version {number}.", code=ErrorCode.SECRET_NOT_FOUND)
    return version


def secret_context(secret_id: str, number: int) -> tuple[str, ...]:
    """The place to which the value of a version is bound when it is encrypted."""
    return ("secret", secret_id, str(number), "value")
