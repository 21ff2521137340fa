"""Lists page by page: whole, in order, in both directions, over any number of partitions."""

from itertools import pairwise

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from apps.accounts.models import User, UserFacade
from apps.agents.models import Agent
from apps.audit.models import AuditRecord
from controlplane.lib.errors import InvalidInput
from controlplane.nosql import listing
from controlplane.nosql.listing import Listing, ListingPage, search_key
from controlplane.nosql.query import Unserved
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


@given(limit=st.integers(1, 5), drained=st.sets(st.integers(0, 6)), descending=st.booleans())
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
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
