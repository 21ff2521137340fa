"""Django's sessions on the table ``sessions`` (setting SESSION_ENGINE)."""

import secrets
import string
from datetime import datetime, timedelta
from typing import Any, Final

from django.conf import settings
from django.contrib.auth import SESSION_KEY
from django.contrib.sessions.backends.base import CreateError, SessionBase, UpdateError

from apps.accounts.models import Session, secret_hash
from controlplane.lib import clock
from controlplane.lib.errors import Unavailable
from controlplane.lib.ids import new_id
from controlplane.nosql.connection import CONFLICT_ATTEMPTS, ConditionFailed, pause_before_retry

# Under this key of its data a session keeps how its person signed in.
PROVIDER_KEY = "_provider"

_KEY_LENGTH = 32
_KEY_CHARACTERS = string.ascii_lowercase + string.digits
_ABSENT: Final = object()


class SessionStore(SessionBase):
    """A session in DynamoDB. Loading it costs one read.

    A session is created only if its key is new, and saved only if nobody saved it since it was read; otherwise what
    this request changed is laid over what stands there now. A session that is gone stays gone. None lives longer than
    SESSION_COOKIE_AGE, however often it is saved, and an expired one is not loaded though DynamoDB deletes it later.
    """

    def __init__(self, session_key: str | None = None) -> None:
        super().__init__(session_key)
        # What stands in the table as far as this request knows.
        self._row: Session | None = None

    def load(self) -> dict[str, Any]:
        """What the session holds; empty, and without a key from then on, if there is none or it has expired."""
        row = self._find(self.session_key) if self.session_key else None
        if row is None or row.expires_at <= clock.now():
            self._session_key = None
            return {}
        self._row = row
        return self.decode(row.data)

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

    def save(self, must_create: bool = False) -> None:
        """Write the session. Raises CreateError if it must be new and is not, UpdateError if it is gone."""
        if self.session_key is None:
            return self.create()
        data: dict[str, Any] = self._get_session(no_load=must_create)  # type: ignore[attr-defined]
        if self.session_key is None:
            raise UpdateError
        if must_create:
            self._insert(data)
        else:
            self._replace(data)
        return None

    def delete(self, session_key: str | None = None) -> None:
        key = session_key or self.session_key
        if key:
            Session(secret_hash(key)).delete()

    @classmethod
    def clear_expired(cls) -> None:
        """Nothing to do: DynamoDB deletes what has expired."""

    def _get_new_session_key(self) -> str:
        """166 random bits. That nobody has it yet is what the condition of the write finds out."""
        return "".join(secrets.choice(_KEY_CHARACTERS) for _ in range(_KEY_LENGTH))

    def _insert(self, data: dict[str, Any]) -> None:
        row = self._row_of(data, created=clock.now())
        try:
            row.save(condition=Session.session_id.does_not_exist())
        except ConditionFailed as error:
            if not self._stands(row):
                raise CreateError from error
        self._row = row

    def _replace(self, data: dict[str, Any]) -> None:
        standing = self._row or self._find(self.session_key)
        if standing is None:
            raise UpdateError
        before = self.decode(standing.data)
        changed = {key: value for key, value in data.items() if before.get(key, _ABSENT) != value}
        removed = before.keys() - data.keys()
        for attempt in range(CONFLICT_ATTEMPTS):
            row = self._row_of(data, created=clock.parse_timestamp(standing.created_at))
            try:
                row.save(condition=Session.revision == standing.revision)
            except ConditionFailed as error:
                found = self._find(self.session_key)
                if found is None:
                    raise UpdateError from error
                if found.revision != row.revision:
                    standing = found
                    kept = {key: value for key, value in self.decode(found.data).items() if key not in removed}
                    data = {**kept, **changed}
                    pause_before_retry(attempt)
                    continue
            self._row = row
            self._session_cache = data
            return
        raise Unavailable("Too many writers at once. Please try again.")

    def _row_of(self, data: dict[str, Any], *, created: datetime) -> Session:
        expires_at = min(
            self.get_expiry_date(modification=clock.now(), expiry=data.get("_session_expiry")),
            created + timedelta(seconds=settings.SESSION_COOKIE_AGE),
        )
        return Session(
            secret_hash(self.session_key or ""),
            user_id=data.get(SESSION_KEY),
            provider=data.get(PROVIDER_KEY),
            created_at=clock.timestamp(created),
            expires_at=expires_at.replace(microsecond=0),
            revision=new_id(),
            data=self.encode(data),
        )

    def _stands(self, row: Session) -> bool:
        """Whether a write whose condition failed was done before: then the answer to its first attempt was lost."""
        found = Session.find(row.session_id)
        return found is not None and found.revision == row.revision

    @staticmethod
    def _find(session_key: str | None) -> Session | None:
        return Session.find(secret_hash(session_key)) if session_key else None
