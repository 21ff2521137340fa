"""Sessions: beginning, verifying, listing and ending them, and what that costs."""

from datetime import timedelta
from typing import Any

import pytest

from apps.accounts.models import Session, User, session_memory, session_token_new
from apps.accounts.policies import ROLES
from apps.accounts.selectors import SessionPage, session_find, session_find_by_device, session_list, session_view
from apps.accounts.selectors.sessions import COUNT_AT_MOST
from apps.accounts.services import (
    StartedSession,
    device_remove,
    session_create,
    session_logout,
    session_revoke,
    session_start,
    session_verify,
    sessions_end,
    sign_out,
    user_create,
    user_disable,
    user_password_set,
)
from apps.audit.models import AuditRecord
from controlplane.lib import clock
from controlplane.lib.actor import SYSTEM, Actor
from controlplane.lib.errors import Forbidden, InvalidInput, NotAuthenticated, NotFound
from controlplane.lib.ids import new_id
from tests.conftest import ADMIN, PASSWORD
from tests.metering import dynamodb_calls


def start(user: User, **members: Any) -> StartedSession:
    return session_start(**{"user": user, "provider": "google", "device": "Firefox", "address": "192.0.2.7", **members})


def actor(user: User) -> Actor:
    return Actor("user", user.user_id, user.name)


def is_valid(token: str) -> bool:
    try:
        session_verify(token, use=False)
    except NotAuthenticated as error:
        if error.code != "session_invalid":
            raise
        return False
    return True


def many(user: User, number: int, *, apart: timedelta = timedelta(minutes=-1)) -> list[str]:
    """So many valid sessions of the user, each made so much later (or earlier) than the one before; their hashes."""
    made = start(user).session
    made.expires_at = (clock.now() + timedelta(minutes=50)).replace(microsecond=0)
    rows = []
    for count in range(number):
        created = clock.now() + apart * count
        with clock.shifted(apart * count):
            device_id = new_id()
        own = {
            "token_hash": f"{count:064}",
            "created_at": clock.timestamp(created),
            "device_id": device_id,
            "address": str(count),
        }
        rows.append(Session(**{**made.attribute_values, **own}))
    if session_find(made.token_hash) and session_memory.find(made.token_hash):
        for row in rows:
            session_memory.put(row)
        session_memory.delete(made.token_hash)
    else:
        with Session.batch_write() as batch:
            for row in rows:
                batch.save(row)
        Session(made.token_hash).delete()
    return [row.token_hash for row in rows]


def pages(user: User, *, limit: int) -> list[SessionPage]:
    found = [session_list(user.user_id, limit=limit)]
    while found[-1].next_cursor:
        found.append(session_list(user.user_id, limit=limit, cursor=found[-1].next_cursor))
    return found


# --- beginning and verifying ------------------------------------------------------------------------------------------


def test_a_sign_in_is_recorded_and_noted_on_the_account(ada: User, store: str) -> None:
    before = clock.timestamp(clock.now())
    started = start(ada, subject="1001", region="DE")
    (record,) = AuditRecord.scan(AuditRecord.action == "user.signed_in")
    assert (record.actor_id, record.target) == (ada.user_id, f"user:{ada.user_id}")
    assert record.detail == {"provider": "google", "address": "192.0.2.7", "device": "Firefox"}
    assert before < User.find(ada.user_id).last_login_at < clock.timestamp(clock.now())
    session = started.session
    assert (session.provider, session.subject, session.region) == ("google", "1001", "DE")


def test_a_disabled_user_gets_no_session(ada: User, store: str) -> None:
    user_disable(user_id=ada.user_id, actor=SYSTEM)
    with pytest.raises(NotAuthenticated) as refused:
        start(ada)
    assert refused.value.code == "account_disabled"
    assert list(AuditRecord.scan(AuditRecord.action == "user.signed_in")) == []


def test_a_verified_session_says_whose_it_is_and_what_they_may_now(ada: User, store: str) -> None:
    started = start(ada, subject="1001")
    ada.update(actions=[User.role.set("viewer")])
    found = session_verify(started.token, use=False)
    assert (found.token_hash, found.device_id) == (started.session.token_hash, started.session.device_id)
    assert (found.provider, found.subject, found.expires_at) == ("google", "1001", started.session.expires_at)
    assert found.actor == Actor("user", ada.user_id, "Ada", frozenset(ROLES["viewer"]))


@pytest.mark.parametrize("user_id", [None, "0" * 26])
def test_a_session_of_another_or_of_no_user_signs_no_user_in(ada: User, store: str, user_id: str | None) -> None:
    started = start(ada)
    token = session_token_new(user_id)
    session_create(token=token, data={})
    assert not is_valid(token)
    assert not is_valid(started.token.replace(ada.user_id, user_id or ""))
    assert not is_valid("x")


def test_a_question_is_no_use(ada: User, store: str) -> None:
    started = start(ada)
    with clock.shifted(timedelta(minutes=5)):
        session_verify(started.token, use=False)
        assert session_find(started.session.token_hash).last_seen_at == started.session.last_seen_at
        session_verify(started.token, use=True)
        assert session_find(started.session.token_hash).last_seen_at > started.session.last_seen_at


def test_a_session_that_does_not_name_its_user_is_verified_with_two_calls(ada: User) -> None:
    from django.contrib.auth import HASH_SESSION_KEY, SESSION_KEY

    from apps.accounts.models import UserFacade

    token = session_token_new(None)
    auth_hash = UserFacade.from_record(ada).get_session_auth_hash()
    session_create(token=token, data={SESSION_KEY: ada.user_id, HASH_SESSION_KEY: auth_hash})
    with dynamodb_calls() as metering:
        assert is_valid(token)
    assert metering.operations == ["GetItem", "GetItem"]


# --- signing out ------------------------------------------------------------------------------------------------------


def test_a_sign_out_ends_one_session_and_is_recorded_once(ada: User, store: str) -> None:
    started, other = start(ada), start(ada)
    for _ in range(2):
        session_logout(started.token)
    sign_out(actor=actor(ada), token=started.token)
    assert not is_valid(started.token)
    assert is_valid(other.token)
    (record,) = AuditRecord.scan(AuditRecord.action == "user.signed_out")
    assert (record.actor_id, record.target) == (ada.user_id, f"user:{ada.user_id}")


def test_only_the_owner_and_managers_of_accounts_end_a_session(ada: User, store: str) -> None:
    started = start(ada)
    token_hash = started.session.token_hash
    with pytest.raises(Forbidden):
        session_revoke(actor=Actor("user", new_id(), "Eve", frozenset(ROLES["operator"])), token_hash=token_hash)
    assert is_valid(started.token)
    session_revoke(actor=ADMIN, token_hash=token_hash)
    assert not is_valid(started.token)
    with pytest.raises(NotFound) as refused:
        session_revoke(actor=ADMIN, token_hash=token_hash)
    assert refused.value.code == "session_not_found"
    (record,) = AuditRecord.scan(AuditRecord.action == "session.revoked")
    assert (record.actor_id, record.target) == (ADMIN.id, f"user:{ada.user_id}")
    assert record.detail == {"session": started.session.device_id, "device": "Firefox", "address": "192.0.2.7"}


def test_an_anonymous_session_is_ended_by_managers_of_accounts_only(store: str, tables: None) -> None:
    session = session_create(token=session_token_new(None), data={"theme": "dark"})
    with pytest.raises(Forbidden):
        session_revoke(actor=Actor("user", new_id(), "Eve"), token_hash=session.token_hash)
    session_revoke(actor=ADMIN, token_hash=session.token_hash)
    assert session_find(session.token_hash) is None
    (record,) = AuditRecord.scan(AuditRecord.action == "session.revoked")
    assert record.target == "session:anonymous"


# --- signing out everywhere -------------------------------------------------------------------------------------------


def test_signing_out_everywhere_is_one_write_however_many_sessions_there_are(ada: User) -> None:
    tokens = [start(ada).token for _ in range(3)]
    many(ada, 150)
    with dynamodb_calls() as metering:
        sessions_end(actor=actor(ada), user_id=ada.user_id)
    assert metering.operations == ["TransactWriteItems"]
    assert not any(is_valid(token) for token in tokens)
    assert session_list(ada.user_id).total == 0


def test_signing_out_everywhere_ends_only_that_users_sessions_and_only_those_before(ada: User, store: str) -> None:
    eve = user_create(email="eve@example.com", password=PASSWORD, name="Eve", role="viewer", actor=SYSTEM)
    before, others = start(ada), start(eve)
    sessions_end(actor=ADMIN, user_id=ada.user_id)
    after = start(User.find(ada.user_id))
    assert [is_valid(each.token) for each in (before, others, after)] == [False, True, True]
    (record,) = AuditRecord.scan(AuditRecord.action == "user.signed_out_everywhere")
    assert (record.actor_id, record.target) == (ADMIN.id, f"user:{ada.user_id}")


def test_only_managers_of_accounts_sign_others_out_everywhere(ada: User) -> None:
    started = start(ada)
    with pytest.raises(Forbidden):
        sessions_end(actor=Actor("user", new_id(), "Eve", frozenset(ROLES["operator"])), user_id=ada.user_id)
    assert is_valid(started.token)
    with pytest.raises(NotFound) as refused:
        sessions_end(actor=ADMIN, user_id=new_id())
    assert refused.value.code == "user_not_found"
    assert list(AuditRecord.scan(AuditRecord.action == "user.signed_out_everywhere")) == []


# --- the list ---------------------------------------------------------------------------------------------------------


def test_sessions_are_listed_in_pages_newest_first(ada: User, store: str) -> None:
    made = many(ada, 7)
    found = pages(ada, limit=3)
    assert [len(page.sessions) for page in found] == [3, 3, 1]
    assert [session.token_hash for page in found for session in page.sessions] == made
    assert {(page.total, page.total_is_lower_bound) for page in found} == {(7, False)}
    assert len(pages(ada, limit=7)) == 1


def test_of_very_many_sessions_the_total_is_a_lower_bound(ada: User, store: str) -> None:
    made = many(ada, COUNT_AT_MOST + 1, apart=timedelta(seconds=-1))
    page = session_list(ada.user_id)
    assert (len(page.sessions), page.total, page.total_is_lower_bound) == (20, COUNT_AT_MOST, True)
    session_revoke(actor=ADMIN, token_hash=made[0])
    page = session_list(ada.user_id)
    assert (page.total, page.total_is_lower_bound) == (COUNT_AT_MOST, False)


def test_a_cursor_is_of_one_users_list(ada: User, store: str) -> None:
    many(ada, 3)
    cursor = session_list(ada.user_id, limit=2).next_cursor
    eve = user_create(email="eve@example.com", password=PASSWORD, name="Eve", role="viewer", actor=SYSTEM)
    for wrong in (cursor, f"{cursor}x"):
        with pytest.raises(InvalidInput) as refused:
            session_list(eve.user_id, cursor=wrong)
        assert refused.value.errors[0]["field"] == "cursor"


def test_a_user_who_does_not_exist_has_no_sessions(store: str, tables: None) -> None:
    page = session_list(new_id())
    assert (page.sessions, page.total, page.total_is_lower_bound, page.next_cursor) == ([], 0, False, None)


def test_sessions_that_a_change_has_ended_are_not_listed(ada: User, store: str) -> None:
    start(ada)
    assert session_list(ada.user_id).total == 1
    user_password_set(user_id=ada.user_id, password="another long password", revision=0, actor=ADMIN)
    assert session_list(ada.user_id).total == 0
    new = start(User.find(ada.user_id))
    assert [session.token_hash for session in session_list(ada.user_id).sessions] == [new.session.token_hash]
    sessions_end(actor=ADMIN, user_id=ada.user_id)
    assert session_list(ada.user_id).sessions == []
    user_disable(user_id=ada.user_id, actor=ADMIN)
    assert session_list(ada.user_id).sessions == []


def test_expired_sessions_are_not_listed_though_their_rows_are_there(ada: User, store: str) -> None:
    started = start(ada)
    with clock.shifted(timedelta(hours=1)):
        assert session_list(ada.user_id).sessions == []
        assert session_view(started.session.token_hash).token_hash == started.session.token_hash
    assert session_view("0" * 64) is None


def test_a_list_after_signing_out_everywhere_does_not_read_what_that_ended(ada: User) -> None:
    many(ada, 150, apart=timedelta(minutes=-2))
    sessions_end(actor=actor(ada), user_id=ada.user_id)
    start(User.find(ada.user_id))
    with dynamodb_calls() as metering:
        assert session_list(ada.user_id).total == 1
    # The user, the index, and the sessions of the last five minutes.
    assert metering.operations == ["GetItem", "Query", "BatchGetItem"]


def test_a_list_does_not_read_sessions_that_are_too_old_to_be_valid(ada: User) -> None:
    many(ada, 120, apart=timedelta(minutes=-15))
    with dynamodb_calls() as metering:
        assert session_list(ada.user_id, limit=100).total == 12 * 4 + 1
    assert metering.operations == ["GetItem", "Query", "BatchGetItem"]


def test_a_session_from_a_process_whose_clock_is_behind_is_listed(ada: User) -> None:
    sessions_end(actor=actor(ada), user_id=ada.user_id)
    with clock.shifted(timedelta(minutes=-4)):
        start(User.find(ada.user_id))
    assert session_list(ada.user_id).total == 1


# --- a device ---------------------------------------------------------------------------------------------------------


def test_a_device_is_removed_without_a_search_of_all(ada: User) -> None:
    made = many(ada, 300)
    device_id = session_find(made[150]).device_id
    with dynamodb_calls() as metering:
        device_remove(actor=actor(ada), device_id=device_id)
    assert metering.operations == ["Query", "BatchGetItem", "TransactWriteItems"]
    assert session_find(made[150]) is None
    assert session_list(ada.user_id, limit=1).total == COUNT_AT_MOST
    (record,) = AuditRecord.scan(AuditRecord.action == "session.revoked")
    assert record.detail["session"] == device_id


def test_a_device_is_found_by_its_id_only_and_among_the_users_own(ada: User, store: str) -> None:
    made = many(ada, 3, apart=timedelta(milliseconds=-1))
    eve = user_create(email="eve@example.com", password=PASSWORD, name="Eve", role="viewer", actor=SYSTEM)
    second = session_find(made[1])
    assert session_find_by_device(ada.user_id, second.device_id).token_hash == made[1]
    assert session_find_by_device(eve.user_id, second.device_id) is None
    for wrong in (new_id(), "", "x", "7" + "z" * 25, "😀" * 26, "0" * 26, second.token_hash, "x" * 500):
        assert session_find_by_device(ada.user_id, wrong) is None
        with pytest.raises(NotFound) as refused:
            device_remove(actor=actor(ada), device_id=wrong)
        assert refused.value.code == "session_not_found"


def test_a_device_whose_session_has_expired_is_not_removed(ada: User, store: str) -> None:
    started = start(ada)
    with clock.shifted(started.session.expires_at - clock.now()), pytest.raises(NotFound):
        device_remove(actor=actor(ada), device_id=started.session.device_id)
    assert list(AuditRecord.scan(AuditRecord.action == "session.revoked")) == []
