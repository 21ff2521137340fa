"""The sessions of this process, for the setting SESSION_STORE=memory."""

import threading
from datetime import datetime

from django.conf import settings

from apps.accounts.models.sessions import Session


class SessionMemory:
    """Sessions by the hash of their token. What goes in and out is a copy, so changing it changes nothing here.

    To read and then write, hold `lock` around both.
    """

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self._sessions: dict[str, Session] = {}

    def find(self, token_hash: str) -> Session | None:
        with self.lock:
            session = self._sessions.get(token_hash)
            return _copied(session) if session else None

    def of_user(self, user_id: str) -> list[Session]:
        """A user's sessions, expired ones too, newest first, as the index `Session.by_user` lists them."""
        with self.lock:
            found = [_copied(session) for session in self._sessions.values() if session.user_id == user_id]
        return sorted(found, key=lambda session: (session.created_at, session.token_hash), reverse=True)

    def put(self, session: Session) -> None:
        with self.lock:
            self._sessions[session.token_hash] = _copied(session)

    def delete(self, token_hash: str) -> None:
        with self.lock:
            self._sessions.pop(token_hash, None)

    def expired_delete(self, now: datetime) -> None:
        """What DynamoDB's TTL does for the table."""
        with self.lock:
            self._sessions = {key: found for key, found in self._sessions.items() if found.expires_at > now}

    def clear(self) -> None:
        with self.lock:
            self._sessions.clear()


def _copied(session: Session) -> Session:
    return Session(**session.attribute_values)


session_memory = SessionMemory()


def sessions_in_memory() -> bool:
    """Whether sessions are kept in `session_memory`, and not in the table."""
    return bool(settings.SESSION_STORE == "memory")
