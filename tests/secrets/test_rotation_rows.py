"""Which process goes on with a rotation."""

from collections.abc import Callable

import pytest

from apps.secrets.selectors.rotations import rotation_get
from apps.secrets.services.rotation_rows import RotationRow
from apps.secrets.services.rotation_schedule import rotations_advance
from apps.secrets.services.rotations import rotation_hasten, rotation_stop
from tests.conftest import OPERATOR
from tests.secrets.rotations import (
    ID,
    OLD,
    begun,
    current,
    kubernetes,
    planned,
    states,
    sweep,
    vault,
    webhook,
)
from tests.secrets.systems import Systems


@pytest.fixture(autouse=True)
def _tables(tables: None) -> None:
    """Empty tables."""


def test_of_two_sweeps_at_once_one_does_the_steps(systems: Systems) -> None:
    planned([vault(systems)])
    rotation = begun()
    inside: list[int] = []

    def answer(_method: str, _path: str) -> None:
        if not inside:
            inside.append(rotations_advance(seconds=9))

    systems.refuse = answer
    sweep()
    assert rotation_get(rotation.rotation_id).state == "overlap"
    assert inside == [1]
    assert systems.requests.count("POST /v1/secret/data/app/db") == 1


def test_a_process_that_ended_is_followed_by_another_one_three_minutes_later(systems: Systems) -> None:
    planned([vault(systems)])
    rotation = begun()
    assert RotationRow.take(ID, str(rotation.entry)) is not None
    sweep(minutes=2)
    assert (rotation_get(rotation.rotation_id).state, systems.requests) == ("rotating", [])
    sweep(minutes=1)
    assert rotation_get(rotation.rotation_id).state == "overlap"


def test_a_rotation_that_waits_is_left_to_the_next_sweep(systems: Systems) -> None:
    planned([webhook(systems)])
    rotation = begun()
    systems.refuse = lambda _method, _path: (202, {})
    sweep()
    waiting = rotation_get(rotation.rotation_id)
    assert (waiting.state, waiting.owner, waiting.owned_until) == ("rotating", None, None)
    assert "goes on with it" in waiting.message
    systems.refuse = lambda _method, _path: None
    sweep(minutes=1)
    assert rotation_get(rotation.rotation_id).state == "overlap"


def during(systems: Systems, request: str, wish: Callable[[], None]) -> None:
    """A user wishes something while the first such request of a step is being answered."""
    wishes = [wish]

    def answer(method: str, path: str) -> None:
        if f"{method} {path}".startswith(request) and wishes:
            wishes.pop()()

    systems.refuse = answer


def test_a_user_who_stops_a_rotation_during_a_step_is_heeded_before_the_new_value_is_current(systems: Systems) -> None:
    planned([kubernetes(systems)])
    rotation = begun()
    during(systems, "PATCH", lambda: rotation_stop(actor=OPERATOR, rotation_id=rotation.rotation_id))
    sweep()
    sweep()
    assert (rotation_get(rotation.rotation_id).state, current()) == ("failed", OLD)


def test_a_user_who_hastens_a_rotation_during_a_step_does_not_wait_for_the_overlap(systems: Systems) -> None:
    planned([kubernetes(systems)], overlap_minutes=1440)
    rotation = begun()
    during(systems, "PATCH", lambda: rotation_hasten(actor=OPERATOR, rotation_id=rotation.rotation_id))
    sweep()
    sweep()
    assert (rotation_get(rotation.rotation_id).state, states()) == ("completed", ["retired", "current"])
