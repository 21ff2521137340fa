"""The DynamoDB emulator of `manage.py local`: ministack, with each write on disk before it is acknowledged.

`python -m controlplane.local.emulator --fd N --state FILE` serves on the listening socket N until SIGTERM. ministack
alone saves only in an orderly stop.
"""

import argparse
import asyncio
import json
import os
import signal
import sqlite3
import sys
from collections import defaultdict
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

# ministack reads these when it is imported.
os.environ.update(
    SERVICES="dynamodb", IOT_MTLS_ENABLED="0", SFTP_ENABLED="0", PERSIST_STATE="0", LOG_LEVEL="WARNING", USE_SSL="0"
)

from hypercorn.asyncio import serve
from hypercorn.config import Config
from ministack.app import app
from ministack.core import persistence
from ministack.services import dynamodb

from controlplane.local.store import Item, ItemKey, ItemStore

Table = dict[str, Any]
Scope = Any
Send = Callable[[Any], Awaitable[None]]

# ministack rebuilds these from the items.
_DERIVED = frozenset({"items", "ItemCount", "TableSizeBytes", dynamodb._INDEX_MEMBERS})
# The descriptions of tables, by the names of ministack's own state format.
_DESCRIPTIONS = {
    "tags": dynamodb._tags,
    "ttl_settings": dynamodb._ttl_settings,
    "pitr_settings": dynamodb._pitr_settings,
    "resource_policies": dynamodb._resource_policies,
}
_ITEM_OPERATIONS = frozenset(
    {
        *("GetItem", "PutItem", "UpdateItem", "DeleteItem", "Query", "Scan", "BatchGetItem", "BatchWriteItem"),
        *("TransactGetItems", "TransactWriteItems", "DescribeTable", "ListTables", "DescribeTimeToLive"),
    }
)


class Persistence:
    """Records every change of an item, and saves the changes before a response is sent.

    ministack handles each request in one step of the event loop, so a save between two requests never contains half a
    transaction. A write that cannot be saved is answered with 500 and saved with the next one.
    """

    def __init__(self, store: ItemStore) -> None:
        self._store = store
        self._unsaved: dict[ItemKey, Item | None] = {}
        self._description: str | None = None

    def restore(self) -> None:
        """Load the content of the file into ministack."""
        self._description = self._store.description()
        if self._description is None:
            return
        state = json.loads(self._description, object_hook=persistence._json_object_hook)
        tables = {_table_key(table): table for table in state["tables"].all_values()}
        for table in tables.values():
            table["items"] = defaultdict(dict)
        for (table_key, pk, sk), item in self._store.items():
            tables[table_key]["items"][pk][sk] = item
        dynamodb.load_persisted_state(state)
        for table in tables.values():
            dynamodb._items_replaced(table)

    def watch(self) -> None:
        """Record each change from now on, also the deletion of expired items."""
        set_item, remove_item = dynamodb._set_item, dynamodb._remove_item

        def noted_set(table: Table, pk: str, sk: str, item: Item) -> Item | None:
            self._unsaved[_table_key(table), pk, sk] = item
            return set_item(table, pk, sk, item)  # type: ignore[no-any-return]

        def noted_remove(table: Table, pk: str, sk: str) -> Item | None:
            self._unsaved[_table_key(table), pk, sk] = None
            return remove_item(table, pk, sk)  # type: ignore[no-any-return]

        dynamodb._set_item, dynamodb._remove_item = noted_set, noted_remove

    def save(self) -> None:
        """Write the changed items. Raises sqlite3.Error."""
        # The thread that deletes expired items takes this lock. Everything else runs on the event loop.
        with dynamodb._lock:
            unsaved, self._unsaved = self._unsaved, {}
        if not unsaved:
            return
        try:
            self._store.save_items(unsaved)
        except sqlite3.Error:
            self._unsaved = unsaved | self._unsaved
            raise

    def save_description(self) -> None:
        """Write the changed descriptions of tables. Raises sqlite3.Error."""
        tables = type(dynamodb._tables)()
        for scope, table in dynamodb._tables.all_items():
            tables.set_scoped(*scope, {name: value for name, value in table.items() if name not in _DERIVED})
        description = json.dumps({"tables": tables, **_DESCRIPTIONS}, default=persistence._json_default)
        if description != self._description:
            self._store.save_description(description, map(_table_key, tables.all_values()))
            self._description = description

    async def application(self, scope: Scope, receive: Any, send: Send) -> None:
        """ministack's ASGI application. A response waits until its changes are on disk."""

        async def send_when_saved(message: dict[str, Any]) -> None:
            if message["type"] == "http.response.start":
                self.save()
                if _operation(scope) not in _ITEM_OPERATIONS:
                    self.save_description()
            await send(message)

        await app(scope, receive, send_when_saved)


def _table_key(table: Table) -> str:
    arn: str = table["TableArn"]
    return arn


def _operation(scope: Scope) -> str:
    target = dict(scope["headers"]).get(b"x-amz-target", b"")
    return str(target.decode("latin-1").rpartition(".")[2])


async def _run(fd: int, state: Path) -> None:
    store = ItemStore(state)
    persistence = Persistence(store)
    persistence.restore()
    persistence.watch()
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    config = Config()
    config.bind = [f"fd://{fd}"]
    config.keep_alive_timeout = 75
    config.graceful_timeout = 1
    config.loglevel = "WARNING"
    await serve(persistence.application, config, shutdown_trigger=stop.wait)
    persistence.save()
    store.close()


def main() -> None:
    parser = argparse.ArgumentParser(prog="controlplane.local.emulator")
    parser.add_argument("--fd", type=int, required=True)
    parser.add_argument("--state", type=Path, required=True)
    options = parser.parse_args()
    try:
        asyncio.run(_run(options.fd, options.state))
    except sqlite3.Error as error:
        sys.exit(f"The state in {options.state} cannot be read or written: {error}")


if __name__ == "__main__":
    main()
