"""The data of a session: its stored form, and whether it still signs its user in."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from django.contrib.auth import HASH_SESSION_KEY
from django.contrib.sessions.backends.base import SessionBase
from django.utils.crypto import constant_time_compare

from apps.accounts.models.sessions import Session
from apps.accounts.models.users import User, UserFacade


class _SignedData(SessionBase):
    """Django's form of a session's data: JSON, signed with the salt that it gives a class named SessionStore.

    Django signs with SECRET_KEY and accepts what a key of SECRET_KEY_FALLBACKS signed.
    """

    key_salt = "django.contrib.sessions.SessionStore"


def session_data_encode(data: Mapping[str, Any]) -> str:
    """The text for `Session.data`."""
    return str(_SignedData().encode(dict(data)))


def session_data_decode(text: str) -> dict[str, Any]:
    """The data of a session from `Session.data`; empty if our key did not sign it."""
    data: dict[str, Any] = _SignedData().decode(text)
    return data


def session_signs_in(session: Session, user: User, *, now: datetime) -> bool:
    """Whether the session signs this user in: it is theirs, has not expired, and was not ended by a change of theirs.

    Such changes are a new password, signing out everywhere and being disabled.
    """
    if session.user_id != user.user_id or session.expires_at <= now or not user.is_active:
        return False
    stored = session_data_decode(session.data).get(HASH_SESSION_KEY, "")
    facade = UserFacade.from_record(user)
    # The hash is made with SECRET_KEY, or with the key that counted when the session was made.
    valid = [facade.get_session_auth_hash(), *facade.get_session_auth_fallback_hash()]
    return any(constant_time_compare(stored, each) for each in valid)
