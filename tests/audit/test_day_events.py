"""How many events a day has, counted as they are sealed."""

from datetime import timedelta

import pytest

from apps.audit.selectors.overview import events_today
from controlplane.lib import clock
from tests.audit.sealed import copies_clear, seal_now
from tests.audit.trail import BUILDER, CI, event, write

pytestmark = pytest.mark.usefixtures("tables", "noon")


@pytest.fixture(autouse=True)
def _copies() -> None:
    """No seals of another test."""
    copies_clear()


def test_each_event_is_counted_once_and_acts_of_users_apart() -> None:
    write([event("job:1"), event("job:2", actor=BUILDER), event("job:3", actor=CI)])
    assert (events_today().events, events_today().of_users) == (0, 0)
    for _ in range(2):
        seal_now()
        assert (events_today().events, events_today().of_users) == (3, 2)
    with clock.shifted(timedelta(minutes=10)):
        write([event("job:4")])
        seal_now()
        assert (events_today().events, events_today().of_users) == (4, 3)


def test_each_day_counts_from_nothing_and_older_days_are_not_counted() -> None:
    for days in (-5, -1, 0):
        with clock.shifted(timedelta(days=days)):
            write([event(f"job:{days + 10}")])
    seal_now()
    for days, events in ((-5, 0), (-1, 1), (0, 1), (1, 0)):
        with clock.shifted(timedelta(days=days)):
            assert events_today().events == events
