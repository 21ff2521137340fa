"""Creating the tables that the records declare, and updating the indexes and TTL of existing tables."""

import time
from collections.abc import Callable, Iterator
from importlib import import_module
from pkgutil import iter_modules
from typing import Any

from botocore.exceptions import ClientError
from django.apps import apps
from pynamodb.attributes import TTLAttribute

from controlplane.nosql.connection import shared_connection
from controlplane.nosql.record import Record

_PAUSE_SECONDS = 0.2
# Creating an index over many items takes this long at most; all other changes take seconds.
_WAIT_SECONDS = 30 * 60

# Another process makes the same change, or has made it. ValidationException may also mean an impossible change.
_CONFLICTS = frozenset({"LimitExceededException", "ResourceInUseException", "ValidationException"})


def record_tables() -> dict[str, list[type[Record]]]:
    """The full name of every table with its record classes, in the order of declaration."""
    # An app may import its records with their first use.
    for app in apps.get_app_configs():
        for module in iter_modules(getattr(app.models_module, "__path__", ())):
            import_module(f"{app.name}.models.{module.name}")
    tables: dict[str, list[type[Record]]] = {}
    for kind in Record.kinds:
        tables.setdefault(kind.Meta.table_name, []).append(kind)
    return tables


def create_tables() -> Iterator[str]:
    """Create each missing table, index and TTL; yields a line of text for each change.

    An index whose declaration has changed is deleted and created again, which loses no data. Nothing else changes, and
    every item stays. It may be repeated, and several processes may run it in parallel. Raises ClientError when DynamoDB
    refuses a change, TimeoutError when one takes more than half an hour.
    """
    for name, kinds in record_tables().items():
        # The record that declares most of the table's indexes; the others only share its keys.
        kind = max(kinds, key=lambda kind: len(kind._indexes))
        schema: Any = kind._get_schema()
        indexes = {index["index_name"]: index for index in schema["global_secondary_indexes"]}
        if _description(name) is None and _create(name, kind, schema):
            yield f"created {name}"
        _when_ready(name)
        yield from _indexes_update(name, indexes)
        for attribute in {attribute.attr_name for kind in kinds for attribute in _ttl_attributes(kind)}:
            if _ttl_set(name, attribute):
                yield f"enabled the TTL of {name}"


def _create(name: str, kind: type[Record], schema: dict[str, Any]) -> bool:
    """Create the table. False if another process has created it."""
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


def _indexes_update(name: str, indexes: dict[str, dict[str, Any]]) -> Iterator[str]:
    for index, declared in indexes.items():
        current = _current_index(name, index)
        if current is not None and not _alike(current, declared):
            if _index_update(name, declared, {"Delete": {"IndexName": index}}, gone=True):
                yield f"deleted the index {index} of {name}, because its declaration has changed"
            current = None
        if current is None and _index_update(name, declared, {"Create": _index(declared)}, gone=False):
            yield f"added the index {index} to {name}"


def _index_update(name: str, declared: dict[str, Any], update: dict[str, Any], *, gone: bool) -> bool:
    """Change one index and wait until it is ready. False if another process has made the change."""
    index = declared["index_name"]
    done = _done(
        lambda: shared_connection().client.update_table(
            TableName=name,
            AttributeDefinitions=declared["attribute_definitions"],
            GlobalSecondaryIndexUpdates=[update],
        ),
        or_else=lambda: (_current_index(name, index) is None) == gone,
    )
    _when_ready(name)
    return done


def _ttl_set(name: str, attribute: str) -> bool:
    """Enable the TTL. False if it is enabled already, also by another process."""

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
    """Make the change. False when another process has made it (`or_else` is true after DynamoDB has refused).

    DynamoDB makes one change of a table at a time, so this function retries while another change runs.
    """
    deadline = time.monotonic() + _WAIT_SECONDS
    while True:
        try:
            change()
        except ClientError as error:
            code = error.response["Error"]["Code"]
            if code not in _CONFLICTS:
                raise
            if or_else():
                return False
            if code == "ValidationException" or time.monotonic() > deadline:
                raise
            time.sleep(_PAUSE_SECONDS)
        else:
            return True


def _when_ready(name: str) -> None:
    """Wait until the table and all of its indexes are active. Raises TimeoutError after half an hour."""
    deadline = time.monotonic() + _WAIT_SECONDS
    while time.monotonic() < deadline:
        found = _description(name) or {}
        states = {index["IndexStatus"] for index in found.get("GlobalSecondaryIndexes") or ()}
        if {found.get("TableStatus"), *states} == {"ACTIVE"}:
            return
        time.sleep(_PAUSE_SECONDS)
    raise TimeoutError(f"DynamoDB is still changing {name} after {_WAIT_SECONDS // 60} minutes. Run this again later.")


def _description(name: str) -> dict[str, Any] | None:
    try:
        found: dict[str, Any] = shared_connection().client.describe_table(TableName=name)["Table"]
    except ClientError as error:
        if error.response["Error"]["Code"] == "ResourceNotFoundException":
            return None
        raise
    return found


def _current_index(name: str, index: str) -> dict[str, Any] | None:
    indexes = (_description(name) or {}).get("GlobalSecondaryIndexes") or ()
    return next((found for found in indexes if found["IndexName"] == index), None)


def _index(declared: dict[str, Any]) -> dict[str, Any]:
    return {
        "IndexName": declared["index_name"],
        "KeySchema": _key(declared),
        "Projection": declared["projection"],
    }


def _key(declared: dict[str, Any]) -> list[dict[str, str]]:
    """The key schema with the hash key first, as DynamoDB requires."""
    return sorted(declared["key_schema"], key=lambda entry: str(entry["KeyType"]))


def _alike(current: dict[str, Any], declared: dict[str, Any]) -> bool:
    projection, wanted = current["Projection"], declared["projection"]
    return (
        _key({"key_schema": current["KeySchema"]}) == _key(declared)
        and projection["ProjectionType"] == wanted["ProjectionType"]
        and set(projection.get("NonKeyAttributes", ())) == set(wanted.get("NonKeyAttributes", ()))
    )


def _ttl_attributes(kind: type[Record]) -> list[TTLAttribute]:
    return [attribute for attribute in kind.get_attributes().values() if isinstance(attribute, TTLAttribute)]
