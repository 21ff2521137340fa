"""The canonical form of an audit event: what its seal covers, and how exports write it. docs/audit.md describes it.

An event has one form, whatever this or a later version knows of its attributes: it is made from the stored item, and
all attributes are in it.
"""

import hashlib
import json
from base64 import b64encode
from collections.abc import Mapping
from typing import Any

# An item as DynamoDB stores it: ``{"action": {"S": "job.created"}, …}``.
Item = Mapping[str, Mapping[str, Any]]


def canonical_record(item: Item) -> dict[str, Any]:
    """The event as an object of JSON: a text of DynamoDB is a text, and any other value has its type: ``{"N": "5"}``.

    Today all attributes are texts. Also `detail` is one: the JSON as it is stored.
    """
    return {name: _value(value) for name, value in item.items()}


def canonical_bytes(record: Mapping[str, Any]) -> bytes:
    """The bytes of a leaf: `canonical_record` as JSON by RFC 8785, with sorted names and without spaces, in UTF-8.

    RFC 8785 sorts by UTF-16. Names of attributes are ASCII, so this is their order in any encoding.
    """
    return json.dumps(record, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def leaf_hash(record: Mapping[str, Any]) -> bytes:
    """The hash of the event's leaf: RFC 6962 section 2.1."""
    return hashlib.sha256(b"\x00" + canonical_bytes(record)).digest()


def _value(value: Mapping[str, Any]) -> Any:
    ((kind, content),) = value.items()
    return content if kind == "S" else {kind: _typed(kind, content)}


def _typed(kind: str, content: Any) -> Any:
    match kind:
        case "B":
            return b64encode(content).decode()
        case "BS":
            return sorted(b64encode(inner).decode() for inner in content)
        case "NS" | "SS":
            # DynamoDB's sets have no order.
            return sorted(content)
        case "L":
            return [_value(inner) for inner in content]
        case "M":
            return {name: _value(inner) for name, inner in content.items()}
        case _:
            return content
