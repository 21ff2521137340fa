"""What records store, and how large it is."""

import json
import threading
from typing import Any

import pytest
from pynamodb.connection.base import MetaTable

from apps.accounts.models import AccountClaim, User
from apps.jobs.models import Job, QueueEntry, QueueSet
from controlplane.nosql import record
from controlplane.nosql.connection import SharedConnection, shared_connection
from controlplane.nosql.record import CompactJSONAttribute, Record, _merge_meta, _value_bytes, find_together, table_name
from tests.nosql.answers import answered

JSON: Any = CompactJSONAttribute()


@pytest.mark.parametrize("value", [{"a": ["é", "🦆", 1.5, None, True]}, [], "text", {"b": '\n\t"\\'}, 0])
def test_json_is_stored_without_escapes_and_spaces_and_read_as_it_was(value: object) -> None:
    stored = JSON.serialize(value)
    assert stored == json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    assert JSON.deserialize(stored) == value


def test_json_of_earlier_versions_is_read() -> None:
    assert JSON.deserialize(json.dumps({"a": ["é", "🦆"]})) == {"a": ["é", "🦆"]}


def test_json_with_a_lone_surrogate_is_stored_too() -> None:
    assert JSON.serialize(None) is None
    stored = JSON.serialize(["\ud83e"])
    assert stored.encode() == b'["\\ud83e"]'
    assert JSON.deserialize(stored) == ["\ud83e"]


def test_a_record_knows_the_size_that_dynamodb_counts() -> None:
    entry = QueueEntry("set", "050#é", attempt=12)
    names = len("set_id") + len("position") + len("attempt")
    assert entry.stored_bytes() - names - len("set") - len("050#é".encode()) in range(2, 4)
    assert QueueSet("set", "id", labels=["gpu", "é"]).stored_bytes() - QueueSet("set", "id").stored_bytes() == 2 + 5


def test_dynamodbs_sizes_of_all_kinds_of_values() -> None:
    row = QueueEntry("set", "é", attempt=12, avoid=["a", "é"], avoid_until=None)
    names = sum(len(name) for name in ("set_id", "position", "attempt", "avoid"))
    # A number takes a byte more than its digits here, a list 3 bytes and one more for each member.
    assert row.stored_bytes() == names + 3 + 2 + (2 + 1) + (3 + (1 + 1) + (1 + 2))
    assert _value_bytes({"B": b"12345"}) == 5
    assert _value_bytes({"M": {"é": {"S": "abc"}, "b": {"N": "7"}}}) == 3 + (1 + 2 + 3) + (1 + 1 + 2)
    assert _value_bytes({"BOOL": True}) == _value_bytes({"NULL": True}) == 1
    assert _value_bytes({"S": "\ud83e"}) == 3
    assert _value_bytes({"L": []}) == 3


# --- reading ----------------------------------------------------------------------------------------------------------


def test_a_record_is_found_by_its_key_consistently_or_not_at_all(tables: None) -> None:
    QueueEntry("set", "1", attempt=1, since="then").save()
    with answered() as sent:
        found = QueueEntry.find("set", "1")
        assert QueueEntry.find("set", "2") is None
    assert (found.attempt, found.since) == (1, "then")
    assert [body["ConsistentRead"] for body in sent] == [True, True]


def test_a_read_can_be_limited_to_some_attributes(tables: None) -> None:
    QueueEntry("set", "1", attempt=1, since="then").save()
    found = QueueEntry.find("set", "1", attributes=["set_id", "position", "since"])
    assert (found.since, found.attempt) == ("then", None)


def test_many_records_are_read_a_hundred_a_call_and_missing_ones_left_out(tables: None) -> None:
    for number in range(3):
        AccountClaim(str(number), user_id="ada").save()
    with answered() as sent:
        found = AccountClaim.find_many(str(number) for number in range(101))
    assert sorted(record.claim for record in found) == ["0", "1", "2"]
    requests = [next(iter(body["RequestItems"].values())) for body in sent]
    assert [len(request["Keys"]) for request in requests] == [100, 1]
    assert all(request["ConsistentRead"] for request in requests)
    with answered() as sent:
        assert AccountClaim.find_many(iter(())) == []
        AccountClaim.find_many(["0"], consistent=False)
    (body,) = sent
    assert not next(iter(body["RequestItems"].values())).get("ConsistentRead")


def test_records_of_several_tables_are_found_together_in_the_order_asked(tables: None, ada: User) -> None:
    for name in ("one", "two"):
        AccountClaim(name, user_id=ada.user_id).save()
    with answered() as sent:
        found = find_together((AccountClaim, "two"), (User, ada.user_id), (AccountClaim, "none"), (AccountClaim, "one"))
    assert len(sent) == 1
    assert all(table["ConsistentRead"] for table in sent[0]["RequestItems"].values())
    two, user, none, one = found
    assert isinstance(two, AccountClaim)
    assert isinstance(one, AccountClaim)
    assert isinstance(user, User)
    assert (two.claim, one.claim, user.user_id, none) == ("two", "one", ada.user_id, None)
    assert find_together((AccountClaim, "none")) == [None]


def test_keys_that_were_not_processed_are_read_again(tables: None, ada: User) -> None:
    AccountClaim("one", user_id=ada.user_id).save()
    with answered() as sent:
        find_together((AccountClaim, "one"), (User, ada.user_id))
    rest = {table: asked for table, asked in sent[0]["RequestItems"].items() if "users" in table}
    first = {"Responses": {AccountClaim.Meta.table_name: [AccountClaim("one", user_id="x").serialize()]}}
    with answered({**first, "UnprocessedKeys": rest}) as sent:
        claim, user = find_together((AccountClaim, "one"), (User, ada.user_id))
    assert isinstance(claim, AccountClaim)
    assert isinstance(user, User)
    assert (claim.user_id, user.user_id) == ("x", ada.user_id)
    assert [sorted(body["RequestItems"]) for body in sent] == [sorted([*rest, AccountClaim.Meta.table_name]), [*rest]]


def test_two_records_on_one_table_share_its_indexes(tables: None) -> None:
    assert QueueEntry.Meta.table_name == QueueSet.Meta.table_name
    shared = shared_connection()._tables
    for kind in (QueueEntry, QueueSet):
        kind._get_connection()
        assert kind._get_connection().connection is shared_connection()
    meta = MetaTable({"TableName": "t", "AttributeDefinitions": [{"AttributeName": "a", "AttributeType": "S"}]})
    index = {"IndexName": "by_b", "KeySchema": [{"AttributeName": "b", "KeyType": "HASH"}]}
    other = MetaTable(
        {
            "TableName": "t",
            "AttributeDefinitions": [
                {"AttributeName": "a", "AttributeType": "S"},
                {"AttributeName": "b", "AttributeType": "S"},
            ],
            "GlobalSecondaryIndexes": [index],
        }
    )
    for _ in range(2):
        _merge_meta(meta, other)
    assert meta.data["GlobalSecondaryIndexes"] == [index]
    assert [each["AttributeName"] for each in meta.data["AttributeDefinitions"]] == ["a", "b"]
    assert QueueEntry.Meta.table_name in shared


def test_a_tables_name_has_the_stage() -> None:
    assert table_name("jobs") == "hybrid-ci-cd-jobs-test"
    assert QueueEntry.key_attribute().attr_name == "set_id"
    assert {QueueEntry, QueueSet, AccountClaim, User} <= set(Record.kinds)


def test_two_threads_that_use_a_record_first_at_the_same_time_both_get_the_shared_connection(
    emulator: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Job, "_connection", None)
    found: list[object] = []
    thread = threading.Thread(target=lambda: found.append(Job._get_connection().connection))

    def shared() -> SharedConnection:
        """The other thread comes while the first has PynamoDB's own connection only."""
        if not thread.ident:
            thread.start()
            thread.join(0.2)
        return shared_connection()

    monkeypatch.setattr(record, "shared_connection", shared)
    found.append(Job._get_connection().connection)
    thread.join(20)
    assert found == [shared_connection()] * 2
