"""Writing sessions where the setting SESSION_STORE keeps them: in the table ``sessions``, or in this process's memory.

Both keep the same promises, so that callers need not know which one it is: a session is inserted only if its key is
new, replaced only if nothing else has replaced it since it was read, and one that has ended is not written again.
"""

from typing import Protocol

from apps.accounts.models import Session, session_memory, sessions_in_memory
from controlplane.lib import clock
from controlplane.nosql.connection import ConditionFailed
from controlplane.nosql.transaction import Transaction, TransactionFailed


class SessionRows(Protocol):
    """What a store of sessions writes."""

    def insert(self, session: Session) -> None:
        """Write a new session. Raises ConditionFailed if there is one with this key."""

    def replace(self, session: Session, *, revision: str) -> None:
        """Write over the session of this revision. Raises ConditionFailed if it has another one, or has ended."""

    def touch(self, session: Session) -> None:
        """Write only `last_seen_at` and `expires_at`. Raises ConditionFailed if the session has ended."""

    def delete(self, token_hash: str) -> None:
        """Delete the session, if it is there."""

    def commit(self, tx: Transaction, *, add: Session | None = None, remove: str | None = None) -> None:
        """Commit a transaction together with a new session, or with the end of the one with the hash `remove`.

        Raises what `Transaction.commit` raises; in TransactionFailed the session has the label "session".
        """


class TableRows:
    """Sessions in DynamoDB: they outlive the process, and all processes share them."""

    def insert(self, session: Session) -> None:
        session.save(condition=Session.token_hash.does_not_exist())

    def replace(self, session: Session, *, revision: str) -> None:
        session.save(condition=Session.revision == revision)

    def touch(self, session: Session) -> None:
        Session(session.token_hash).update(
            actions=[Session.last_seen_at.set(session.last_seen_at), Session.expires_at.set(session.expires_at)],
            condition=Session.token_hash.exists(),
        )

    def delete(self, token_hash: str) -> None:
        Session(token_hash).delete()

    def commit(self, tx: Transaction, *, add: Session | None = None, remove: str | None = None) -> None:
        if add is not None:
            tx.put("session", add)
        if remove is not None:
            tx.delete("session", Session(remove))
        tx.commit()


class MemoryRows:
    """Sessions in this process: they end with it, and no other process knows them. For development."""

    def insert(self, session: Session) -> None:
        with session_memory.lock:
            if session_memory.find(session.token_hash) is not None:
                raise ConditionFailed
            session_memory.expired_delete(clock.now())
            session_memory.put(session)

    def replace(self, session: Session, *, revision: str) -> None:
        with session_memory.lock:
            existing = session_memory.find(session.token_hash)
            if existing is None or existing.revision != revision:
                raise ConditionFailed
            session_memory.put(session)

    def touch(self, session: Session) -> None:
        with session_memory.lock:
            existing = session_memory.find(session.token_hash)
            if existing is None:
                raise ConditionFailed
            existing.last_seen_at, existing.expires_at = session.last_seen_at, session.expires_at
            session_memory.put(existing)

    def delete(self, token_hash: str) -> None:
        session_memory.delete(token_hash)

    def commit(self, tx: Transaction, *, add: Session | None = None, remove: str | None = None) -> None:
        """The lock keeps others from seeing one without the other; a failed commit leaves the sessions as they are."""
        with session_memory.lock:
            added = session_memory.find(add.token_hash) if add else None
            if added or (remove and session_memory.find(remove) is None):
                raise TransactionFailed({"session": added})
            tx.commit()
            if add is not None:
                session_memory.put(add)
            if remove is not None:
                session_memory.delete(remove)


_table = TableRows()
_memory = MemoryRows()


def session_rows() -> SessionRows:
    """The store that the setting SESSION_STORE names."""
    return _memory if sessions_in_memory() else _table
