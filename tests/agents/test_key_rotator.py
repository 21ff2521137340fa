"""Agents get new keys by a rotation, all of them or none."""

from collections.abc import Iterator
from datetime import timedelta

import pytest

from apps.secrets.selectors.rotations import rotation_get
from controlplane.lib import clock
from tests.secrets.conftest import recorded
from tests.secrets.fleet import Fleet
from tests.secrets.rotations import begun, planned, settled, sweep, time_of_its_own


@pytest.fixture(autouse=True)
def _tables(tables: None) -> Iterator[None]:
    """Empty tables, and a clock that the test shifts."""
    with time_of_its_own():
        yield


def test_agents_keys_are_rotated_once_each_agent_has_signed_with_its_new_one() -> None:
    fleet = Fleet.enrolled(3)
    before = dict(fleet.holds)
    planned([], rotator="agent-keys")
    rotation = begun()
    sweep()
    assert "3 agents have not signed with their new keys" in rotation_get(rotation.rotation_id).message
    for _ in range(2):
        fleet.poll()
    assert settled(rotation, between=fleet.poll).state == "completed"
    assert fleet.newest() == fleet.holds
    assert not {*before.values()} & {*fleet.holds.values()}
    for agent_id, key_id in fleet.holds.items():
        assert ("agent.key_rotated", {"key_id": key_id, "before": before[agent_id]}) in recorded(f"agent:{agent_id}")


def test_if_one_agent_does_not_take_its_new_key_all_keep_the_old_ones() -> None:
    fleet = Fleet.enrolled(3)
    before = dict(fleet.holds)
    planned([], rotator="agent-keys")
    fleet.silent = {next(iter(before))}
    rotation = begun()
    sweep()
    for _ in range(2):
        fleet.poll()
    # The others sign with their new keys already.
    assert len({*before.values()} & {*fleet.holds.values()}) == 1
    done = settled(rotation, between=fleet.poll, minutes=240)
    assert (done.state, "It took too long" in done.reason) == ("failed", True)
    fleet.silent.clear()
    for _ in range(2):
        fleet.poll()
    assert fleet.holds == fleet.newest() == before
    # A day later only the old keys are accepted.
    with clock.shifted(timedelta(hours=25)):
        fleet.poll()
