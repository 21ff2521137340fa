"""Plans: which calls answer which query, and which queries are refused."""

from collections.abc import Callable
from typing import Any

import pytest

from apps.accounts.models import ApiToken, User, UserFacade
from apps.audit.models import AuditRecord
from controlplane.nosql.facade import Facade
from controlplane.nosql.listing import Listing
from controlplane.nosql.query import Lookup, RecordQuery, Unserved
from controlplane.nosql.record import Record
from tests.metering import dynamodb_calls

pytestmark = pytest.mark.usefixtures("tables")


def token(name: str, user_id: str = "ada") -> ApiToken:
    made = ApiToken(
        f"hash-{user_id}-{name}",
        token_id=name,
        user_id=user_id,
        name=name,
        name_key=name,
        created_at=f"2026-01-0{name}",
    )
    made.save()
    return made


def found(kind: type[Record], limit: int | None = None, **conditions: Any) -> tuple[list[Any], list[str]]:
    lookups = [Lookup.parse(name, value) for name, value in conditions.items()]
    unique: dict[str, Callable[[Any], Any]] = {"email": User.find_by_email} if kind is User else {}
    with dynamodb_calls() as counted:
        records = list(RecordQuery(kind, lookups, unique).run(limit))
    return records, counted.operations


def test_a_known_key_is_one_read() -> None:
    token("1")
    records, calls = found(ApiToken, token_hash="hash-ada-1")
    assert [record.name for record in records] == ["1"]
    assert calls == ["GetItem"]


def test_what_else_was_asked_of_a_known_key_is_looked_at() -> None:
    token("1")
    assert found(ApiToken, token_hash="hash-ada-1", name="1")[0] != []
    assert found(ApiToken, token_hash="hash-ada-1", name="2")[0] == []
    assert found(ApiToken, token_hash="hash-ada-1", created_at__gte="2026-01-01")[0] != []
    assert found(ApiToken, token_hash="hash-ada-1", created_at__gt="2026-01-01")[0] == []
    assert found(ApiToken, token_hash="hash-ada-1", expires_at=None)[0] != []
    assert found(ApiToken, token_hash="hash-ada-1", last_used_at__startswith="2026")[0] == []


def test_several_keys_are_one_batch() -> None:
    for name in ("1", "2", "3"):
        token(name)
    records, calls = found(ApiToken, token_hash__in=["hash-ada-3", "hash-ada-1", "hash-ada-9", "hash-ada-1", ""])
    assert [record.name for record in records] == ["3", "1"]
    assert calls == ["BatchGetItem"]


def test_no_keys_are_no_call() -> None:
    assert found(ApiToken, token_hash__in=[]) == ([], [])


def test_an_index_gives_whole_records_in_its_order() -> None:
    for name in ("2", "1", "3"):
        token(name)
    token("1", user_id="eve")
    records, calls = found(ApiToken, user_id="ada")
    assert [record.token_hash for record in records] == ["hash-ada-1", "hash-ada-2", "hash-ada-3"]
    assert calls == ["Query", "BatchGetItem"]


def test_an_index_serves_conditions_on_its_range_key() -> None:
    for name in ("1", "2", "3"):
        token(name)
    assert [r.name for r in found(ApiToken, user_id="ada", created_at__gte="2026-01-02")[0]] == ["2", "3"]
    assert [r.name for r in found(ApiToken, user_id="ada", created_at__startswith="2026-01-02")[0]] == ["2"]
    assert [r.name for r in found(ApiToken, user_id="ada", limit=2)[0]] == ["1", "2"]


def test_a_table_with_a_range_key_is_queried_by_its_partition() -> None:
    for entry in ("a", "b"):
        AuditRecord(
            "2026-01-01", entry, actor_kind="", actor_id="", actor_name="", action="", target="", result=""
        ).save()
    assert found(AuditRecord, day="2026-01-01", entry="b")[1] == ["GetItem"]
    records, calls = found(AuditRecord, day="2026-01-01", entry__gte="b")
    assert [record.entry for record in records] == ["b"]
    assert calls == ["Query"]


@pytest.mark.parametrize(
    ("kind", "conditions"),
    [
        (ApiToken, {}),
        (ApiToken, {"name": "1"}),
        (ApiToken, {"created_at__gte": "2026"}),
        (ApiToken, {"user_id__gt": "a"}),
        (ApiToken, {"user_id": "ada", "name": "1"}),
        (ApiToken, {"user_id": "ada", "created_at__in": ["2026"]}),
        (ApiToken, {"user_id": "ada", "created_at__gte": "2026", "created_at__lt": "2027"}),
        (User, {"role": "admin"}),
        (AuditRecord, {"entry": "a"}),
    ],
)
def test_what_no_key_or_index_serves_is_refused_before_anything_is_read(
    kind: type[Record], conditions: dict[str, Any]
) -> None:
    with dynamodb_calls() as counted, pytest.raises(Unserved):
        found(kind, **conditions)
    assert counted.operations == []


def test_a_page_serves_bounds_of_the_range_key() -> None:
    for entry in ("a", "b", "c", "d"):
        AuditRecord(
            "2026-01-01", entry, actor_kind="", actor_id="", actor_name="", action="", target="", result=""
        ).save()
    listing = Listing(AuditRecord, None, lambda asked: [asked["day"]])

    def page(**conditions: Any) -> list[str]:
        lookups = [Lookup.parse(name, value) for name, value in {"day": "2026-01-01", **conditions}.items()]
        return [
            record.entry for record in RecordQuery(AuditRecord, lookups, {}, listings=[listing]).page(limit=9).records
        ]

    assert page(entry__gte="b", entry__lte="c") == ["b", "c"]
    assert page(entry__gte="b", entry__lte="b") == ["b"]
    assert page(entry__gte="c", entry__lte="b") == []
    assert page(entry__gte="c") == ["c", "d"]
    assert page(entry__lte="b") == ["a", "b"]
    assert page(entry__startswith="d") == ["d"]
    with pytest.raises(Unserved):
        page(entry__gt="a")
    with pytest.raises(Unserved):
        page(entry__gte="a", entry__startswith="a")


@pytest.mark.parametrize("comparison", ["icontains", "regex", "isnull", "date"])
def test_a_comparison_that_dynamodb_lacks_is_refused(comparison: str) -> None:
    with pytest.raises(Unserved):
        found(ApiToken, None, **{f"name__{comparison}": "x"})


@pytest.mark.parametrize("value", ["", None, "\ud800", "x" * 5000])
def test_a_value_that_no_key_can_have_finds_nothing_and_asks_nothing(value: Any) -> None:
    assert found(ApiToken, token_hash=value) == ([], [])
    assert found(ApiToken, token_hash__in=[value]) == ([], [])
    assert found(User, email=value) == ([], [])
    assert found(ApiToken, user_id=value) == ([], [])


def test_a_facade_needs_a_record_with_one_key() -> None:
    kind: Any = type(Facade)
    with pytest.raises(TypeError, match="range key"):
        kind("AuditFacade", (Facade,), {"__module__": UserFacade.__module__}, record=AuditRecord)
