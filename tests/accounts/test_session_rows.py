"""Writing sessions: both stores keep the same promises."""

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest

from apps.accounts.models import AccountClaim, Session, session_memory, session_token_new
from apps.accounts.selectors import session_find
from apps.accounts.services.session_data import session_make
from apps.accounts.services.session_rows import MemoryRows, TableRows, session_rows
from controlplane.lib import clock
from controlplane.nosql.connection import ConditionFailed
from controlplane.nosql.transaction import Transaction, TransactionFailed

pytestmark = pytest.mark.usefixtures("tables", "store")


def made(**data: str) -> Session:
    return session_make(token=session_token_new(None), data=data)


def revised(session: Session, **members: object) -> Session:
    return Session(**{**session.attribute_values, **members})


def transaction(*, taken: bool = False) -> Transaction:
    """Writes a claim, if that is not taken."""
    if taken:
        AccountClaim("claim", user_id="eve").save()
    tx = Transaction()
    tx.put("claim", AccountClaim("claim", user_id="ada"))
    return tx


def claimed() -> list[str]:
    return [found.user_id for found in AccountClaim.scan()]


def test_the_setting_names_the_store(store: str) -> None:
    assert isinstance(session_rows(), {"dynamodb": TableRows, "memory": MemoryRows}[store])


def test_a_session_is_inserted_only_under_a_new_key() -> None:
    session = made()
    session_rows().insert(session)
    with pytest.raises(ConditionFailed):
        session_rows().insert(revised(session, revision="other"))
    assert session_find(session.token_hash).revision == session.revision


def test_a_session_is_replaced_only_at_the_revision_that_was_read() -> None:
    session = made()
    session_rows().insert(session)
    with pytest.raises(ConditionFailed):
        session_rows().replace(revised(session, revision="second"), revision="another")
    session_rows().replace(revised(session, revision="second"), revision=session.revision)
    assert session_find(session.token_hash).revision == "second"
    with pytest.raises(ConditionFailed):
        session_rows().replace(revised(session, revision="third"), revision=session.revision)


def test_a_session_that_has_ended_is_neither_replaced_nor_touched() -> None:
    session = made()
    with pytest.raises(ConditionFailed):
        session_rows().replace(session, revision=session.revision)
    with pytest.raises(ConditionFailed):
        session_rows().touch(session)
    assert session_find(session.token_hash) is None


def test_a_touch_writes_when_it_was_seen_and_when_it_ends_and_nothing_else() -> None:
    session = made(theme="dark")
    session_rows().insert(session)
    later = session.expires_at + timedelta(minutes=5)
    session_rows().touch(revised(session, last_seen_at="later", expires_at=later, data="changed", device="changed"))
    found = session_find(session.token_hash)
    assert (found.last_seen_at, found.expires_at) == ("later", later)
    assert (found.data, found.device, found.revision) == (session.data, session.device, session.revision)


def test_deleting_what_is_not_there_does_no_harm() -> None:
    session, other = made(), made()
    session_rows().insert(session)
    session_rows().insert(other)
    for _ in range(2):
        session_rows().delete(session.token_hash)
    assert session_find(session.token_hash) is None
    assert session_find(other.token_hash) is not None


def test_a_session_begins_in_a_transaction_with_what_belongs_to_it() -> None:
    session = made()
    session_rows().commit(transaction(), add=session)
    assert session_find(session.token_hash).revision == session.revision
    assert claimed() == ["ada"]


def test_a_session_whose_key_is_taken_does_not_begin_and_nothing_else_is_written() -> None:
    session = made()
    session_rows().insert(session)
    with pytest.raises(TransactionFailed) as refused:
        session_rows().commit(transaction(), add=revised(session, revision="other"))
    current = refused.value.failed["session"]
    assert isinstance(current, Session)
    assert current.revision == session.revision
    assert claimed() == []


def test_a_session_does_not_begin_if_what_belongs_to_it_is_refused() -> None:
    session = made()
    with pytest.raises(TransactionFailed) as refused:
        session_rows().commit(transaction(taken=True), add=session)
    assert list(refused.value.failed) == ["claim"]
    assert session_find(session.token_hash) is None


def test_a_session_ends_in_a_transaction_and_only_once() -> None:
    session, other = made(), made()
    session_rows().insert(session)
    session_rows().insert(other)
    session_rows().commit(transaction(), remove=session.token_hash)
    assert session_find(session.token_hash) is None
    assert session_find(other.token_hash) is not None
    assert claimed() == ["ada"]
    tx = Transaction()
    tx.put("again", AccountClaim("again", user_id="ada"))
    with pytest.raises(TransactionFailed) as refused:
        session_rows().commit(tx, remove=session.token_hash)
    assert refused.value.failed == {"session": None}
    assert claimed() == ["ada"]


def test_a_session_does_not_end_if_what_belongs_to_it_is_refused() -> None:
    session = made()
    session_rows().insert(session)
    with pytest.raises(TransactionFailed):
        session_rows().commit(transaction(taken=True), remove=session.token_hash)
    assert session_find(session.token_hash) is not None


def test_one_of_many_at_once_ends_a_session() -> None:
    session = made()
    session_rows().insert(session)

    def end(number: int) -> bool:
        tx = Transaction()
        tx.put("claim", AccountClaim(f"claim {number}", user_id=str(number)))
        try:
            session_rows().commit(tx, remove=session.token_hash)
        except TransactionFailed:
            return False
        return True

    with ThreadPoolExecutor(6) as pool:
        ended = list(pool.map(end, range(6)))
    assert ended.count(True) == 1
    assert claimed() == [str(ended.index(True))]


@pytest.mark.parametrize("store", ["memory"], indirect=True)
def test_memory_forgets_what_has_expired_when_another_session_is_made() -> None:
    expired, session = made(), made()
    expired.expires_at = clock.now()
    session_rows().insert(expired)
    session_rows().insert(session)
    assert session_memory.find(expired.token_hash) is None
    assert session_memory.find(session.token_hash) is not None


@pytest.mark.parametrize("store", ["memory"], indirect=True)
def test_what_memory_gives_is_a_copy() -> None:
    session = made()
    session_rows().insert(session)
    session.data = "changed"
    session_memory.find(session.token_hash).data = "changed too"
    assert "changed" not in session_memory.find(session.token_hash).data
