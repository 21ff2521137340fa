"""Deleting expired items. DynamoDB's TTL deletes them some days later, and emulators never do."""

from collections.abc import Iterator

from pynamodb.attributes import TTLAttribute

from controlplane.lib import clock
from controlplane.nosql.connection import ConditionFailed
from controlplane.nosql.record import Record
from controlplane.nosql.tables import record_tables

# How many items one call reads.
_PAGE = 500


def expired_delete() -> Iterator[tuple[str, int]]:
    """Delete the expired items of every table; yields the table's full name and the number of deleted items.

    No code depends on this: every reader checks the expiry time of an item. It scans whole tables, so call it from
    commands and never from requests. If an item's expiry is extended during the scan, the item stays.
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
