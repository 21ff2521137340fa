"""Which seal ends a period, and how many seals its days have."""

import random
from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime, timedelta

import pytest

from apps.audit.models import SealRecord, seal_place
from apps.audit.selectors.sealed_periods import end_seal, seal_digests, seals_at
from apps.audit.selectors.seals import seal_find
from controlplane.lib import clock
from tests.audit.sealed import copies_clear, seal_now, sealed_trail
from tests.audit.trail import event, write
from tests.metering import dynamodb_calls

pytestmark = pytest.mark.usefixtures("tables")
MIDNIGHT = datetime.fromisoformat("2026-11-20T00:00:00Z")
END = clock.timestamp(MIDNIGHT)


@pytest.fixture(autouse=True)
def _clean() -> Iterator[None]:
    copies_clear()
    yield
    copies_clear()


def at(minutes: int, *, sealed: bool) -> None:
    """An event so many minutes after midnight; sealed in the next minutes, with what is not yet."""
    with clock.shifted(MIDNIGHT + timedelta(minutes=minutes) - clock.now()):
        write([event()])
        if sealed:
            seal_now()


def number_and_final() -> tuple[int | None, bool]:
    found = end_seal(END)
    return found.seal.number if found.seal else None, found.final


def test_the_seal_at_the_end_is_that_of_the_last_event_before_it_and_stays_the_same() -> None:
    assert number_and_final() == (None, False)
    at(-60, sealed=True)
    assert number_and_final() == (1, True)
    at(-30, sealed=False)
    assert number_and_final() == (1, False), "an event has no seal yet"
    at(2, sealed=True)
    assert number_and_final() == (2, True), "the seal has events of both days"
    for minutes in (10, 3000):
        at(minutes, sealed=True)
        assert number_and_final() == (2, True)


def test_a_seal_that_has_only_later_events_does_not_end_the_period() -> None:
    at(-60, sealed=True)
    at(10, sealed=True)
    assert number_and_final() == (1, True)


def test_before_the_first_event_there_is_no_seal() -> None:
    at(10, sealed=True)
    assert number_and_final() == (None, True)


@pytest.mark.parametrize("size", [1, 2, 300])
def test_the_last_seals_of_all_days_are_found_in_a_read_for_each_doubling(size: int) -> None:
    sealed_trail([1])
    first = seal_find(1)
    assert first
    chance = random.Random(size)
    times, now = [], MIDNIGHT
    with SealRecord.batch_write() as batch:
        for number in range(1, size + 1):
            now += timedelta(minutes=chance.choice([1, 3, 2000]))
            times.append(clock.timestamp(now))
            statement = replace(first.statement, number=number, through=times[-1])
            row = SealRecord(SealRecord.PART, seal_place(number), statement=statement.text)
            row.signature, row.edge = first.signature, first.edge.root
            batch.save(row)
    asked = [clock.timestamp(MIDNIGHT + timedelta(days=day)) for day in range(0, 300, 10)] + [times[-1]]
    with dynamodb_calls() as counted:
        found = seals_at(asked)
    assert [one.number for one in found] == [sum(time <= end for time in times) for end in asked]
    assert all(one.seal.number == one.number if one.seal else one.number == 0 for one in found)
    assert counted.calls <= 11


def test_the_digest_of_a_seal_that_is_not_there_is_none() -> None:
    sealed_trail([1])
    seal = seal_find(1)
    assert seal
    assert seal_digests([1, 7]) == {1: seal.statement.digest, 7: None}
