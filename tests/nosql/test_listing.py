"""Lists page by page: whole, in order, in both directions, over any number of partitions."""

from itertools import pairwise
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from apps.accounts.models import User, UserFacade
from apps.agents.models import Agent
from apps.audit.models import AuditRecord
from controlplane.lib.errors import InvalidInput
from controlplane.lib.ids import new_id
from controlplane.nosql import listing
from controlplane.nosql.listing import Listing, ListingPage, search_key
from controlplane.nosql.query import Unserved
from tests.examples import examples
from tests.metering import dynamodb_calls

pytestmark = pytest.mark.usefixtures("tables")


def agent(name: str, region: str, status: str = "healthy") -> str:
    key = f"{region}-{name}"
    Agent(key, name=name, name_key=search_key(name), region=region, slots=1, status=status, created_at="2026").save()
    return key


def listed(regions: list[str], *, descending: bool = False) -> Listing[Agent]:
    return Listing(Agent, Agent.by_name, lambda _asked: regions, descending=descending)


def all_pages(
    agents: Listing[Agent], regions: list[str], limit: int, status: str | None = None
) -> list[ListingPage[Agent]]:
    pages: list[ListingPage[Agent]] = []
    start = None
    while not pages or start:
        pages.append(agents.page(regions, limit=limit, start=start, keep=lambda found: status in (None, found.status)))
        start = pages[-1].next
    return pages


@pytest.fixture
def fleet() -> list[str]:
    """Seven agents in three regions, in the order of the list."""
    made = [agent(name, region) for region, names in (("a", "xyz"), ("b", ""), ("c", "wxyz")) for name in names]
    return sorted(made)


@pytest.mark.parametrize("limit", [1, 2, 3, 7, 50])
@pytest.mark.parametrize("descending", [False, True])
def test_all_pages_together_are_the_list(fleet: list[str], limit: int, descending: bool) -> None:
    regions = ["a", "b", "c"][:: -1 if descending else 1]
    pages = all_pages(listed(regions, descending=descending), regions, limit)
    found = [record.agent_id for page in pages for record in page.records]
    assert found == (fleet[::-1] if descending else fleet)
    assert pages[0].previous is None
    assert all(page.previous for page in pages[1:])


@pytest.mark.slow
@given(limit=st.integers(1, 5), drained=st.sets(st.integers(0, 6)), descending=st.booleans())
@settings(max_examples=examples(15), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_going_back_shows_the_pages_that_were_left(
    fleet: list[str], limit: int, drained: set[int], descending: bool
) -> None:
    for number, key in enumerate(fleet):
        Agent(key).update(actions=[Agent.status.set("draining" if number in drained else "healthy")])
    regions = ["a", "b", "c"][:: -1 if descending else 1]
    agents = listed(regions, descending=descending)
    pages = all_pages(agents, regions, limit, status="healthy")
    for before, page in pairwise(pages):
        back = agents.page(
            regions, limit=limit, start=page.previous, backward=True, keep=lambda found: found.status == "healthy"
        )
        assert [found.agent_id for found in back.records] == [found.agent_id for found in before.records]


def test_a_page_that_looked_long_enough_ends_and_can_be_continued(
    fleet: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listing, "LOOK_AT_MOST", 2)
    Agent(fleet[-1]).update(actions=[Agent.status.set("draining")])
    pages = all_pages(listed(["a", "b", "c"]), ["a", "b", "c"], 5, status="draining")
    assert [len(page.records) for page in pages] == [0, 0, 1]


def test_a_prefix_narrows_in_the_index() -> None:
    for name in ("Build-1", "build-2", "test"):
        agent(name, "a")
    agents = listed(["a"])
    page = agents.page(["a"], limit=5, within=agents.range_key.startswith("build"))
    assert [record.name for record in page.records] == ["Build-1", "build-2"]


def test_the_table_itself_is_listed_with_one_consistent_query() -> None:
    for entry in ("2026-01-01T1", "2026-01-01T2"):
        AuditRecord(
            entry[:10], entry, actor_kind="", actor_id="", actor_name="", action="", target="", result=""
        ).save()
    days = ["2026-01-01"]
    with dynamodb_calls() as counted:
        page = Listing(AuditRecord, None, lambda _: days, descending=True).page(days, limit=5)
    assert [record.entry for record in page.records] == ["2026-01-01T2", "2026-01-01T1"]
    assert counted.operations == ["Query"]


SPLIT = (("a", "a#1", "a#2"), ("b", "b#1", "b#2"), "c")
KEYS = ("a", "a#1", "a#2", "b", "b#1", "b#2", "c")


def event(key: str, entry: str, result: str = "kept") -> AuditRecord:
    """An entry of the table's partition `key` and of the index's."""
    return AuditRecord(
        key, entry, actor_kind="", actor_id="", actor_name="", action="", target="", result=result, about=key
    )


@pytest.mark.slow
@given(
    entries=st.dictionaries(st.integers(10, 99), st.tuples(st.sampled_from(KEYS), st.booleans()), max_size=15),
    limit=st.integers(1, 5),
    index=st.sampled_from([None, AuditRecord.by_target]),
    descending=st.booleans(),
    look_at_most=st.sampled_from([1, 70, 1_000]),
)
@settings(max_examples=examples(15), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_split_partition_is_listed_like_a_sorted_list(
    entries: dict[int, tuple[str, bool]], limit: int, index: Any, descending: bool, look_at_most: int
) -> None:
    run = new_id()
    with AuditRecord.batch_write() as batch:
        for number, (key, is_kept) in entries.items():
            batch.save(event(f"{run}{key}", str(number), "kept" if is_kept else "dropped"))
    partitions = [tuple(f"{run}{key}" for key in part) if isinstance(part, tuple) else f"{run}{part}" for part in SPLIT]
    expected = sorted((key[0], str(number)) for number, (key, is_kept) in entries.items() if is_kept)
    if descending:
        partitions.reverse()
        expected.reverse()
    trail = Listing(AuditRecord, index, descending=descending)

    def page(**options: Any) -> ListingPage[AuditRecord]:
        return trail.page(
            partitions, limit=limit, keep=lambda found: found.result == "kept", look_at_most=look_at_most, **options
        )

    pages: list[ListingPage[AuditRecord]] = []
    start = None
    while not pages or start:
        pages.append(page(start=start))
        assert len(pages) <= len(entries) + len(KEYS)
        start = pages[-1].next
    assert [found(record, run) for each in pages for record in each.records] == expected
    assert all(len(each.records) <= limit for each in pages)
    # From the last page with records back to the first one.
    last = next((each for each in reversed(pages) if each.records), pages[-1])
    back: list[AuditRecord] = []
    start = last.previous
    while start:
        before = page(start=start, backward=True)
        back = before.records + back
        start = before.previous
    assert [found(record, run) for record in back + last.records] == expected


def found(record: AuditRecord, run: str) -> tuple[str, str]:
    return record.day.removeprefix(run)[0], record.entry


@pytest.mark.parametrize(
    ("index", "calls"), [(None, ["Query"] * 3), (AuditRecord.by_target, ["Query"] * 3 + ["BatchGetItem"])]
)
def test_a_page_of_a_split_partition_is_one_query_a_shard(index: Any, calls: list[str]) -> None:
    with AuditRecord.batch_write() as batch:
        for number in range(100, 190):
            batch.save(event(KEYS[number % 3 if number < 160 else 0], str(number)))
    trail = Listing(AuditRecord, index, descending=True)
    place, numbers = None, []
    for _ in range(5):
        with dynamodb_calls() as counted:
            page = trail.page([SPLIT[0]], limit=20, start=place)
        assert counted.operations == calls
        place = page.next
        numbers += [int(record.entry) for record in page.records]
    assert numbers == list(range(189, 99, -1))


def test_a_filtered_page_of_a_split_partition_counts_what_it_reads_once() -> None:
    """Each query counts as 20 entries: 20 queries for 120 entries in pieces of six are within the limit of 1,000."""
    with AuditRecord.batch_write() as batch:
        for number in range(100, 220):
            batch.save(event(KEYS[number % 3], str(number), "kept" if number == 100 else "dropped"))
    trail = Listing(AuditRecord, None, descending=True)
    page = trail.page([SPLIT[0]], limit=5, keep=lambda found: found.result == "kept")
    assert [record.entry for record in page.records] == ["100"]


def test_a_split_partition_is_counted_and_read_in_batches() -> None:
    for number in range(10):
        event(KEYS[number % 3], str(number)).save()
    trail = Listing(AuditRecord, None)
    assert trail.count([SPLIT[0]], condition=None, at_most=100, look_at_most=10_000) == (10, False)
    batches = list(trail.batches([SPLIT[0]]))
    assert [[record.entry for record in batch] for batch in batches] == [[str(number) for number in range(10)]]
    assert [[r.entry for r in batch] for batch in trail.batches([SPLIT[0]], start=trail.place_of(batches[0][3]))] == [
        [str(number) for number in range(4, 10)]
    ]


def test_a_condition_on_a_split_partition_is_refused() -> None:
    with pytest.raises(ValueError, match="condition"):
        Listing(AuditRecord, None).page([SPLIT[0]], limit=5, condition=AuditRecord.result == "kept")


def test_looking_up_is_without_regard_to_case_and_white_space() -> None:
    assert search_key("  Ada   LOVELACE ") == "ada lovelace"
    assert search_key("STRASSE") == search_key("straße")


def person(name: str, role: str = "viewer") -> None:
    User(name, email=f"{name}@example.com", name=name, name_key=name, role=role, password="x", created_at="2026").save()


def test_a_querysets_cursor_belongs_to_its_conditions() -> None:
    for name in ("ada", "eve", "zoe"):
        person(name)
    users = UserFacade.objects.get_queryset()
    page = users.page(limit=1)
    assert [facade.pk for facade in users.page(limit=5, cursor=page.next_cursor).objects] == ["eve", "zoe"]
    for other in (users.filter(role="viewer"), users.filter(name_key__startswith="a")):
        with pytest.raises(InvalidInput) as refusal:
            other.page(limit=1, cursor=page.next_cursor)
        assert refusal.value.code == "invalid_cursor"


def test_a_list_that_no_index_has_is_refused_before_anything_is_read() -> None:
    with dynamodb_calls() as counted:
        for conditions in ({"password": "x"}, {"created_at__gte": "2026"}, {"name__startswith": "a"}):
            with pytest.raises(Unserved):
                UserFacade.objects.get_queryset().filter(**conditions).page(limit=5)
    assert counted.operations == []


def test_a_page_of_known_keys_is_one_page() -> None:
    person("ada")
    page = UserFacade.objects.get_queryset().filter(pk="ada").page(limit=5)
    assert [facade.pk for facade in page.objects] == ["ada"]
    assert page.next_cursor is page.previous_cursor is None
