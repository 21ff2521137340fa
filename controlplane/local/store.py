"""The file that keeps the emulator's items after its process has ended."""

import json
import sqlite3
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

Item = dict[str, Any]
# Table, partition key and sort key of an item.
ItemKey = tuple[str, str, str]

_SCHEMA = """
CREATE TABLE IF NOT EXISTS item (
    tbl TEXT NOT NULL, pk TEXT NOT NULL, sk TEXT NOT NULL, body TEXT NOT NULL, PRIMARY KEY (tbl, pk, sk)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS description (id INTEGER PRIMARY KEY CHECK (id = 1), body TEXT NOT NULL);
"""


class ItemStore:
    """Items in a file that is always consistent: after `kill -9`, a save is complete or missing.

    Every method raises sqlite3.Error when the file is damaged, locked by another process or not writable.
    """

    def __init__(self, path: Path) -> None:
        self._connection = sqlite3.connect(path, isolation_level=None, timeout=1)
        # With a write-ahead log, NORMAL never damages the file. Only a power failure may lose the last moments.
        self._connection.executescript(
            f"PRAGMA locking_mode = EXCLUSIVE; PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL; {_SCHEMA}"
        )

    def description(self) -> str | None:
        """The last argument of `save_description`, None in a new file."""
        row = self._connection.execute("SELECT body FROM description").fetchone()
        return row[0] if row else None

    def items(self) -> Iterator[tuple[ItemKey, Item]]:
        """Every item."""
        for table, pk, sk, body in self._connection.execute("SELECT tbl, pk, sk, body FROM item"):
            yield (table, json.loads(pk), json.loads(sk)), json.loads(body)

    def save_items(self, items: Mapping[ItemKey, Item | None]) -> None:
        """Write all of the items, or none. None as an item deletes it."""
        # Keys are JSON, because a key may contain half a surrogate pair, which UTF-8 cannot encode.
        keyed = [((table, json.dumps(pk), json.dumps(sk)), item) for (table, pk, sk), item in items.items()]
        put = [(*key, json.dumps(item)) for key, item in keyed if item is not None]
        deleted = [key for key, item in keyed if item is None]
        with self._connection as connection:
            connection.execute("BEGIN IMMEDIATE")
            connection.executemany("INSERT OR REPLACE INTO item VALUES (?, ?, ?, ?)", put)
            connection.executemany("DELETE FROM item WHERE tbl = ? AND pk = ? AND sk = ?", deleted)

    def save_description(self, description: str, tables: Iterable[str]) -> None:
        """Write the descriptions of tables. Delete the items of tables that are not in `tables`."""
        with self._connection as connection:
            connection.execute("BEGIN IMMEDIATE")
            connection.execute("INSERT OR REPLACE INTO description VALUES (1, ?)", (description,))
            connection.execute(
                "DELETE FROM item WHERE tbl NOT IN (SELECT value FROM json_each(?))", [json.dumps([*tables])]
            )

    def close(self) -> None:
        self._connection.close()
