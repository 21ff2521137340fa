"""Where reading and counting a list stop, and what it costs to find nothing."""

from typing import Any

import pytest

from apps.accounts.models import Session
from apps.agents.models import Agent
from controlplane.lib.errors import InvalidInput
from controlplane.nosql import listing
from controlplane.nosql.listing import LOOK_LEAST, Listing, place_decode, search_key
from tests.metering import dynamodb_calls
from tests.nosql.answers import answered

pytestmark = pytest.mark.usefixtures("tables")

AGENTS = Listing(Agent, Agent.by_name)


def agents(number: int, region: str = "a", status: str = "healthy") -> list[str]:
    """So many agents of a region; their ids, in the order of the list."""
    made = []
    for count in range(number):
        name = f"{region}{count:03}"
        made.append(
            Agent(name, name=name, name_key=search_key(name), region=region, slots=1, status=status, created_at="2026")
        )
    with Agent.batch_write() as batch:
        for record in made:
            batch.save(record)
    return [record.agent_id for record in made]


def ids(records: list[Agent]) -> list[str]:
    return [record.agent_id for record in records]


# --- counting ---------------------------------------------------------------------------------------------------------


def count(regions: list[str], **limits: Any) -> tuple[int, bool]:
    return AGENTS.count(regions, **{"condition": None, "at_most": 10, "look_at_most": 10_000, **limits})


def test_a_count_is_of_all_partitions() -> None:
    agents(3)
    agents(2, "b")
    assert count(["a", "b"]) == (5, False)
    assert count(["a"]) == (3, False)
    assert count([]) == (0, False)


def test_a_count_stops_above_its_limit_and_says_so() -> None:
    agents(3)
    agents(2, "b")
    assert count(["a", "b"], at_most=5) == (5, False)
    assert count(["a", "b"], at_most=4) == (4, True)
    with dynamodb_calls() as metering:
        assert count(["a", "b"], at_most=2) == (2, True)
    assert metering.operations == ["Query"]


def test_a_count_stops_after_it_has_looked_at_enough_and_says_so() -> None:
    agents(3)
    agents(2, "b")
    # A query counts as 500 entries at least.
    assert count(["a", "b"], look_at_most=1001) == (5, False)
    assert count(["a", "b"], look_at_most=1000) == (5, True)
    with dynamodb_calls() as metering:
        assert count(["a", "b"], look_at_most=500) == (3, True)
    assert metering.operations == ["Query"]


def test_a_count_reads_no_entries_and_counts_those_that_match() -> None:
    agents(3)
    with answered() as sent:
        assert count(["a"], condition=Agent.name_key == "a001", at_most=5)[0] == 1
    assert [body["Select"] for body in sent] == ["COUNT"]


# --- batches ----------------------------------------------------------------------------------------------------------


def test_batches_have_a_hundred_records_at_most_and_empty_partitions_none() -> None:
    made = agents(205)
    others = agents(1, "c")
    found = list(AGENTS.batches(["a", "b", "c"]))
    assert [len(batch) for batch in found] == [100, 100, 5, 1]
    assert [name for batch in found for name in ids(batch)] == [*made, *others]


def test_batches_continue_after_a_place() -> None:
    made = agents(5)
    record = Agent.find(made[2])
    assert record is not None
    place = AGENTS.place_of(record)
    assert place == {"agent_id": made[2], "region": "a", "name_key": made[2]}
    assert [name for batch in AGENTS.batches(["a"], start=place) for name in ids(batch)] == made[3:]


# --- pages ------------------------------------------------------------------------------------------------------------


def test_a_page_as_long_as_the_list_has_no_next_one() -> None:
    made = agents(3)
    page = AGENTS.page(["a"], limit=3)
    assert (ids(page.records), page.next, page.previous) == (made, None, None)
    page = AGENTS.page(["a"], limit=2)
    assert ids(page.records) == made[:2]
    assert page.next is not None
    rest = AGENTS.page(["a"], limit=2, start=page.next)
    assert (ids(rest.records), rest.next) == (made[2:], None)
    assert rest.previous == {"agent_id": made[2], "region": "a", "name_key": made[2]}


def test_a_page_ends_after_it_has_looked_at_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    made = agents(60)
    # Each look of fewer entries counts as LOOK_LEAST.
    page = AGENTS.page(["a"], limit=4, keep=lambda _record: False, look_at_most=2 * LOOK_LEAST)
    assert (page.records, page.next) == ([], {"agent_id": made[9], "region": "a", "name_key": made[9]})
    page = AGENTS.page(["a"], limit=4, keep=lambda _record: False, look_at_most=2 * LOOK_LEAST + 1)
    assert page.next == {"agent_id": made[14], "region": "a", "name_key": made[14]}
    monkeypatch.setattr(listing, "LOOK_AT_MOST", LOOK_LEAST)
    page = AGENTS.page(["a"], limit=4, keep=lambda _record: False)
    assert page.next == {"agent_id": made[4], "region": "a", "name_key": made[4]}


def test_a_listing_may_look_at_more_entries_a_query() -> None:
    made = agents(30)
    wide = Listing(Agent, Agent.by_name, look=25)
    with answered() as sent:
        page = wide.page(["a"], limit=2)
    assert ids(page.records) == made[:2]
    assert [body["Limit"] for body in sent if "Limit" in body] == [25]


def test_a_page_of_empty_partitions_is_empty() -> None:
    page = AGENTS.page(["a", "b"], limit=5)
    assert (page.records, page.next, page.previous) == ([], None, None)
    page = AGENTS.page([], limit=5)
    assert (page.records, page.next, page.previous) == ([], None, None)


def test_a_record_that_is_missing_from_the_table_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    made = agents(3)
    find_many = Agent.find_many
    monkeypatch.setattr(
        Agent, "find_many", lambda keys: [found for found in find_many(keys) if found.agent_id != made[1]]
    )
    assert ids(AGENTS.page(["a"], limit=5).records) == [made[0], made[2]]


def test_a_complete_index_is_listed_without_reading_the_records() -> None:
    agents(3)
    complete = Listing(Agent, Agent.by_name, is_complete=True)
    with dynamodb_calls() as metering:
        page = complete.page(["a"], limit=5)
    assert metering.operations == ["Query"]
    assert [record.name_key for record in page.records] == ["a000", "a001", "a002"]


def test_dynamodb_filters_by_a_condition_and_reads_more_for_it() -> None:
    agents(30)
    with answered() as sent:
        page = AGENTS.page(["a"], limit=2, condition=Agent.agent_id == "a025")
    assert ids(page.records) == ["a025"]
    assert [body["Limit"] for body in sent if "Limit" in body] == [500]
    assert page.next is None


def test_the_names_of_a_listings_keys_are_the_records_attributes() -> None:
    assert AGENTS.key_names() == ("region", "name_key")
    assert Listing(Session, Session.by_user).key_names() == ("user_id", "created_at")


def test_a_place_is_of_its_list_and_none_is_the_beginning() -> None:
    agents(3)
    page = AGENTS.page(["a"], limit=2)
    cursor = page.next_cursor("agents")
    assert place_decode("agents", cursor) == page.next
    assert place_decode("agents", None) is None
    assert place_decode("agents", "") is None
    with pytest.raises(InvalidInput):
        place_decode("others", cursor)
    assert AGENTS.page(["a"], limit=3).next_cursor("agents") is None
