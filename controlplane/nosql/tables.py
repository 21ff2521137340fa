"""Making the tables that the records declare, and adding to those of an earlier version what they lack."""

import time
from collections.abc import Callable, Iterator
from typing import Any

from botocore.exceptions import ClientError
from pynamodb.attributes import TTLAttribute

from controlplane.nosql.connection import shared_connection
from controlplane.nosql.record import Record

_PAUSE_SECONDS = 0.2
# An index over many items takes long; nothing else here does.
_WAIT_SECONDS = 30 * 60

# Somebody else does the same just now, or has done it. DynamoDB says the third also of what can't be done at all.
_TAKEN = frozenset({"LimitExceededException", "ResourceInUseException", "ValidationException"})


def record_tables() -> dict[str, list[type[Record]]]:
    """The full name of every table with the records that live in it, in the order of declaration."""
    tables: dict[str, list[type[Record]]] = {}
    for kind in Record.kinds:
        tables.setdefault(kind.Meta.table_name, []).append(kind)
    return tables


def create_tables() -> Iterator[str]:
    """Make each table that is missing, and each index and TTL that a table lacks; yields in words what was done.

    An index that is declared otherwise than it stands is made anew: it holds nothing that its table does not. All else
    stays as it is, and every item. May be repeated, also by two at once. Raises ClientError when DynamoDB refuses.
    """
    for name, kinds in record_tables().items():
        # The record that declares most of the table's indexes; the others only share its keys.
        kind = max(kinds, key=lambda kind: len(kind._indexes))
        schema: Any = kind._get_schema()
        indexes = {index["index_name"]: index for index in schema["global_secondary_indexes"]}
        if _description(name) is None and _made(name, kind, schema):
            yield f"made {name}"
        _when_ready(name)
        yield from _indexes_bring(name, indexes)
        for attribute in {attribute.attr_name for kind in kinds for attribute in _ttl_attributes(kind)}:
            if _ttl_set(name, attribute):
                yield f"set the TTL of {name}"


def _made(name: str, kind: type[Record], schema: dict[str, Any]) -> bool:
    """Whether it was us who made the table."""
    indexes = [_index(index) for index in schema["global_secondary_indexes"]]
    return _done(
        lambda: shared_connection().client.create_table(
            TableName=name,
            BillingMode=kind.Meta.billing_mode,
            AttributeDefinitions=schema["attribute_definitions"],
            KeySchema=_key(schema),
            **({"GlobalSecondaryIndexes": indexes} if indexes else {}),
        ),
        or_else=lambda: _description(name) is not None,
    )


def _indexes_bring(name: str, indexes: dict[str, dict[str, Any]]) -> Iterator[str]:
    for index, declared in indexes.items():
        standing = _standing_index(name, index)
        if standing is not None and not _alike(standing, declared):
            if _updated(name, declared, {"Delete": {"IndexName": index}}, gone=True):
                yield f"took the index {index} of {name} away, which was another one"
            standing = None
        if standing is None and _updated(name, declared, {"Create": _index(declared)}, gone=False):
            yield f"added the index {index} to {name}"


def _updated(name: str, declared: dict[str, Any], update: dict[str, Any], *, gone: bool) -> bool:
    """Change one index and wait for it. Whether it was us who did it."""
    index = declared["index_name"]
    done = _done(
        lambda: shared_connection().client.update_table(
            TableName=name,
            AttributeDefinitions=declared["attribute_definitions"],
            GlobalSecondaryIndexUpdates=[update],
        ),
        or_else=lambda: (_standing_index(name, index) is None) == gone,
    )
    _when_ready(name)
    return done


def _ttl_set(name: str, attribute: str) -> bool:
    """Whether it was us who set it."""

    def is_set() -> bool:
        found = shared_connection().client.describe_time_to_live(TableName=name)["TimeToLiveDescription"]
        return found["TimeToLiveStatus"] in ("ENABLED", "ENABLING") and found["AttributeName"] == attribute

    if is_set():
        return False
    specification = {"AttributeName": attribute, "Enabled": True}
    return _done(
        lambda: shared_connection().client.update_time_to_live(TableName=name, TimeToLiveSpecification=specification),
        or_else=is_set,
    )


def _done(change: Callable[[], object], *, or_else: Callable[[], bool]) -> bool:
    """Make the change. False when DynamoDB refuses because somebody else is at it, and it is made then: `or_else`.

    DynamoDB takes one change of a table at a time, so it is tried again while another one goes on.
    """
    deadline = time.monotonic() + _WAIT_SECONDS
    while True:
        try:
            change()
        except ClientError as error:
            code = error.response["Error"]["Code"]
            if code not in _TAKEN:
                raise
            if or_else():
                return False
            if code == "ValidationException" or time.monotonic() > deadline:
                raise
            time.sleep(_PAUSE_SECONDS)
        else:
            return True


def _when_ready(name: str) -> None:
    """Wait until the table and all of its indexes can be used. Raises TimeoutError after half an hour."""
    deadline = time.monotonic() + _WAIT_SECONDS
    while time.monotonic() < deadline:
        found = _description(name) or {}
        states = {index["IndexStatus"] for index in found.get("GlobalSecondaryIndexes") or ()}
        if {found.get("TableStatus"), *states} == {"ACTIVE"}:
            return
        time.sleep(_PAUSE_SECONDS)
    raise TimeoutError(f"DynamoDB is still busy with {name}.")


def _description(name: str) -> dict[str, Any] | None:
    try:
        found: dict[str, Any] = shared_connection().client.describe_table(TableName=name)["Table"]
    except ClientError as error:
        if error.response["Error"]["Code"] == "ResourceNotFoundException":
            return None
        raise
    return found


def _standing_index(name: str, index: str) -> dict[str, Any] | None:
    indexes = (_description(name) or {}).get("GlobalSecondaryIndexes") or ()
    return next((found for found in indexes if found["IndexName"] == index), None)


def _index(declared: dict[str, Any]) -> dict[str, Any]:
    return {
        "IndexName": declared["index_name"],
        "KeySchema": _key(declared),
        "Projection": declared["projection"],
    }


def _key(declared: dict[str, Any]) -> list[dict[str, str]]:
    """The hash attribute first, as DynamoDB wants it."""
    return sorted(declared["key_schema"], key=lambda entry: str(entry["KeyType"]))


def _alike(standing: dict[str, Any], declared: dict[str, Any]) -> bool:
    projection, wanted = standing["Projection"], declared["projection"]
    return (
        _key({"key_schema": standing["KeySchema"]}) == _key(declared)
        and projection["ProjectionType"] == wanted["ProjectionType"]
        and set(projection.get("NonKeyAttributes", ())) == set(wanted.get("NonKeyAttributes", ()))
    )


def _ttl_attributes(kind: type[Record]) -> list[TTLAttribute]:
    return [attribute for attribute in kind.get_attributes().values() if isinstance(attribute, TTLAttribute)]
