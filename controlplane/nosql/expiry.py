"""Deleting what has expired, as DynamoDB's TTL does by itself but days later, and emulators not at all."""

from collections.abc import Iterator

from pynamodb.attributes import TTLAttribute

from controlplane.lib import clock
from controlplane.nosql.connection import ConditionFailed
from controlplane.nosql.record import Record
from controlplane.nosql.tables import record_tables

# So many items are read in one call.
_PAGE = 500


def expired_delete() -> Iterator[tuple[str, int]]:
    """Go through every table whose items expire; yields its full name and how many were deleted.

    Nothing depends on this: whoever reads such an item looks at its time. It reads whole tables, page by page, so it is
    for commands and never for requests. An item that is prolonged in the meantime stays.
    """
    now = clock.now()
    for name, kinds in record_tables().items():
        expiring = next(((kind, attribute) for kind in kinds for attribute in _expiries(kind)), None)
        if expiring is None:
            continue
        kind, expires_at = expiring
        deleted = 0
        keys = [key.attr_name for key in kind.get_attributes().values() if key.is_hash_key or key.is_range_key]
        for item in kind.scan(expires_at < now, attributes_to_get=keys, page_size=_PAGE):
            try:
                item.delete(condition=expires_at < now)
                deleted += 1
            except ConditionFailed:
                continue
        yield name, deleted


def _expiries(kind: type[Record]) -> list[TTLAttribute]:
    return [attribute for attribute in kind.get_attributes().values() if isinstance(attribute, TTLAttribute)]
