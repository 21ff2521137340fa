"""What records store, and how large it is."""

import json
from typing import Any

import pytest

from apps.jobs.models import QueueEntry, QueueSet
from controlplane.nosql.record import CompactJSONAttribute
from controlplane.nosql.transaction import ItemTooLarge, Transaction

JSON: Any = CompactJSONAttribute()


@pytest.mark.parametrize("value", [{"a": ["é", "🦆", 1.5, None, True]}, [], "text", {"b": '\n\t"\\'}, 0])
def test_json_is_stored_without_escapes_and_spaces_and_read_as_it_was(value: object) -> None:
    stored = JSON.serialize(value)
    assert stored == json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    assert JSON.deserialize(stored) == value


def test_json_of_earlier_versions_is_read() -> None:
    assert JSON.deserialize(json.dumps({"a": ["é", "🦆"]})) == {"a": ["é", "🦆"]}


def test_json_with_a_lone_surrogate_is_stored_too() -> None:
    stored = JSON.serialize(["\ud83e"])
    assert stored.encode() == b'["\\ud83e"]'
    assert JSON.deserialize(stored) == ["\ud83e"]


def test_a_record_knows_the_size_that_dynamodb_counts() -> None:
    entry = QueueEntry("set", "050#é", attempt=12)
    names = len("set_id") + len("position") + len("attempt")
    assert entry.stored_bytes() - names - len("set") - len("050#é".encode()) in range(2, 4)
    assert QueueSet("set", "id", labels=["gpu", "é"]).stored_bytes() - QueueSet("set", "id").stored_bytes() == 2 + 5


@pytest.mark.parametrize("kind", ["put", "update"])
def test_a_transaction_says_which_item_would_be_too_large(tables: None, kind: str) -> None:
    entry = QueueEntry("set", "050", attempt=1, since="x" * 409_600)
    transaction = Transaction()
    transaction.check("other", QueueEntry("set", "051"), QueueEntry.attempt.does_not_exist())
    if kind == "put":
        transaction.put("large", entry)
    else:
        transaction.update("large", entry, actions=[QueueEntry.since.set(entry.since)])
    with pytest.raises(ItemTooLarge) as refusal:
        transaction.commit()
    assert "large" in refusal.value.labels
    assert QueueEntry.count("set") == 0
