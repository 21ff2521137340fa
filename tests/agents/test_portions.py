"""Tasks over the whole fleet have a limited time and go on where they stopped; agents retired long ago are deleted."""

from collections.abc import Callable
from datetime import timedelta

from apps.agents.selectors import fleet_counts
from apps.agents.services import (
    agents_mark_silent,
    portion,
)
from apps.jobs.selectors.queue import queue_registry
from apps.jobs.services import job_create, jobs_claim, leases_expire
from apps.pipelines.services import pipeline_save
from controlplane.lib import clock
from controlplane.lib.actor import Actor
from controlplane.nosql.listing import Place
from tests.conftest import ADMIN
from tests.metering import dynamodb_calls
from tests.polling import polled
from tests.properties.consistency import Everything

PAST = timedelta(minutes=10)


# --- portions of a list ---------------------------------------------------------------------------------------------


def parts_of(letters: str) -> Callable[..., list[str]]:
    """Reads a portion of these letters in `seconds`."""

    def read(start: Place | None) -> list[str]:
        return [letter for letter in letters if start is None or letter > start["at"]]

    def go(seconds: float) -> list[str]:
        return list(portion("letters", lambda start: iter(read(start)), lambda letter: {"at": letter}, seconds=seconds))

    return go


def test_a_portion_goes_on_where_the_last_one_stopped_and_begins_again_after_the_end(tables: None) -> None:
    go = parts_of("abc")
    assert [go(0) for _ in range(3)] == [["a"], ["b"], ["c"]]
    assert go(0) == ["a"]


def test_a_portion_with_enough_time_is_the_whole_list_and_writes_nothing(tables: None) -> None:
    with dynamodb_calls() as metering:
        assert parts_of("abc")(5) == ["a", "b", "c"]
    assert metering.operations == ["GetItem"]


def test_a_portion_that_has_time_left_at_the_end_begins_again(tables: None) -> None:
    go = parts_of("abc")
    go(0)
    assert go(5) == ["b", "c", "a", "b", "c"]
    assert go(5) == ["a", "b", "c"]


def test_a_portion_whose_task_fails_is_done_again(tables: None) -> None:
    go = parts_of("abc")
    go(0)
    # As a loop whose body raises an exception for the first part.
    assert next(portion("letters", lambda _: iter("bc"), lambda letter: {"at": letter}, seconds=0)) == "b"
    assert go(0) == ["b"]


# --- the tasks ------------------------------------------------------------------------------------------------------


def test_marking_silent_agents_goes_on_where_its_time_was_over(
    fleet: Callable[[int], list[str]], small_batches: None
) -> None:
    fleet(8)
    with clock.shifted(PAST):
        assert [agents_mark_silent(seconds=0) for _ in range(4)] == [2, 2, 2, 2]
    assert fleet_counts() == {"eu": {"dead": 4}, "us": {"dead": 4}}


def test_expiring_leases_goes_on_where_its_time_was_over(fleet: Callable[[int], list[str]]) -> None:
    """Each call expires a lease at least, however little time it has."""
    pipeline_save(
        actor=ADMIN,
        name="self",
        repository="https://g.example/a.git",
        default_ref="main",
        definition="retries: 2\nsteps: [{run: make}]",
    )
    for agent_id in fleet(4):
        for _ in range(2):
            job_create(actor=ADMIN)
        agent = Actor("agent", agent_id, "build")
        assert len(jobs_claim(agent=agent, sets=queue_registry().sets, limit=2)) == 2
    # The whole fleet is silent, so its leases last for 180 s. The last poll is 14 s before the sweeps.
    with polled(182):
        assert [leases_expire(seconds=0) for _ in range(9)] == [1] * 8 + [0]
    assert Everything.read().inconsistencies() == []
    assert len(Everything.read().entries) == 8
