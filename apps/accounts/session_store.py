"""Django's session engine (setting SESSION_ENGINE): it reads by selectors and writes by services."""

from typing import Any, Self

from django.contrib.auth import SESSION_KEY
from django.contrib.sessions.backends.base import CreateError, SessionBase, UpdateError

from apps.accounts.models import Session, secret_hash, session_data_decode, session_token_new
from apps.accounts.selectors import session_find
from apps.accounts.services import (
    StartedSession,
    session_create,
    session_delete,
    session_touch,
    session_update,
)
from controlplane.lib import clock
from controlplane.lib.errors import Conflict, NotFound
from controlplane.lib.work import session_note


class SessionStore(SessionBase):
    """The session of a request; its `session_key` is the token. Loading costs one read, and a write once a minute.

    A session is created only if its key is new. If another request saved it since it was read, saving changes only what
    this request changed. A session that has ended is not saved again. It ends when it is not used for
    SESSION_IDLE_SECONDS, and SESSION_COOKIE_AGE after it was made however often it is used; an expired one is not
    loaded, though DynamoDB deletes it later.
    """

    def __init__(self, session_key: str | None = None) -> None:
        super().__init__(session_key)
        # What this request last read or wrote.
        self._row: Session | None = None

    @classmethod
    def of_started(cls, started: StartedSession) -> Self:
        """The session that a sign-in has made, to be sent to the browser as its new one."""
        store = cls(started.token)
        store._row = started.session
        store._session_cache = session_data_decode(started.session.data)
        store.accessed = store.modified = True
        return store

    @property
    def token_hash(self) -> str | None:
        """The hash by which services know the session; it opens nothing."""
        return secret_hash(self.session_key) if self.session_key else None

    def load(self) -> dict[str, Any]:
        """The data of the session; empty, and without a key from then on, if there is none or it has expired."""
        row = self._find(self.session_key)
        if row is None or row.expires_at <= clock.now():
            self._session_key = None
            return {}
        self._row = row
        session_note(row.device_id)
        data = session_data_decode(row.data)
        session_touch(session=row, data=data)
        return data

    def exists(self, session_key: str) -> bool:
        return self._find(session_key) is not None

    def create(self) -> None:
        """Give the session a new key and write it."""
        while True:
            self._session_key = self._get_new_session_key()
            try:
                self.save(must_create=True)
            except CreateError:
                continue
            self.modified = True
            return

    def cycle_key(self) -> None:
        """Give an anonymous session a new key. A user's session keeps its key.

        Django calls this when it renews the auth hash of a user's session after SECRET_KEY has changed. At this moment
        other requests of the same browser use the old key, and a new session would begin another 12 hours.
        """
        if SESSION_KEY not in self:
            super().cycle_key()

    def save(self, must_create: bool = False) -> None:
        """Write the session. Raises CreateError if it must be new and is not, UpdateError if it has ended."""
        if self.session_key is None:
            return self.create()
        data: dict[str, Any] = self._get_session(no_load=must_create)  # type: ignore[attr-defined]
        # Loading forgets the key of a session that has ended.
        token = self.session_key
        if token is None:
            raise UpdateError
        try:
            if must_create:
                self._row = session_create(token=token, data=data)
            else:
                self._row, self._session_cache = session_update(token=token, data=data, read=self._row)
        except Conflict as error:
            raise CreateError from error
        except NotFound as error:
            raise UpdateError from error
        return None

    def delete(self, session_key: str | None = None) -> None:
        token = session_key or self.session_key
        if token:
            session_delete(token=token)

    @classmethod
    def clear_expired(cls) -> None:
        """Nothing to do: DynamoDB deletes expired sessions, and those in memory go when another one is made."""

    def _get_new_session_key(self) -> str:
        """A new token. The condition of the write finds out whether it is taken, so this does not read."""
        return session_token_new(getattr(self, "_session_cache", {}).get(SESSION_KEY))

    @staticmethod
    def _find(session_key: str | None) -> Session | None:
        return session_find(secret_hash(session_key)) if session_key else None
