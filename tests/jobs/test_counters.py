"""The counters of a day: a job counts once as created and once for its end."""

from collections import Counter
from datetime import UTC, datetime, timedelta

import pytest

from apps.jobs.models import DayCounter
from apps.jobs.services.counters import counter_add, counter_replace
from apps.jobs.states import FINAL, Status
from controlplane.lib import clock
from controlplane.nosql.transaction import Transaction

pytestmark = pytest.mark.usefixtures("tables")

NAMES = ("created", *FINAL)


def counted() -> dict[str, Counter[str]]:
    """What is counted for each day, without what is 0."""
    found: dict[str, Counter[str]] = {}
    for share in DayCounter.scan():
        day = found.setdefault(f"{share.year}-{share.day_share.partition('#')[0]}", Counter())
        day.update({name: int(getattr(share, name)) for name in NAMES if getattr(share, name)})
    return found


@pytest.mark.parametrize("status", sorted(Status))
def test_a_job_counts_as_created_while_it_is_open_and_by_its_end_after_that(status: Status, now: str) -> None:
    transaction = Transaction()
    counter_add(transaction, status=status)
    transaction.commit()
    assert counted() == {now[:10]: {str(status) if status in FINAL else "created": 1}}


def test_a_job_counts_for_the_day_of_the_moment_in_utc() -> None:
    transaction = Transaction()
    counter_add(transaction, status=Status.QUEUED, moment=datetime(2026, 1, 2, 23, 59, 59, tzinfo=UTC))
    transaction.commit()
    assert counted() == {"2026-01-02": {"created": 1}}


def test_the_jobs_of_a_day_are_counted_in_eight_shares(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[int] = []

    def randrange(shares: int) -> int:
        drawn.append(shares)
        return len(drawn)

    monkeypatch.setattr("apps.jobs.services.counters.random.randrange", randrange)
    for _ in range(2):
        transaction = Transaction()
        counter_add(transaction, status=Status.QUEUED, moment=datetime(2026, 1, 2, tzinfo=UTC))
        transaction.commit()
    assert drawn == [8, 8]
    assert sorted(share.day_share for share in DayCounter.scan()) == ["01-02#1", "01-02#2"]


@pytest.mark.parametrize("days", [0, 1, 2])
@pytest.mark.parametrize("after", [Status.FAILED, Status.COMPLETED])
def test_an_end_that_replaces_another_counts_in_its_place(days: int, after: Status, now: str) -> None:
    first = Transaction()
    counter_add(first, status=Status.FAILED)
    first.commit()
    ended_at = clock.now()
    with clock.shifted(timedelta(days=days)):
        later = clock.timestamp(clock.now())[:10]
        replaced = Transaction()
        counter_replace(replaced, before=Status.FAILED, ended_at=ended_at, after=after)
        if days or after != Status.FAILED:
            replaced.commit()
        else:
            assert not any(replaced._operations.values()), "nothing to write"
    assert {day: names for day, names in counted().items() if any(names.values())} == {later: Counter({after: 1})}
