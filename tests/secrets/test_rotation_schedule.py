"""Rotations by schedule, and the alarm."""

import logging
from datetime import timedelta
from typing import Any

import pytest

from apps.audit.selectors import audit_search
from apps.secrets.selectors.rotations import plan_get, rotation_get, rotation_list
from apps.secrets.services import rotation_schedule
from apps.secrets.services.rotation_advance import rotation_advance
from apps.secrets.services.rotation_plans import rotation_configuration_delete, rotation_configure
from apps.secrets.services.rotation_schedule import rotations_advance
from apps.secrets.services.rotations import secret_rotate
from controlplane.lib import clock
from controlplane.lib.errors import Unavailable
from tests.conftest import ADMIN, OPERATOR
from tests.secrets.conftest import secret_made
from tests.secrets.rotations import (
    ID,
    begun,
    measured,
    planned,
    settled,
    sweep,
    vault,
)
from tests.secrets.systems import Systems

DAILY = {"every_days": 1, "at": "03:00"}


@pytest.fixture(autouse=True)
def _tables(tables: None) -> None:
    """Empty tables."""


def test_a_schedule_begins_the_rotation_when_it_is_due(systems: Systems) -> None:
    planned([vault(systems)], schedule=DAILY)
    due = plan_get(ID).due_at
    with clock.shifted(clock.parse_timestamp(due) - clock.now() - timedelta(minutes=1)):
        sweep()
        assert rotation_list(ID).rotations == []
        sweep(minutes=2)
        (rotation,) = rotation_list(ID).rotations
        assert (rotation.requested_by, rotation.state) == ("schedule", "overlap")
        (started,) = audit_search(actor=f"schedule:{ID}").records
        assert (started.action, started.actor_name) == ("secret.rotation_started", f"schedule of {ID}")
        settled(rotation)
        plan = plan_get(ID)
        assert clock.parse_timestamp(plan.due_at) - clock.parse_timestamp(due) == timedelta(days=1)
        assert (plan.last_rotated_at, plan.last) == (rotation_get(rotation.rotation_id).activated_at, rotation.entry)


def test_a_failed_rotation_rings_an_alarm_until_one_succeeds_and_is_tried_again_a_day_later(
    systems: Systems, caplog: pytest.LogCaptureFixture
) -> None:
    planned([vault(systems)], schedule=DAILY)
    assert measured() == 0
    systems.refuse = lambda _method, _path: (403, {})
    with caplog.at_level(logging.ERROR):
        settled(begun())
    assert "has failed; the old value is current: prepare of vault (vault)" in caplog.text
    assert measured() == 1
    again = clock.parse_timestamp(plan_get(ID).due_at) - clock.now()
    assert timedelta(hours=23) < again <= timedelta(days=1)
    systems.refuse = lambda _method, _path: None
    settled(begun())
    assert measured() == 0


def test_a_secret_that_nothing_rotates_any_more_rings_no_alarm(systems: Systems) -> None:
    planned([vault(systems)])
    systems.refuse = lambda _method, _path: (403, {})
    settled(begun())
    assert measured() == 1
    rotation_configuration_delete(actor=ADMIN, secret_id=ID)
    assert measured() == 0


def test_a_rotation_that_is_late_rings_an_alarm(systems: Systems, monkeypatch: pytest.MonkeyPatch) -> None:
    planned([vault(systems)], schedule=DAILY)
    with clock.shifted(clock.parse_timestamp(plan_get(ID).due_at) - clock.now() + timedelta(hours=2)):
        assert measured() == 1
        settled(rotation_list(ID).rotations[0])
        assert measured() == 0


def test_one_rotation_that_does_not_get_on_keeps_no_other_from_going_on(
    systems: Systems, monkeypatch: pytest.MonkeyPatch
) -> None:
    planned([])
    secret_made("SECOND")
    rotation_configure(actor=ADMIN, secret_id="SECOND", rotator="generated")
    first, second = begun(), secret_rotate(actor=OPERATOR, secret_id="SECOND")

    def failing(*, secret_id: str, **arguments: Any) -> None:
        if secret_id == ID:
            raise Unavailable
        rotation_advance(secret_id=secret_id, **arguments)

    monkeypatch.setattr(rotation_schedule, "rotation_advance", failing)
    # Without time, nothing is looked at.
    assert rotations_advance(seconds=0) == 0
    assert rotations_advance(seconds=60) == 2
    assert [rotation_get(one.rotation_id).state for one in (first, second)] == ["rotating", "overlap"]
    # It is late an hour after it was due.
    with clock.shifted(timedelta(minutes=59)):
        assert measured() == 0
    with clock.shifted(timedelta(minutes=61)):
        assert measured() == 1
