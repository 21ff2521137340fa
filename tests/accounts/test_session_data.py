"""Sessions and their data: when a session ends, and what is written when it is used."""

import re
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

import pytest
from django.conf import settings
from django.contrib.auth import HASH_SESSION_KEY, SESSION_KEY

from apps.accounts.models import Session, User, secret_hash, session_data_decode, session_signs_in, session_token_new
from apps.accounts.selectors import session_find
from apps.accounts.services import (
    session_create,
    session_delete,
    session_start,
    session_touch,
    session_update,
    session_verify,
)
from apps.accounts.services import session_data as session_data_module
from apps.accounts.services.session_data import SIGN_IN_KEY, TOUCH_SECONDS, session_make
from apps.accounts.services.session_rows import session_rows
from apps.accounts.session_store import SessionStore
from controlplane.lib import clock
from controlplane.lib.errors import Conflict, NotAuthenticated, NotFound, Unavailable
from controlplane.lib.ids import ID_PATTERN
from controlplane.nosql.connection import CONFLICT_ATTEMPTS, ConditionFailed

ABSOLUTE = timedelta(hours=12)
IDLE = timedelta(hours=1)


@pytest.fixture
def token(store: str, ada: User) -> str:
    return session_start(user=ada, provider="google", device=None, address="").token


def by_verifying(token: str) -> bool:
    try:
        session_verify(token, use=True)
    except NotAuthenticated:
        return False
    return True


def by_loading(token: str) -> bool:
    return SESSION_KEY in SessionStore(token)


def by_saving(token: str) -> bool:
    session = SessionStore(token)
    session["page"] = clock.timestamp(clock.now())
    if session.session_key is None:
        return False
    session.save()
    return True


@pytest.mark.parametrize("use", [by_verifying, by_loading, by_saving])
def test_a_session_ends_12_hours_after_it_was_made_however_often_it_is_used(
    token: str, use: Callable[[str], bool]
) -> None:
    assert (ABSOLUTE.total_seconds(), 3600) == (settings.SESSION_COOKIE_AGE, settings.SESSION_IDLE_SECONDS)
    # Never idle for an hour: only the absolute limit can end it.
    for minutes in range(50, 12 * 60, 50):
        with clock.shifted(timedelta(minutes=minutes)):
            assert use(token), minutes
    with clock.shifted(ABSOLUTE - timedelta(seconds=5)):
        assert use(token)
    with clock.shifted(ABSOLUTE):
        assert not use(token)


@pytest.mark.parametrize("use", [by_verifying, by_loading, by_saving])
def test_a_session_ends_an_hour_after_its_last_use(token: str, use: Callable[[str], bool]) -> None:
    with clock.shifted(timedelta(minutes=30)):
        assert use(token)
    with clock.shifted(timedelta(minutes=30) + IDLE - timedelta(seconds=5)):
        assert session_verify(token, use=False)
    with clock.shifted(timedelta(minutes=30) + IDLE):
        assert not use(token)


def test_a_session_that_chose_an_earlier_end_is_not_kept_by_use(store: str, tables: None) -> None:
    token = session_token_new(None)
    session = session_create(token=token, data={"_session_expiry": 120})
    assert timedelta(seconds=118) <= session.expires_at - clock.now() <= timedelta(seconds=120)
    with clock.shifted(timedelta(seconds=90)):
        session_touch(session=session, data={"_session_expiry": 120})
        assert session_find(session.token_hash).last_seen_at == session.last_seen_at
    with clock.shifted(timedelta(seconds=120)):
        assert SessionStore(token).session_key == token
        assert dict(SessionStore(token).items()) == {}


def test_no_session_can_choose_a_later_end(tables: None) -> None:
    session = session_make(token=session_token_new(None), data={"_session_expiry": 30 * 24 * 3600})
    assert session.expires_at - clock.now() <= IDLE


def test_an_end_is_a_whole_second(tables: None) -> None:
    assert session_make(token="x", data={}).expires_at.microsecond == 0


@pytest.mark.parametrize(("seconds", "noted"), [(TOUCH_SECONDS - 1, False), (TOUCH_SECONDS, True)])
def test_a_use_is_noted_once_a_minute(token: str, seconds: int, noted: bool) -> None:
    before = session_find(session_verify(token, use=False).token_hash)
    with clock.shifted(timedelta(seconds=seconds)):
        # The clock itself goes on by milliseconds.
        session_touch(session=_frozen(before, seconds), data={})
        after = session_find(before.token_hash)
    assert (after.last_seen_at > before.last_seen_at) is noted
    assert (after.expires_at > before.expires_at) is noted


def _frozen(session: Session, seconds: int) -> Session:
    """The session, last seen so many seconds ago, to the half second."""
    seen = clock.now() - timedelta(seconds=seconds) + timedelta(seconds=-0.4 if seconds >= TOUCH_SECONDS else 0.4)
    return Session(**{**session.attribute_values, "last_seen_at": clock.timestamp(seen)})


def test_a_session_that_was_never_seen_is_noted(token: str) -> None:
    session = session_find(session_verify(token, use=False).token_hash)
    session.last_seen_at = None
    session_touch(session=session, data={})
    assert session_find(session.token_hash).last_seen_at is not None


def test_a_use_that_cannot_be_noted_does_no_harm(token: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for failure in (Unavailable, ConditionFailed):

        def fail(_session: Session, failure: type[Exception] = failure) -> None:
            raise failure

        monkeypatch.setattr(session_rows(), "touch", fail)
        with clock.shifted(timedelta(minutes=5)):
            assert session_verify(token, use=True)


def test_a_session_goes_on_under_its_age_and_its_devices_id(token: str) -> None:
    before = session_find(session_verify(token, use=False).token_hash)
    assert re.fullmatch(ID_PATTERN, before.device_id)
    with clock.shifted(timedelta(minutes=10)):
        after, data = session_update(token=token, data={**session_data_decode(before.data), "theme": "dark"})
    assert (after.device_id, after.created_at) == (before.device_id, before.created_at)
    assert after.last_seen_at > before.last_seen_at
    assert after.revision != before.revision
    assert (after.provider, after.user_id) == ("google", before.user_id)
    assert data["theme"] == "dark"


def test_only_what_a_request_changed_is_written_over_what_another_wrote(token: str) -> None:
    first, _ = session_update(token=token, data={"theme": "dark", "basket": [1], "old": 1, "kept": 1})
    session_update(token=token, data={"theme": "light", "basket": [1], "old": 2, "kept": 1, "new": 1})
    # This request has read before the other one wrote. It changes the basket, and removes what is old.
    _, data = session_update(token=token, data={"theme": "dark", "basket": [2], "kept": 1}, read=first)
    assert data == {"theme": "light", "basket": [2], "kept": 1, "new": 1}
    assert session_data_decode(session_find(first.token_hash).data) == data


def test_a_session_whose_response_was_lost_is_not_taken_for_anothers(
    token: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = session_rows()
    insert, replace = rows.insert, rows.replace

    def inserted_twice(session: Session) -> None:
        insert(session)
        insert(session)

    def replaced_twice(session: Session, *, revision: str) -> None:
        replace(session, revision=revision)
        replace(session, revision=revision)

    monkeypatch.setattr(rows, "insert", inserted_twice)
    monkeypatch.setattr(rows, "replace", replaced_twice)
    new = session_token_new(None)
    assert session_create(token=new, data={"theme": "dark"}).revision == session_find(secret_hash(new)).revision
    written, data = session_update(token=new, data={"theme": "light"})
    assert (written.revision, data) == (session_find(secret_hash(new)).revision, {"theme": "light"})


def test_a_session_is_written_only_where_there_is_none(store: str, tables: None) -> None:
    token = session_token_new(None)
    made = session_create(token=token, data={"theme": "dark"})
    with pytest.raises(Conflict):
        session_create(token=token, data={"theme": "light"})
    assert session_data_decode(session_find(made.token_hash).data) == {"theme": "dark"}


def test_a_session_that_has_ended_is_not_updated(token: str) -> None:
    read = session_find(session_verify(token, use=False).token_hash)
    session_delete(token=token)
    for existing in (read, None):
        with pytest.raises(NotFound) as refused:
            session_update(token=token, data={"theme": "dark"}, read=existing)
        assert refused.value.code == "session_not_found"
    assert session_find(read.token_hash) is None


def test_a_session_that_others_write_again_and_again_is_unavailable(
    token: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    tries = []

    def overtaken(_session: Session, *, revision: str) -> None:
        tries.append(revision)
        raise ConditionFailed

    monkeypatch.setattr(session_rows(), "replace", overtaken)
    monkeypatch.setattr(session_data_module, "pause_before_retry", lambda _attempt: None)
    with pytest.raises(Unavailable):
        session_update(token=token, data={"theme": "dark"})
    assert len(tries) == CONFLICT_ATTEMPTS


def test_how_the_user_signed_in_is_kept_beside_the_data(tables: None) -> None:
    signed_in = {"provider": "google", "subject": "1", "device": "Firefox", "address": "192.0.2.7", "region": "DE"}
    session = session_make(token="x", data={SESSION_KEY: "ada", SIGN_IN_KEY: signed_in})
    assert {name: getattr(session, name) for name in signed_in} == signed_in
    assert session.user_id == "ada"
    assert session_data_decode(session.data)[SIGN_IN_KEY] == signed_in


# --- whether a session signs its user in ------------------------------------------------------------------------------


def changed(ada: User, **members: Any) -> User:
    return User(**{**ada.attribute_values, **members})


def test_a_session_signs_in_its_own_user_only_and_until_a_change_ends_it(ada: User) -> None:
    session = session_start(user=ada, provider="google", device=None, address="").session
    now = clock.now()
    assert session_signs_in(session, ada, now=now)
    assert session_signs_in(session, changed(ada, name="Ada L.", role="admin", revision=7), now=now)
    for other in (
        changed(ada, user_id="eve"),
        changed(ada, is_active=False),
        changed(ada, session_epoch=1),
        changed(ada, password="another hash"),
    ):
        assert not session_signs_in(session, other, now=now)


def test_a_session_signs_in_until_the_second_of_its_end(ada: User) -> None:
    session = session_start(user=ada, provider="google", device=None, address="").session
    end: datetime = session.expires_at
    assert session_signs_in(session, ada, now=end - timedelta(microseconds=1))
    assert not session_signs_in(session, ada, now=end)


def test_a_session_without_a_hash_of_its_user_signs_no_user_in(ada: User) -> None:
    for data in ({SESSION_KEY: ada.user_id}, {SESSION_KEY: ada.user_id, HASH_SESSION_KEY: ""}):
        session = session_create(token=session_token_new(ada.user_id), data=data)
        assert not session_signs_in(session, ada, now=clock.now())
