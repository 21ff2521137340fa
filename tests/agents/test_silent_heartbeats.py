"""Which silent agents lose their leases: after a longer silence when most of the fleet fell silent together."""

from collections.abc import Callable, Sequence
from datetime import datetime, timedelta

import pytest

from apps.agents.models import Agent, FleetCounter, Heartbeat
from apps.agents.selectors import silent_heartbeats
from apps.agents.selectors.heartbeats import MASS_LEASE
from controlplane.lib import clock
from controlplane.lib.ids import new_id

pytestmark = pytest.mark.usefixtures("tables")

LEASED = {"job": {"attempt": 1, "at": "2026-11-21T09:35:37.000000Z", "started": True}}


@pytest.fixture
def now(monkeypatch: pytest.MonkeyPatch) -> datetime:
    """The time, which stands still."""
    now = clock.now()
    monkeypatch.setattr(clock, "now", lambda: now)
    return now


@pytest.fixture
def fleet(now: datetime) -> Callable[..., None]:
    """Makes agents that have been silent for these seconds; `named` in the order of their hostnames."""

    def make(*seconds: float, status: str = "healthy", leased: bool = True) -> None:
        for silence in seconds:
            agent_id, at = new_id(), clock.timestamp(now - timedelta(seconds=silence))
            Agent(agent_id, name="a", name_key="a", region="eu", slots=1, status=status, created_at=at).save()
            lease_map = LEASED if leased else {}
            Heartbeat(agent_id, at=at, status=status, lease_map=lease_map, uptime_seconds=silence).save()
            FleetCounter(key=f"eu#{status}").update(actions=[FleetCounter.agents.add(1)])

    return make


def found(heard_since: datetime | None = None) -> Sequence[float]:
    """For how many seconds those that lose their leases have been silent."""
    return sorted(int(heartbeat.uptime_seconds) for heartbeat in silent_heartbeats(heard_since=heard_since))


def test_an_agent_that_is_silent_for_more_than_a_lease_is_found(fleet: Callable[..., None]) -> None:
    fleet(0, 44, 45, 46, 500)
    assert found() == [46, 500]


def test_an_agent_without_leases_has_none_to_lose(fleet: Callable[..., None]) -> None:
    fleet(100, leased=False)
    fleet(200)
    assert found() == [200]


def test_when_most_of_the_fleet_fell_silent_together_only_long_silence_counts(fleet: Callable[..., None]) -> None:
    fleet(0, 0, 50, 60, 70, 300)
    assert found() == [300]


def test_the_long_lease_ends_after_three_minutes(fleet: Callable[..., None]) -> None:
    assert timedelta(seconds=180) == MASS_LEASE
    fleet(100, 100, 100, 179, 180, 181)
    # Only those that lost contact within a lease of the first ones count as having fallen silent together.
    assert found() == [181]


def test_two_agents_are_no_majority(fleet: Callable[..., None]) -> None:
    fleet(50, 60)
    assert found() == [50, 60]


def test_three_silent_agents_of_six_are_no_majority(fleet: Callable[..., None]) -> None:
    fleet(0, 0, 0, 50, 60, 70)
    assert found() == [50, 60, 70]


def test_agents_that_fell_silent_one_after_the_other_did_not_do_so_together(fleet: Callable[..., None]) -> None:
    fleet(0, 0, 50, 60, 150)
    assert found() == [50, 60, 150]


def test_agents_that_have_been_silent_for_long_do_not_count_as_falling_silent_now(fleet: Callable[..., None]) -> None:
    fleet(140, 181, 182)
    assert found() == [140, 181, 182]


def test_retired_agents_are_no_part_of_the_fleet(fleet: Callable[..., None]) -> None:
    fleet(0)
    fleet(50, 51, status="retired")
    fleet(52)
    assert found() == [50, 51, 52]


def test_silence_counts_only_since_agents_could_be_heard(fleet: Callable[..., None], now: datetime) -> None:
    fleet(0, 500)
    assert found(heard_since=now - timedelta(seconds=40)) == []
    assert found(heard_since=now - timedelta(seconds=50)) == [500]
    # An agent that was heard since then is silent from there on.
    assert found(heard_since=now - timedelta(seconds=1000)) == [500]
