"""Plans for keys: those that only a range key names, the longest keys, and very many."""

from typing import Any

import pytest

from apps.accounts.models import USERS, AccountClaim, ApiToken, User
from apps.jobs.models import QueueEntry
from controlplane.nosql.listing import Listing
from controlplane.nosql.query import Lookup, RecordQuery, Unserved
from controlplane.nosql.record import Record
from tests.metering import dynamodb_calls
from tests.nosql.answers import answered

pytestmark = pytest.mark.usefixtures("tables")


def query(kind: type[Record], **conditions: Any) -> RecordQuery[Any]:
    lookups = [Lookup.parse(name, value) for name, value in conditions.items()]
    # The partition of an entry is the beginning of its position.
    partition = (lambda key: key[:3]) if kind is QueueEntry else None
    return RecordQuery(kind, lookups, {"email": User.find_by_email} if kind is User else {}, partition=partition)


def found(kind: type[Record], limit: int | None = None, **conditions: Any) -> tuple[list[Any], list[str]]:
    with dynamodb_calls() as counted:
        records = list(query(kind, **conditions).run(limit))
    return records, counted.operations


def entries(*positions: str) -> None:
    for number, position in enumerate(positions):
        QueueEntry(position[:3], position, attempt=number).save()


def test_a_record_whose_range_key_is_unique_is_found_by_it_alone() -> None:
    entries("one/a", "one/b", "two/a")
    records, calls = found(QueueEntry, position="two/a")
    assert [record.attempt for record in records] == [2]
    assert calls == ["GetItem"]
    assert found(QueueEntry, position="two/a", attempt=3)[0] == []
    assert found(QueueEntry, position="two/a", attempt=2)[0] != []
    assert found(QueueEntry, position="two/b")[0] == []


def test_both_keys_count_if_both_are_known() -> None:
    entries("one/a")
    assert [record.position for record in found(QueueEntry, set_id="one", position="one/a")[0]] == ["one/a"]
    assert found(QueueEntry, set_id="two", position="one/a") == ([], ["GetItem"])


def test_several_unique_range_keys_are_one_batch_in_the_order_asked() -> None:
    entries("one/a", "one/b", "two/a")
    records, calls = found(QueueEntry, position__in=["two/a", "one/a", "three", "two/a"])
    assert [record.position for record in records] == ["two/a", "one/a"]
    assert calls == ["BatchGetItem"]
    assert [record.position for record in found(QueueEntry, position__in=["two/a", "one/a"], attempt=0)[0]] == ["one/a"]


def test_a_second_list_of_keys_narrows_the_first() -> None:
    lookups = [Lookup("claim", "in", ["a", "b"]), Lookup("claim", "in", ["b", "c"])]
    for name in "abc":
        AccountClaim(name, user_id="ada").save()
    records = RecordQuery(AccountClaim, lookups, {}).run()
    assert [record.claim for record in records] == ["b"]


def test_a_partition_is_queried_when_its_key_is_all_that_is_known() -> None:
    entries("one/a", "one/b", "two/a")
    records, calls = found(QueueEntry, set_id="one")
    assert [record.position for record in records] == ["one/a", "one/b"]
    assert calls == ["Query"]
    assert [record.position for record in found(QueueEntry, 1, set_id="one")[0]] == ["one/a"]
    assert [record.position for record in found(QueueEntry, set_id="one", position__lt="one/b")[0]] == ["one/a"]


@pytest.mark.parametrize(("length", "calls"), [(1024, 1), (1025, 0)])
def test_a_range_key_has_1024_bytes_at_most(length: int, calls: int) -> None:
    for text in ("x" * length, "é" * (length // 2) + "x" * (length % 2)):
        assert len(found(QueueEntry, set_id="one", position=text)[1]) == calls
        assert len(found(QueueEntry, set_id="one", position__gte=text)[1]) == calls


@pytest.mark.parametrize(("length", "calls"), [(2048, 1), (2049, 0)])
def test_a_hash_key_has_2048_bytes_at_most(length: int, calls: int) -> None:
    assert len(found(AccountClaim, claim="x" * length)[1]) == calls


def test_records_of_an_index_are_read_a_hundred_at_a_time() -> None:
    with ApiToken.batch_write() as batch:
        for number in range(101):
            name = f"{number:03}"
            batch.save(
                ApiToken(name, token_id=name, user_id="ada", name=name, name_key=name, created_at=f"2026-{name}")
            )
    records, calls = found(ApiToken, user_id="ada")
    assert [record.name for record in records] == [f"{number:03}" for number in range(101)]
    assert calls == ["Query", "BatchGetItem", "BatchGetItem"]
    assert found(ApiToken, 5, user_id="ada")[1] == ["Query", "BatchGetItem"]


def test_a_unique_value_is_looked_up_and_all_else_is_checked(ada: User) -> None:
    records, calls = found(User, email="ada@example.com", role="operator")
    assert [record.user_id for record in records] == [ada.user_id]
    assert calls == ["GetItem", "GetItem"]
    assert found(User, email="ada@example.com", role="admin")[0] == []
    assert found(User, email="eve@example.com")[0] == []
    page = query(User, email="ada@example.com").page(limit=5)
    assert ([record.user_id for record in page.records], page.next, page.previous) == ([ada.user_id], None, None)


# --- pages ------------------------------------------------------------------------------------------------------------


def users_page(*listings: Listing[User], limit: int = 5, **conditions: Any) -> tuple[list[str], list[str]]:
    lookups = [Lookup.parse(name, value) for name, value in conditions.items()]
    with dynamodb_calls() as counted:
        page = RecordQuery(User, lookups, {}, listings=listings).page(limit=limit)
    return [record.user_id for record in page.records], counted.operations


BY_NAME = Listing(User, User.by_name, lambda _asked: [USERS], filters={"role"})
BY_EMAIL = Listing(User, User.by_email, lambda _asked: [USERS], filters={"role", "is_active"})
NEVER = Listing(User, User.by_name, lambda _asked: None, filters={"role", "is_active"})


def people(**roles: str) -> None:
    for number, (name, role) in enumerate(roles.items()):
        User(
            name,
            email=f"{9 - number}@example.com",
            name=name,
            name_key=name,
            role=role,
            password="x",
            created_at="2026",
        ).save()


def test_a_page_is_of_the_first_listing_that_serves_all_conditions() -> None:
    people(ada="viewer", eve="admin")
    assert users_page(BY_NAME, BY_EMAIL)[0] == ["ada", "eve"]
    assert users_page(BY_EMAIL, BY_NAME)[0] == ["eve", "ada"]
    assert users_page(NEVER, BY_EMAIL)[0] == ["eve", "ada"]
    # The first one cannot filter by this.
    assert users_page(BY_NAME, BY_EMAIL, is_active=True)[0] == ["eve", "ada"]
    assert users_page(BY_NAME, BY_EMAIL, role="admin")[0] == ["eve"]
    with pytest.raises(Unserved):
        users_page(BY_NAME, is_active=True)
    with pytest.raises(Unserved):
        users_page(NEVER)


def test_a_page_of_a_prefix_is_narrowed_by_the_index() -> None:
    people(ada="viewer", adele="viewer", eve="viewer")
    with answered() as sent:
        assert users_page(BY_NAME, name_key__startswith="ad")[0] == ["ada", "adele"]
    assert "begins_with" in sent[0]["KeyConditionExpression"]
    with answered() as sent:
        assert users_page(BY_NAME)[0] == ["ada", "adele", "eve"]
    assert "begins_with" not in sent[0]["KeyConditionExpression"]


def test_a_page_for_a_value_that_no_key_can_have_is_empty_and_asks_nothing() -> None:
    people(ada="viewer")
    for value in ("", "\ud800", "x" * 1025):
        assert users_page(BY_NAME, name_key__startswith=value) == ([], [])
        assert users_page(BY_NAME, role=value) == ([], [])


def test_a_page_of_known_keys_is_read_by_them() -> None:
    people(ada="viewer", eve="admin")
    assert users_page(BY_NAME, user_id="eve") == (["eve"], ["GetItem"])
    assert users_page(BY_NAME, user_id__in=["eve", "ada"]) == (["eve", "ada"], ["BatchGetItem"])
    assert users_page(user_id="eve")[0] == ["eve"]


def test_a_table_is_queried_consistently_and_an_index_as_it_can_be() -> None:
    entries("one/a")
    with answered() as sent:
        found(QueueEntry, set_id="one")
        found(ApiToken, user_id="ada")
    assert [body.get("ConsistentRead", False) for body in sent] == [True, False]


def test_a_keyword_with_an_unknown_comparison_is_no_condition() -> None:
    with pytest.raises(Unserved, match="regex"):
        Lookup.parse("name__regex", "x")
    assert Lookup.parse("name", "x") == Lookup.parse("name__exact", "x") == Lookup("name", "exact", "x")


def test_conditions_on_absent_values() -> None:
    record = AccountClaim("claim", user_id=None)
    assert Lookup("user_id", "exact", None).fulfilled_by(record)
    assert not Lookup("user_id", "exact", "ada").fulfilled_by(record)
    assert not Lookup("user_id", "in", [None]).fulfilled_by(record)
    record = AccountClaim("claim", user_id="bob")
    for comparison, value, fulfilled in (
        ("exact", "bob", True),
        ("exact", "ada", False),
        ("gt", "bob", False),
        ("gt", "ada", True),
        ("gte", "bob", True),
        ("gte", "eve", False),
        ("lt", "bob", False),
        ("lt", "eve", True),
        ("lte", "bob", True),
        ("lte", "ada", False),
        ("startswith", "bo", True),
        ("startswith", "ob", False),
        ("in", ["bob"], True),
        ("in", ["ada"], False),
    ):
        assert Lookup("user_id", comparison, value).fulfilled_by(record) is fulfilled, comparison
