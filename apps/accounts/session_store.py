"""Django's sessions over `session_rows` (setting SESSION_ENGINE)."""

import secrets
import string
from contextlib import suppress
from datetime import datetime, timedelta
from typing import Any, Final

from django.conf import settings
from django.contrib.auth import SESSION_KEY
from django.contrib.sessions.backends.base import CreateError, SessionBase, UpdateError

from apps.accounts.models import Session, secret_hash
from apps.accounts.session_rows import session_rows
from controlplane.lib import clock
from controlplane.lib.errors import Unavailable
from controlplane.lib.ids import new_id
from controlplane.nosql.connection import CONFLICT_ATTEMPTS, ConditionFailed, pause_before_retry

# Under this key of its data a session keeps how and where its person signed in: attributes of `Session`, by name.
SIGN_IN_KEY = "_sign_in"

# How old what a session says of its last use may be. More exact would cost a write for every request.
TOUCH_SECONDS = 60

_KEY_LENGTH = 32
_KEY_CHARACTERS = string.ascii_lowercase + string.digits
_ABSENT: Final = object()


def token_owner(token: str) -> str | None:
    """The person whom a token says it is of, so that both can be read in one call; true only if its row is there."""
    random, _, owner = token.partition(".")
    return owner if len(random) == _KEY_LENGTH and owner else None


class SessionStore(SessionBase):
    """A session. Loading it costs one read, and once a minute a write that notes the use.

    A session is created only if its key is new, and saved only if nobody saved it since it was read; otherwise what
    this request changed is laid over what stands there now. A session that is gone stays gone. It ends when nobody
    uses it for SESSION_IDLE_SECONDS, and SESSION_COOKIE_AGE after it was made however often it is used; an expired one
    is not loaded, though DynamoDB deletes it later.
    """

    def __init__(self, session_key: str | None = None) -> None:
        super().__init__(session_key)
        # What stands in the table as far as this request knows.
        self._row: Session | None = None

    @property
    def row(self) -> Session:
        """What was last read or written. Raises LookupError if nothing was."""
        if self._row is None:
            raise LookupError("the session was neither read nor written")
        return self._row

    @property
    def session_id(self) -> str | None:
        """By what services know the session; it opens nothing."""
        return secret_hash(self.session_key) if self.session_key else None

    def load(self) -> dict[str, Any]:
        """What the session holds; empty, and without a key from then on, if there is none or it has expired."""
        row = self._find(self.session_key)
        if row is None or row.expires_at <= clock.now():
            self._session_key = None
            return {}
        self._row = row
        data = self.decode(row.data)
        session_touch(row, data)
        return data

    def prepare(self) -> Session:
        """The row that `create` would write, for who writes it together with something else and then calls `wrote`."""
        self._session_key = self._get_new_session_key()
        return self._row_of(self._data(), standing=None)

    def wrote(self, row: Session) -> None:
        """Tell that the row is written."""
        self._row = row
        self.modified = True

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
        data = self._data(no_load=must_create)
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
            session_rows().delete(secret_hash(key))

    @classmethod
    def clear_expired(cls) -> None:
        """Nothing to do: DynamoDB deletes what has expired, and what is in memory goes when there is more."""

    def _get_new_session_key(self) -> str:
        """166 random bits, and whose they are. That nobody has the key is what the condition of the write finds out."""
        random = "".join(secrets.choice(_KEY_CHARACTERS) for _ in range(_KEY_LENGTH))
        owner = getattr(self, "_session_cache", {}).get(SESSION_KEY)
        return f"{random}.{owner}" if owner else random

    def _data(self, *, no_load: bool = False) -> dict[str, Any]:
        data: dict[str, Any] = self._get_session(no_load=no_load)  # type: ignore[attr-defined]
        return data

    def _insert(self, data: dict[str, Any]) -> None:
        row = self._row_of(data, standing=None)
        try:
            session_rows().insert(row)
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
            row = self._row_of(data, standing=standing)
            try:
                session_rows().replace(row, revision=standing.revision)
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

    def _row_of(self, data: dict[str, Any], *, standing: Session | None) -> Session:
        now = clock.now()
        created = clock.parse_timestamp(standing.created_at) if standing else now
        return Session(
            secret_hash(self.session_key or ""),
            user_id=data.get(SESSION_KEY),
            device_id=(standing and standing.device_id) or new_id(),
            created_at=clock.timestamp(created),
            last_seen_at=clock.timestamp(now),
            expires_at=_expires_at(data, created=created, used=now),
            revision=new_id(),
            data=self.encode(data),
            **data.get(SIGN_IN_KEY, {}),
        )

    def _stands(self, row: Session) -> bool:
        """Whether a write whose condition failed was done before: then the answer to its first attempt was lost."""
        found = session_rows().find(row.session_id)
        return found is not None and found.revision == row.revision

    @staticmethod
    def _find(session_key: str | None) -> Session | None:
        return session_rows().find(secret_hash(session_key)) if session_key else None


def session_touch(row: Session, data: dict[str, Any]) -> None:
    """Note that the session was used just now, if that was last noted a minute ago or more.

    Best effort: that it can't be noted is no reason to refuse the request. A session that holds an expiry of its own
    (Django's ``set_expiry``) ends then.
    """
    now = clock.now()
    noted = clock.parse_timestamp(row.last_seen_at) if row.last_seen_at else None
    if (noted and now - noted < timedelta(seconds=TOUCH_SECONDS)) or data.get("_session_expiry"):
        return
    row.last_seen_at = clock.timestamp(now)
    row.expires_at = _expires_at(data, created=clock.parse_timestamp(row.created_at), used=now)
    with suppress(ConditionFailed, Unavailable):
        session_rows().touch(row)


def _expires_at(data: dict[str, Any], *, created: datetime, used: datetime) -> datetime:
    expiry: Any = SessionBase().get_expiry_date(modification=used, expiry=data.get("_session_expiry"))
    absolute = created + timedelta(seconds=settings.SESSION_COOKIE_AGE)
    idle = used + timedelta(seconds=settings.SESSION_IDLE_SECONDS)
    # DynamoDB's TTL knows whole seconds.
    end: datetime = min(expiry, absolute, idle)
    return end.replace(microsecond=0)
