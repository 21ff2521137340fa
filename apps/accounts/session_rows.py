"""Where sessions are kept: in the table ``sessions``, or in this process's memory (setting SESSION_STORE).

Both give the same promises, so that nothing above knows which one it has: a row is inserted only if its key is new,
replaced only if nobody replaced it since it was read, and one that is gone stays gone. Rows are found by the hash of
the token, in memory too.
"""

import threading
from typing import Protocol

from django.conf import settings

from apps.accounts.models import Session, User
from controlplane.lib import clock
from controlplane.nosql.connection import ConditionFailed
from controlplane.nosql.record import find_together
from controlplane.nosql.transaction import Transaction, TransactionFailed


class SessionRows(Protocol):
    """What a store of sessions can do."""

    def find(self, session_id: str) -> Session | None:
        """The row, expired or not, read consistently (one call at most), or None."""

    def find_with_user(self, session_id: str, user_id: str) -> tuple[Session | None, User | None]:
        """The row and the person, read consistently in one call; either may be None."""

    def of_user(self, user_id: str) -> list[Session]:
        """A person's rows, expired ones too, newest first. One made a moment ago may be missing; none is stale."""

    def insert(self, row: Session) -> None:
        """Write a new row. Raises ConditionFailed if there is one with this key."""

    def replace(self, row: Session, *, revision: str) -> None:
        """Write over the row of this revision. Raises ConditionFailed if it has another one, or is gone."""

    def touch(self, row: Session) -> None:
        """Write only when `row` was last seen and when it expires. Raises ConditionFailed if it is gone."""

    def delete(self, session_id: str) -> None:
        """Delete the row; one that is gone already is no error."""

    def commit(self, tx: Transaction, *, add: Session | None = None, remove: str | None = None) -> None:
        """Commit a transaction together with a new row, or with the end of one.

        Raises what `Transaction.commit` raises; in TransactionFailed the row has the label "session".
        """


class TableRows:
    """Sessions in DynamoDB: they outlive the process, and all processes have the same."""

    def find(self, session_id: str) -> Session | None:
        return Session.find(session_id)

    def find_with_user(self, session_id: str, user_id: str) -> tuple[Session | None, User | None]:
        row, user = find_together((Session, session_id), (User, user_id))
        return row, user  # type: ignore[return-value]

    def of_user(self, user_id: str) -> list[Session]:
        keys = [row.session_id for row in Session.by_user.query(user_id, scan_index_forward=False)]
        rows = {row.session_id: row for row in Session.find_many(keys)}
        return [rows[key] for key in keys if key in rows]

    def insert(self, row: Session) -> None:
        row.save(condition=Session.session_id.does_not_exist())

    def replace(self, row: Session, *, revision: str) -> None:
        row.save(condition=Session.revision == revision)

    def touch(self, row: Session) -> None:
        Session(row.session_id).update(
            actions=[Session.last_seen_at.set(row.last_seen_at), Session.expires_at.set(row.expires_at)],
            condition=Session.session_id.exists(),
        )

    def delete(self, session_id: str) -> None:
        Session(session_id).delete()

    def commit(self, tx: Transaction, *, add: Session | None = None, remove: str | None = None) -> None:
        if add is not None:
            tx.put("session", add)
        if remove is not None:
            tx.delete("session", Session(remove))
        tx.commit()


class MemoryRows:
    """Sessions in this process: they end with it, and no other process knows them. For development."""

    def __init__(self) -> None:
        self._rows: dict[str, Session] = {}
        self._lock = threading.RLock()

    def find(self, session_id: str) -> Session | None:
        with self._lock:
            return _copied(self._rows.get(session_id))

    def find_with_user(self, session_id: str, user_id: str) -> tuple[Session | None, User | None]:
        return self.find(session_id), User.find(user_id)

    def of_user(self, user_id: str) -> list[Session]:
        with self._lock:
            rows = [row for row in self._rows.values() if row.user_id == user_id]
        return sorted(rows, key=lambda row: row.created_at, reverse=True)

    def insert(self, row: Session) -> None:
        with self._lock:
            if row.session_id in self._rows:
                raise ConditionFailed
            self._forget_expired()
            self._put(row)

    def replace(self, row: Session, *, revision: str) -> None:
        with self._lock:
            standing = self._rows.get(row.session_id)
            if standing is None or standing.revision != revision:
                raise ConditionFailed
            self._put(row)

    def touch(self, row: Session) -> None:
        with self._lock:
            standing = self._rows.get(row.session_id)
            if standing is None:
                raise ConditionFailed
            standing.last_seen_at, standing.expires_at = row.last_seen_at, row.expires_at

    def delete(self, session_id: str) -> None:
        with self._lock:
            self._rows.pop(session_id, None)

    def commit(self, tx: Transaction, *, add: Session | None = None, remove: str | None = None) -> None:
        """Under the lock nobody sees the one without the other; a commit that fails leaves the rows as they are."""
        with self._lock:
            if (add and add.session_id in self._rows) or (remove and remove not in self._rows):
                raise TransactionFailed({"session": _copied(self._rows.get(add.session_id)) if add else None})
            tx.commit()
            if add is not None:
                self._put(add)
            if remove is not None:
                del self._rows[remove]

    def clear(self) -> None:
        """Forget all sessions."""
        with self._lock:
            self._rows.clear()

    def _put(self, row: Session) -> None:
        kept = _copied(row)
        if kept is not None:
            self._rows[row.session_id] = kept

    def _forget_expired(self) -> None:
        """What DynamoDB's TTL does for the table."""
        now = clock.now()
        for key in [key for key, row in self._rows.items() if row.expires_at <= now]:
            del self._rows[key]


def _copied(row: Session | None) -> Session | None:
    """Another object with the same values: what a caller changes must not change the row."""
    return Session(**row.attribute_values) if row is not None else None


_table = TableRows()
memory = MemoryRows()


def session_rows() -> SessionRows:
    """The store that the setting SESSION_STORE names."""
    return memory if settings.SESSION_STORE == "memory" else _table
