"""Sessions and their data: writing them for Django's session engine, and noting that they are used."""

from collections.abc import Mapping
from contextlib import suppress
from datetime import datetime, timedelta
from typing import Any, Final

from django.conf import settings
from django.contrib.auth import SESSION_KEY
from django.contrib.sessions.backends.base import SessionBase

from apps.accounts.models import Session, secret_hash, session_data_decode, session_data_encode
from apps.accounts.selectors import session_find
from apps.accounts.services.session_rows import session_rows
from controlplane.lib import clock
from controlplane.lib.error_codes import ErrorCode
from controlplane.lib.errors import Conflict, NotFound, Unavailable
from controlplane.lib.ids import new_id
from controlplane.nosql.connection import CONFLICT_ATTEMPTS, ConditionFailed, pause_before_retry

# Under this key of its data a session keeps how and where its user signed in: attributes of `Session`, by name.
SIGN_IN_KEY = "_sign_in"

# `last_seen_at` is this exact. To be more exact would cost a write for every request.
TOUCH_SECONDS = 60

# A user's `email`, `name` and `picture`, the address of one or None.
UserInfo = Mapping[str, str | None]

_ABSENT: Final = object()


def session_make(
    *, token: str, data: Mapping[str, Any], existing: Session | None = None, user_info: UserInfo | None = None
) -> Session:
    """The record of a session with this data, not written yet; it carries on `existing`, if that is given."""
    now = clock.now()
    created = clock.parse_timestamp(existing.created_at) if existing else now
    return Session(
        secret_hash(token),
        user_id=data.get(SESSION_KEY),
        device_id=(existing and existing.device_id) or new_id(),
        created_at=clock.timestamp(created),
        last_seen_at=clock.timestamp(now),
        expires_at=_expires_at(data, created=created, used=now),
        revision=new_id(),
        user_info=existing.user_info if existing else user_info,
        data=session_data_encode(data),
        **data.get(SIGN_IN_KEY, {}),
    )


def session_create(*, token: str, data: Mapping[str, Any]) -> Session:
    """Write a new session and return it. Raises Conflict if there is one with this token."""
    session = session_make(token=token, data=data)
    try:
        session_rows().insert(session)
    except ConditionFailed as error:
        # Our own session is there if the response to botocore's first attempt was lost.
        found = session_find(session.token_hash)
        if found is None or found.revision != session.revision:
            raise Conflict("There is a session with this token already.") from error
    return session


def session_update(*, token: str, data: dict[str, Any], read: Session | None = None) -> tuple[Session, dict[str, Any]]:
    """Write what `data` changes in the session that was `read` (None: as it is now); returns it with its new data.

    If another request has written the session since then, only the keys that `data` changes or lacks are changed in
    what that request wrote. Raises NotFound if the session has ended, Unavailable if others keep writing it.
    """
    existing = read or _existing(token)
    before = session_data_decode(existing.data)
    changed = {key: value for key, value in data.items() if before.get(key, _ABSENT) != value}
    removed = before.keys() - data.keys()
    for attempt in range(CONFLICT_ATTEMPTS):
        session = session_make(token=token, data=data, existing=existing)
        try:
            session_rows().replace(session, revision=existing.revision)
        except ConditionFailed:
            existing = _existing(token)
            # If it is our own revision, the response to botocore's first attempt was lost.
            if existing.revision != session.revision:
                kept = {key: value for key, value in session_data_decode(existing.data).items() if key not in removed}
                data = {**kept, **changed}
                pause_before_retry(attempt)
                continue
        return session, data
    raise Unavailable("Too many requests are changing this session at once. Please try again.")


def session_delete(*, token: str) -> None:
    """Delete the session of this token, if there is one. It writes no audit event: see `sign_out` for one that does."""
    session_rows().delete(secret_hash(token))


def session_touch(*, session: Session, data: Mapping[str, Any]) -> None:
    """Note that the session is used, and move its end, unless that was noted less than TOUCH_SECONDS ago.

    Best effort: a failure to note the use is no reason to refuse the request. A session whose data holds an expiry of
    its own (Django's ``set_expiry``) ends then, however often it is used.
    """
    now = clock.now()
    noted = clock.parse_timestamp(session.last_seen_at) if session.last_seen_at else None
    if (noted and now - noted < timedelta(seconds=TOUCH_SECONDS)) or data.get("_session_expiry"):
        return
    session.last_seen_at = clock.timestamp(now)
    session.expires_at = _expires_at(data, created=clock.parse_timestamp(session.created_at), used=now)
    with suppress(ConditionFailed, Unavailable):
        session_rows().touch(session)


def _existing(token: str) -> Session:
    session = session_find(secret_hash(token))
    if session is None:
        raise NotFound("This session has ended.", code=ErrorCode.SESSION_NOT_FOUND)
    return session


def _expires_at(data: Mapping[str, Any], *, created: datetime, used: datetime) -> datetime:
    expiry: Any = SessionBase().get_expiry_date(modification=used, expiry=data.get("_session_expiry"))
    absolute = created + timedelta(seconds=settings.SESSION_COOKIE_AGE)
    idle = used + timedelta(seconds=settings.SESSION_IDLE_SECONDS)
    # DynamoDB's TTL knows whole seconds.
    end: datetime = min(expiry, absolute, idle)
    return end.replace(microsecond=0)
