"""The emulator has written each change to disk before it answers."""

import resource
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import botocore.config
import botocore.session
import pytest
from botocore.exceptions import BotoCoreError, ClientError
from django.conf import settings

Emulator = tuple["subprocess.Popen[bytes]", Any]
Start = Callable[[], Emulator]


@contextmanager
def emulator_process(state: Path) -> Iterator[Emulator]:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(64)
        process = subprocess.Popen(
            [sys.executable, "-m", "controlplane.local.emulator", f"--fd={listener.fileno()}", f"--state={state}"],
            cwd=settings.BASE_DIR,
            pass_fds=[listener.fileno()],
            stderr=subprocess.PIPE,
        )
        port = listener.getsockname()[1]
    client = botocore.session.get_session().create_client(
        "dynamodb",
        region_name="eu-central-1",
        endpoint_url=f"http://127.0.0.1:{port}",
        aws_access_key_id="local",
        aws_secret_access_key="local",
        config=botocore.config.Config(retries={"max_attempts": 0}),
    )
    try:
        yield process, client
    finally:
        process.kill()
        process.communicate()


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Starts the emulator, each time with the same file."""
    with ExitStack() as stack:
        yield lambda: stack.enter_context(emulator_process(tmp_path / "state"))


def table_create(client: Any, name: str) -> None:
    client.create_table(
        TableName=name,
        KeySchema=[{"AttributeName": "p", "KeyType": "HASH"}, {"AttributeName": "s", "KeyType": "RANGE"}],
        AttributeDefinitions=[
            {"AttributeName": "p", "AttributeType": "S"},
            {"AttributeName": "s", "AttributeType": "N"},
            {"AttributeName": "owner", "AttributeType": "S"},
        ],
        GlobalSecondaryIndexes=[
            {
                "IndexName": "by_owner",
                "KeySchema": [{"AttributeName": "owner", "KeyType": "HASH"}],
                "Projection": {"ProjectionType": "ALL"},
            }
        ],
        BillingMode="PAY_PER_REQUEST",
    )


def item(number: int, **more: Any) -> dict[str, Any]:
    return {"p": {"S": "p"}, "s": {"N": str(number)}, "owner": {"S": "ann"}, **more}


def kill(process: "subprocess.Popen[bytes]") -> None:
    process.kill()
    process.wait()


def numbers(client: Any, table: str) -> set[int]:
    pages = client.get_paginator("query").paginate(
        TableName=table, KeyConditionExpression="p = :p", ExpressionAttributeValues={":p": {"S": "p"}}
    )
    return {int(found["s"]["N"]) for page in pages for found in page["Items"]}


def test_every_acknowledged_write_survives_kill_9(start: Start) -> None:
    process, client = start()
    table_create(client, "things")
    client.update_time_to_live(
        TableName="things", TimeToLiveSpecification={"Enabled": True, "AttributeName": "expires_at"}
    )
    odd = {"blob": {"B": b"\x00\xff"}, "text": {"S": "ü\u2028🦀"}, "deep": {"L": [{"M": {"a": {"NULL": True}}}]}}
    client.put_item(TableName="things", Item=item(1, **odd))
    client.put_item(TableName="things", Item=item(2))
    client.put_item(TableName="things", Item=item(3))
    client.delete_item(TableName="things", Key={"p": {"S": "p"}, "s": {"N": "2"}})
    client.update_item(
        TableName="things",
        Key={"p": {"S": "p"}, "s": {"N": "3"}},
        UpdateExpression="SET x = :x",
        ExpressionAttributeValues={":x": {"S": "new"}},
    )
    kill(process)

    _, client = start()
    found = client.query(
        TableName="things",
        IndexName="by_owner",
        KeyConditionExpression="#o = :o",
        ExpressionAttributeNames={"#o": "owner"},
        ExpressionAttributeValues={":o": {"S": "ann"}},
    )["Items"]
    assert sorted(found, key=lambda found: found["s"]["N"]) == [item(1, **odd), item(3, x={"S": "new"})]
    assert client.describe_time_to_live(TableName="things")["TimeToLiveDescription"]["TimeToLiveStatus"] == "ENABLED"


def test_a_deleted_table_and_its_items_do_not_come_back(start: Start) -> None:
    process, client = start()
    table_create(client, "things")
    client.put_item(TableName="things", Item=item(1))
    client.delete_table(TableName="things")
    kill(process)

    process, client = start()
    assert client.list_tables()["TableNames"] == []
    table_create(client, "things")
    kill(process)

    _, client = start()
    assert numbers(client, "things") == set()


def test_a_transaction_is_complete_or_missing_after_kill_9(start: Start) -> None:
    process, client = start()
    for table in ("left", "right"):
        table_create(client, table)
    answered: set[int] = set()

    def write() -> None:
        for number in range(100_000):
            puts = [{"Put": {"TableName": table, "Item": item(number)}} for table in ("left", "right")]
            try:
                client.transact_write_items(TransactItems=puts)
            except (BotoCoreError, ClientError):
                return
            answered.add(number)

    writer = threading.Thread(target=write)
    writer.start()
    writer.join(0.7)
    kill(process)
    writer.join()

    _, client = start()
    left, right = numbers(client, "left"), numbers(client, "right")
    assert left == right
    assert len(answered) > 10
    assert answered <= left


def test_an_orderly_stop_leaves_one_whole_file(start: Start, tmp_path: Path) -> None:
    process, client = start()
    table_create(client, "things")
    process.terminate()
    assert process.wait(10) == 0
    assert [path.name for path in tmp_path.iterdir()] == ["state"]


@pytest.mark.skipif(not hasattr(resource, "prlimit"), reason="only Linux can limit another process")
def test_a_write_that_cannot_be_saved_is_not_acknowledged(start: Start, tmp_path: Path) -> None:
    process, client = start()
    table_create(client, "things")
    full = max(path.stat().st_size for path in tmp_path.iterdir())
    resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (full, resource.RLIM_INFINITY))
    with pytest.raises((ClientError, BotoCoreError)):
        client.put_item(TableName="things", Item=item(1, text={"S": "x" * 50_000}))
    resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    client.put_item(TableName="things", Item=item(2))
    kill(process)

    _, client = start()
    assert numbers(client, "things") == {1, 2}


def test_a_damaged_file_is_named_and_not_changed(start: Start, tmp_path: Path) -> None:
    (tmp_path / "state").write_text("This is no state." * 1000)
    process, _ = start()
    _, errors = process.communicate(timeout=20)
    assert process.returncode == 1
    assert str(tmp_path / "state") in errors.decode()
    assert "Traceback" not in errors.decode()
    assert (tmp_path / "state").read_text() == "This is no state." * 1000


def test_two_emulators_do_not_share_a_file(start: Start) -> None:
    _, client = start()
    table_create(client, "things")
    second, _ = start()
    _, errors = second.communicate(timeout=20)
    assert second.returncode == 1
    assert "locked" in errors.decode()
