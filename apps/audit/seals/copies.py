"""The copies of seals in object storage: a file for each, with the entries of its events and their hashes."""

import json
from typing import Any

from django.core.files.storage import storages

from apps.audit.seals import Leaves, Seal, SealError, hash_parse, seal_document, seal_parse

# A copy has at most 4,000 leaves of 130 bytes.
_COPY_BYTES = 16 * 1024 * 1024


def copy_storage() -> Any:
    """The storage of the copies: a bucket, or a directory."""
    return storages["seals"]


def copy_name(number: int) -> str:
    """The name of a seal's copy."""
    return f"audit-seals/{number:010d}.json"


def copy_write(seal: Seal, leaves: Leaves) -> bytes:
    """The content of a seal's copy."""
    document = {
        "seal": seal_document(seal),
        "entries": leaves.lines,
        "leaves": [leaf.hex() for leaf in leaves.hashes],
    }
    return json.dumps(document, separators=(",", ":")).encode()


def copy_find(number: int) -> tuple[Seal, Leaves] | None:
    """The copy of a seal in object storage; None if there is none, or if it is no copy of a seal of this number.

    Its signature is not checked. Raises Unavailable or OSError if the storage fails.
    """
    try:
        data, _ = copy_storage().read_range(copy_name(number), 0, _COPY_BYTES)
        found = copy_read(data)
    except (FileNotFoundError, SealError):
        return None
    return found if found[0].number == number else None


def last_copied(head: int) -> int:
    """The last seal up to `head` that has a copy; 0 for none. They are written in order. Raises as `copy_find`."""
    storage = copy_storage()
    if not head or storage.exists(copy_name(head)):
        return head
    low, high = 0, head
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if storage.exists(copy_name(middle)) else (low, middle)
    return low


def copy_read(data: bytes) -> tuple[Seal, Leaves]:
    """The seal and its leaves from the content of its copy. Raises SealError."""
    try:
        return copy_parse(json.loads(data))
    except ValueError as error:
        raise SealError(f"This is no copy of a seal: {error}.") from error


def copy_parse(document: Any) -> tuple[Seal, Leaves]:
    """The seal and its leaves from such an object of JSON. Raises SealError."""
    try:
        seal = seal_parse(document["seal"])
        return seal, Leaves.of(list(map(str, document["entries"])), list(map(hash_parse, document["leaves"])))
    except (KeyError, TypeError, ValueError) as error:
        raise SealError(f"This is no copy of a seal: {error}.") from error
