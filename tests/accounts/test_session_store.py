"""Sessions in DynamoDB: what is stored, what happens when two requests write, and when a session ends."""

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import pytest
from django.conf import settings
from django.contrib.auth import SESSION_KEY
from django.contrib.sessions.backends.base import CreateError, UpdateError

from apps.accounts.models import Session, secret_hash
from apps.accounts.selectors import session_find
from apps.accounts.services import session_touch
from apps.accounts.services.session_data import SIGN_IN_KEY
from apps.accounts.session_store import SessionStore
from controlplane.lib import clock
from tests.metering import dynamodb_calls

pytestmark = pytest.mark.usefixtures("tables")


def stored(**data: Any) -> str:
    """The key of a session with this data."""
    session = SessionStore()
    session.update(data)
    session.save()
    return session.session_key


def session_data(key: str) -> dict[str, Any]:
    return dict(SessionStore(key).items())


def test_the_next_request_finds_the_data_of_a_session(store: str) -> None:
    key = stored(theme="dark", seen=[1, 2])
    assert session_data(key) == {"theme": "dark", "seen": [1, 2]}


def test_the_table_has_neither_the_token_nor_readable_data() -> None:
    key = stored(theme="dark")
    (row,) = Session.scan()
    assert row.token_hash == secret_hash(key)
    assert key not in str(row.to_simple_dict())


def test_the_hash_in_the_table_opens_nothing() -> None:
    stored(theme="dark")
    (row,) = Session.scan()
    assert session_data(row.token_hash) == {}


def test_loading_a_session_costs_one_call() -> None:
    key = stored(theme="dark")
    with dynamodb_calls() as counted:
        session = SessionStore(key)
        assert session["theme"] == "dark"
        assert session.get("other") is None
    assert counted.operations == ["GetItem"]


def test_saving_what_was_loaded_costs_one_more() -> None:
    key = stored(theme="dark")
    session = SessionStore(key)
    session["theme"] = "light"
    with dynamodb_calls() as counted:
        session.save()
    assert counted.operations == ["PutItem"]


def test_the_index_of_a_users_sessions_has_no_data() -> None:
    stored(**{SESSION_KEY: "ada", SIGN_IN_KEY: {"provider": "password"}, "secret": "x"})
    stored(theme="nobody's")
    (found,) = Session.by_user.query("ada")
    assert found.provider == "password"
    assert found.data is None
    assert found.revision is None


def test_two_requests_that_change_different_keys_both_count(store: str) -> None:
    key = stored(theme="dark", basket=[1], old=True)
    first, second = SessionStore(key), SessionStore(key)
    first["theme"] = "light"
    second["basket"].append(2)
    del second["old"]
    first.save()
    second.save()
    assert session_data(key) == {"theme": "light", "basket": [1, 2]}
    assert dict(second.items()) == {"theme": "light", "basket": [1, 2]}


def test_a_key_that_another_request_removed_stays_removed(store: str) -> None:
    key = stored(token="x", theme="dark")
    first, second = SessionStore(key), SessionStore(key)
    del first["token"]
    second["theme"] = "light"
    first.save()
    second.save()
    assert session_data(key) == {"theme": "light"}


def test_of_two_requests_that_change_one_key_the_later_counts(store: str) -> None:
    key = stored(theme="dark")
    first, second = SessionStore(key), SessionStore(key)
    first["theme"], second["theme"] = "light", "blue"
    second.save()
    first.save()
    assert session_data(key) == {"theme": "light"}


def test_eight_threads_that_save_at_once_lose_nothing(store: str) -> None:
    key = stored(start=0)

    def write(number: int) -> None:
        session = SessionStore(key)
        session[f"thread {number}"] = number
        session.save()

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(write, range(8)))
    assert session_data(key) == {"start": 0} | {f"thread {number}": number for number in range(8)}


def test_a_session_that_was_cleared_is_empty(store: str) -> None:
    key = stored(theme="dark")
    session = SessionStore(key)
    session.clear()
    session.save()
    assert session_data(key) == {}
    assert SessionStore().exists(key)


def test_a_session_that_was_ended_stays_gone_under_a_late_save(store: str) -> None:
    key = stored(theme="dark")
    late = SessionStore(key)
    late["theme"] = "light"
    SessionStore(key).flush()
    with pytest.raises(UpdateError):
        late.save()
    assert list(Session.scan()) == []


def test_a_session_that_was_ended_before_it_was_read_is_not_made_again(store: str) -> None:
    key = stored(theme="dark")
    SessionStore(key).delete()
    late = SessionStore(key)
    with pytest.raises(UpdateError):
        late.save()
    assert list(Session.scan()) == []


def test_sign_out_wins_over_seven_threads_that_save(store: str) -> None:
    key = stored(theme="dark")

    def act(number: int) -> None:
        session = SessionStore(key)
        if number == 3:
            session.flush()
            return
        session[f"thread {number}"] = number
        try:
            session.save()
        except UpdateError:
            return

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(act, range(8)))
    assert not SessionStore().exists(key)


def test_a_key_that_is_taken_is_not_overwritten(store: str) -> None:
    key = stored(theme="dark")
    other = SessionStore(key)
    with pytest.raises(CreateError):
        other.save(must_create=True)
    assert session_data(key) == {"theme": "dark"}


def test_a_key_that_the_store_did_not_make_is_not_used(store: str) -> None:
    session = SessionStore("a" * 32)
    session["theme"] = "dark"
    session.save()
    assert session.session_key != "a" * 32
    assert not SessionStore().exists("a" * 32)


def test_an_expired_session_is_not_loaded_though_its_row_is_there(store: str) -> None:
    key = stored(theme="dark")
    with clock.shifted(timedelta(seconds=settings.SESSION_COOKIE_AGE + 1)):
        session = SessionStore(key)
        assert dict(session.items()) == {}
        assert session.session_key is None
    assert SessionStore().exists(key)


def test_saving_does_not_lengthen_a_sessions_life(store: str) -> None:
    key = stored(theme="dark")
    with clock.shifted(timedelta(seconds=settings.SESSION_COOKIE_AGE - 60)):
        session = SessionStore(key)
        session["theme"] = "light"
        session.save()
    with clock.shifted(timedelta(seconds=settings.SESSION_COOKIE_AGE + 1)):
        assert session_data(key) == {}


def test_use_lengthens_a_sessions_life_up_to_its_end(store: str) -> None:
    key = stored(theme="dark")
    idle = timedelta(seconds=settings.SESSION_IDLE_SECONDS)
    with clock.shifted(idle * 0.9):
        assert session_data(key) == {"theme": "dark"}
    with clock.shifted(idle * 1.8):
        assert session_data(key) == {"theme": "dark"}
    with clock.shifted(idle * 2.9):
        assert session_data(key) == {}


def test_use_is_noted_once_a_minute() -> None:
    key = stored(theme="dark")
    with dynamodb_calls() as counted:
        with clock.shifted(timedelta(seconds=59)):
            session_data(key)
        with clock.shifted(timedelta(seconds=61)):
            session_data(key)
            session_data(key)
    assert counted.operations == ["GetItem", "GetItem", "UpdateItem", "GetItem"]


def test_use_does_not_bring_an_ended_session_back(store: str) -> None:
    key = stored(theme="dark")
    session = session_find(secret_hash(key))
    assert session is not None
    SessionStore(key).delete()
    with clock.shifted(timedelta(minutes=5)):
        session_touch(session=session, data={})
    assert not SessionStore().exists(key)


def test_a_save_that_another_requests_use_overtook_is_not_lost(store: str) -> None:
    key = stored(theme="dark")
    late = SessionStore(key)
    late["theme"] = "light"
    with clock.shifted(timedelta(minutes=5)):
        session_data(key)
    late.save()
    assert session_data(key) == {"theme": "light"}


def test_what_a_reader_changes_without_saving_is_not_stored(store: str) -> None:
    key = stored(basket=[1])
    SessionStore(key)["basket"].append(2)
    assert session_data(key) == {"basket": [1]}


def test_memory_forgets_what_has_expired(settings: Any) -> None:
    settings.SESSION_STORE = "memory"
    key = stored(theme="dark")
    with clock.shifted(timedelta(hours=2)):
        stored(theme="light")
    assert not SessionStore().exists(key)


def test_memory_keeps_nothing_in_the_table(settings: Any) -> None:
    settings.SESSION_STORE = "memory"
    key = stored(theme="dark")
    assert list(Session.scan()) == []
    settings.SESSION_STORE = "dynamodb"
    assert session_data(key) == {}


def test_the_key_of_a_session_names_its_user_and_that_of_an_anonymous_one_no_user() -> None:
    assert stored(**{SESSION_KEY: "0" * 26}).endswith("." + "0" * 26)
    assert "." not in stored(theme="dark")


def test_a_session_may_end_sooner(store: str) -> None:
    session = SessionStore()
    session["theme"] = "dark"
    session.set_expiry(60)
    session.save()
    with clock.shifted(timedelta(seconds=61)):
        assert session_data(session.session_key) == {}


def test_data_that_our_key_did_not_sign_counts_as_none() -> None:
    key = stored(theme="dark")
    (row,) = Session.scan()
    row.update(actions=[Session.data.set(row.data[:-2] + "xx")])
    assert session_data(key) == {}


def test_the_hash_of_a_session_is_that_of_its_key() -> None:
    key = stored(theme="dark")
    assert SessionStore(key).token_hash == secret_hash(key)
    assert SessionStore().token_hash is None


def test_a_users_session_keeps_its_key_and_an_anonymous_one_gets_a_new_one(store: str) -> None:
    for data, kept in (({SESSION_KEY: "0" * 26}, True), ({"theme": "dark"}, False)):
        key = stored(**data)
        session = SessionStore(key)
        session.cycle_key()
        assert (session.session_key == key) is kept
        assert SessionStore().exists(key) is kept


def test_a_new_session_takes_another_key_if_its_own_is_taken(store: str, monkeypatch: pytest.MonkeyPatch) -> None:
    taken = stored(theme="dark")
    session = SessionStore()
    keys = iter([taken, "b" * 32])
    monkeypatch.setattr(session, "_get_new_session_key", lambda: next(keys))
    session.create()
    assert session.session_key == "b" * 32
    assert session_data(taken) == {"theme": "dark"}
