"""Making tables, and bringing those of an earlier version up to date, on the emulator."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from pynamodb.attributes import TTLAttribute, UnicodeAttribute
from pynamodb.indexes import GlobalSecondaryIndex, IncludeProjection, KeysOnlyProjection

from controlplane.nosql.connection import shared_connection
from controlplane.nosql.record import Record, table_name
from controlplane.nosql.tables import create_tables
from tests.commands import command, manage

NAME = table_name("old-things")


class _ByColour(GlobalSecondaryIndex["_Thing"]):
    class Meta:
        index_name = "by_colour"
        projection = IncludeProjection(["weight"])

    colour = UnicodeAttribute(hash_key=True)
    thing = UnicodeAttribute(range_key=True)


class _BySize(GlobalSecondaryIndex["_Thing"]):
    class Meta:
        index_name = "by_size"
        projection = KeysOnlyProjection()

    size = UnicodeAttribute(hash_key=True)


class _Thing(Record):
    class Meta(Record.Meta):
        table_name = NAME

    thing = UnicodeAttribute(hash_key=True)
    colour = UnicodeAttribute(null=True)
    size = UnicodeAttribute(null=True)
    weight = UnicodeAttribute(null=True)
    expires_at = TTLAttribute(null=True)
    by_colour = _ByColour()
    by_size = _BySize()


# Only where a test declares it.
Record.kinds.remove(_Thing)


@contextmanager
def declared() -> Iterator[None]:
    Record.kinds.append(_Thing)
    try:
        yield
    finally:
        Record.kinds.remove(_Thing)


def client() -> Any:
    return shared_connection().client


@pytest.fixture
def old_table(emulator: str) -> Iterator[None]:
    """The table as an earlier version made it, with a thing in it: neither index nor TTL."""
    client().create_table(
        TableName=NAME,
        BillingMode="PAY_PER_REQUEST",
        KeySchema=[{"AttributeName": "thing", "KeyType": "HASH"}],
        AttributeDefinitions=[{"AttributeName": "thing", "AttributeType": "S"}],
    )
    item = {"thing": "chair", "colour": "red", "size": "large", "weight": "5 kg"}
    client().put_item(TableName=NAME, Item={name: {"S": value} for name, value in item.items()})
    yield
    client().delete_table(TableName=NAME)


def indexes() -> dict[str, Any]:
    return {
        index["IndexName"]: index
        for index in client().describe_table(TableName=NAME)["Table"]["GlobalSecondaryIndexes"]
    }


def test_a_table_of_an_earlier_version_gets_what_it_lacks_and_keeps_its_items(old_table: None) -> None:
    with declared():
        assert list(create_tables()) == [
            f"added the index by_colour to {NAME}",
            f"added the index by_size to {NAME}",
            f"enabled the TTL of {NAME}",
        ]
        assert [(thing.thing, thing.weight) for thing in _Thing.by_colour.query("red")] == [("chair", "5 kg")]
        assert [thing.thing for thing in _Thing.by_size.query("large")] == ["chair"]
    ttl = client().describe_time_to_live(TableName=NAME)["TimeToLiveDescription"]
    assert (ttl["TimeToLiveStatus"], ttl["AttributeName"]) == ("ENABLED", "expires_at")


def test_doing_it_again_does_nothing(old_table: None) -> None:
    with declared():
        assert list(create_tables())
        assert list(create_tables()) == []


def test_an_index_that_is_declared_otherwise_now_is_made_anew(old_table: None) -> None:
    client().update_table(
        TableName=NAME,
        AttributeDefinitions=[{"AttributeName": "colour", "AttributeType": "S"}],
        GlobalSecondaryIndexUpdates=[
            {
                "Create": {
                    "IndexName": "by_colour",
                    "KeySchema": [{"AttributeName": "colour", "KeyType": "HASH"}],
                    "Projection": {"ProjectionType": "ALL"},
                }
            }
        ],
    )
    with declared():
        said = list(create_tables())
        assert said[:2] == [
            f"deleted the index by_colour of {NAME}, because its declaration has changed",
            f"added the index by_colour to {NAME}",
        ]
        assert [thing.thing for thing in _Thing.by_colour.query("red")] == ["chair"]
    assert indexes()["by_colour"]["Projection"] == {"ProjectionType": "INCLUDE", "NonKeyAttributes": ["weight"]}


@pytest.mark.parametrize("there", [True, False])
def test_two_who_do_it_at_once_do_each_thing_once_and_both_succeed(there: bool, request: pytest.FixtureRequest) -> None:
    request.getfixturevalue("old_table" if there else "emulator")
    said: list[str] = []
    failed: list[Exception] = []
    start = threading.Barrier(4)

    def run() -> None:
        start.wait()
        try:
            said.extend(create_tables())
        except Exception as error:  # noqa: BLE001 — the test reports it
            failed.append(error)

    with declared():
        threads = [threading.Thread(target=run) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert failed == []
    assert set(indexes()) == {"by_colour", "by_size"}
    made = [what for what in said if what.startswith(("created", "added"))]
    assert len(made) == len(set(made)) == (2 if there else 1)
    if not there:
        client().delete_table(TableName=NAME)


def test_the_command_says_what_it_does(emulator: str) -> None:
    # Those of this process are there; a stage of its own has none.
    first, second = manage("create_tables", STAGE="local"), command("create_tables")
    assert (first.returncode, second.returncode) == (0, 0), first.stderr
    assert "created hybrid-ci-cd-jobs-local\n" in first.stdout
    assert second.stdout == "All tables are there, with all that belongs to them.\n"


@pytest.mark.parametrize("stage", ["staging", "production"])
def test_the_tables_of_a_stage_on_aws_are_its_stacks(stage: str, settings: Any) -> None:
    settings.STAGE = stage
    refused = command("create_tables", "--skip-checks")
    assert (refused.returncode, refused.stdout) == (1, "")
    assert f"manage.py infrastructure deploy --stage {stage}" in refused.stderr
