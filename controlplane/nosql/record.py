"""The base of every record: a PynamoDB model with the stage in its table's name and a shared connection."""

import json
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, ClassVar, Self

from django.conf import settings
from pynamodb.attributes import Attribute, JSONAttribute
from pynamodb.connection.base import MetaTable
from pynamodb.connection.table import TableConnection
from pynamodb.expressions.condition import Condition
from pynamodb.models import Model

from controlplane.nosql.connection import SharedConnection, shared_connection

_first_use = threading.RLock()


def table_name(table: str) -> str:
    """The full name of a table in this stage, for a record's ``Meta.table_name``."""
    return f"hybrid-ci-cd-{table}-{settings.STAGE}"


class CompactJSONAttribute(JSONAttribute):
    """JSON in a text, as PynamoDB's attribute stores it, but without spaces and without escapes for Unicode.

    An escaped character takes up to three times as many of the 400 KB that an item may have. It reads both forms.
    """

    def serialize(self, value: Any) -> str | None:
        return None if value is None else compact_json(value)


def compact_json(value: Any) -> str:
    """The value as JSON in as few bytes of UTF-8 as possible."""
    text = json.dumps(value, separators=(",", ":"), ensure_ascii=False)
    try:
        text.encode()
    except UnicodeEncodeError:
        # A lone surrogate, which UTF-8 cannot encode. JSON can escape it.
        return json.dumps(value, separators=(",", ":"))
    return text


class Record(Model):
    """A kind of item. Declare ``class Meta(Record.Meta): table_name = table_name("jobs")`` and the attributes.

    Several records may share a table. Only services write and only selectors read; import-linter checks that.
    """

    class Meta:
        table_name: str
        billing_mode = "PAY_PER_REQUEST"

    kinds: ClassVar[list[type["Record"]]] = []

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        Record.kinds.append(cls)

    @classmethod
    def _get_connection(cls) -> TableConnection:
        found = cls._connection
        if found is not None and isinstance(found.connection, SharedConnection):
            return found
        # PynamoDB's own connection, which has no region, is there first. Other threads must not use it.
        with _first_use:
            own = super()._get_connection()
            shared = shared_connection()
            if cls.Meta.table_name not in shared._tables:
                shared.add_meta_table(own.get_meta_table())
            else:
                _merge_meta(shared._tables[cls.Meta.table_name], own.get_meta_table())
            own.connection = shared
            return own

    def stored_bytes(self) -> int:
        """The size of the item, as DynamoDB counts it for its limit of 400 KB."""
        return sum(len(name.encode()) + _value_bytes(value) for name, value in self.serialize().items())

    @classmethod
    def key_attribute(cls) -> Attribute[Any]:
        """The hash key, for conditions on whether an item exists."""
        attribute: Attribute[Any] = cls._hash_key_attribute()  # type: ignore[no-untyped-call]
        return attribute

    @classmethod
    def find(cls, hash_key: Any, range_key: Any = None, *, attributes: Sequence[str] | None = None) -> Self | None:
        """The item, read consistently, or None. `attributes` (names in the table) limits what is read."""
        try:
            return cls.get(hash_key, range_key, consistent_read=True, attributes_to_get=attributes)
        except cls.DoesNotExist:
            return None

    @classmethod
    def find_many(cls, keys: Iterable[Any], *, consistent: bool = True) -> list[Self]:
        """Read any number of items, 100 a call, in DynamoDB's order. The result omits items that do not exist."""
        wanted = list(keys)
        return list(cls.batch_get(wanted, consistent_read=consistent)) if wanted else []

    @classmethod
    def stored_items(
        cls,
        hash_key: str,
        within: Condition | None = None,
        *,
        keep: Condition | None = None,
        attributes: Sequence[str] | None = None,
    ) -> Iterator[dict[str, Any]]:
        """The items of a partition as they are stored, by their range keys, read consistently.

        An item has also what this version does not know. `within` limits the range key. DynamoDB leaves out what
        `keep` is not true for.
        """
        last = None
        while True:
            answer = cls._get_connection().query(
                hash_key,
                range_key_condition=within,
                filter_condition=keep,
                consistent_read=True,
                exclusive_start_key=last,
                attributes_to_get=attributes,
            )
            yield from answer["Items"]
            last = answer.get("LastEvaluatedKey")
            if last is None:
                return


def find_together(*wanted: tuple[type[Record], str]) -> list[Record | None]:
    """Records of different tables by their hash keys, read consistently in one call; None if one does not exist."""
    keys: dict[str, Any] = {}
    for kind, key in wanted:
        entry = keys.setdefault(kind.Meta.table_name, {"Keys": [], "ConsistentRead": True})
        entry["Keys"].append({kind._hash_key_attribute().attr_name: {"S": key}})  # type: ignore[no-untyped-call]
    found: dict[str, list[dict[str, Any]]] = {}
    while keys:
        # DynamoDB returns some keys unprocessed when it throttles.
        answer = shared_connection()._make_api_call("BatchGetItem", {"RequestItems": keys})
        for table, items in answer["Responses"].items():
            found.setdefault(table, []).extend(items)
        keys = answer.get("UnprocessedKeys") or {}
    return [_with_key(kind, key, found.get(kind.Meta.table_name, [])) for kind, key in wanted]


def _with_key(kind: type[Record], key: str, items: Iterable[dict[str, Any]]) -> Record | None:
    name = kind._hash_key_attribute().attr_name  # type: ignore[no-untyped-call]
    return next((kind.from_raw_data(item) for item in items if item[name] == {"S": key}), None)


def _merge_meta(shared: MetaTable, own: MetaTable) -> None:
    """Merge the indexes of two records on one table. They have the same keys, but may declare different indexes."""
    for part in ("GlobalSecondaryIndexes", "LocalSecondaryIndexes", "AttributeDefinitions"):
        known = shared.data.setdefault(part, [])
        known.extend(entry for entry in own.data.get(part, []) if entry not in known)


def _value_bytes(value: Mapping[str, Any]) -> int:
    """The size of an attribute's value in DynamoDB's own form (``{"S": "text"}``)."""
    ((kind, content),) = value.items()
    match kind:
        case "S":
            return len(content.encode("utf-8", "surrogatepass"))
        case "N":
            # DynamoDB packs two digits into a byte. That some numbers count for more here does no harm.
            return len(content) + 1
        case "B":
            return len(content)
        case "L":
            return 3 + sum(1 + _value_bytes(inner) for inner in content)
        case "M":
            return 3 + sum(1 + len(name.encode()) + _value_bytes(inner) for name, inner in content.items())
        case _:
            return 1
