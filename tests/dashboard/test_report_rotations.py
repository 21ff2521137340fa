"""The report "Rotation compliance": which secrets are rotated in time, and which are not."""

import re
from datetime import datetime, timedelta
from typing import Any

import pytest

from apps.audit.actions import Action
from apps.dashboard.selectors import report_rotations
from apps.secrets.selectors.rotations import rotation_get, schedule_next
from apps.secrets.services import secret_create, secret_delete
from apps.secrets.services.rotation_plans import rotation_configuration_delete, rotation_configure
from apps.secrets.services.rotation_schedule import rotations_advance
from apps.secrets.services.rotations import secret_rotate
from controlplane.lib import clock
from controlplane.lib.actor import SYSTEM
from tests.audit.trail import event, write
from tests.conftest import ADMIN, OPERATOR
from tests.dashboard.conftest import SignedIn
from tests.dashboard.reported import days_ago, made, report

pytestmark = pytest.mark.usefixtures("tables")
MONTHLY = {"every_days": 30, "at": "03:00"}


def secret(name: str, *, schedule: dict[str, Any] | None = None, rotated: bool = True) -> None:
    """A secret, with a rotation unless `rotated` is false."""
    secret_create(actor=OPERATOR, name=name, value=f"a long value of {name}")
    if rotated:
        rotation_configure(actor=ADMIN, secret_id=name, rotator="generated", schedule=schedule, overlap_minutes=0)


def rows(days: int = 30, *, until: int = 0) -> dict[str, dict[str, Any]]:
    return {row["Secret"]: row for row in made("rotations", days, until=until)}


def event_of(name: str, action: Action, **detail: Any) -> Any:
    return event(f"secret:{name}", actor=SYSTEM, action=action, detail=detail)


def test_each_secret_has_its_schedule_last_and_next_rotation_and_whether_it_is_overdue() -> None:
    with days_ago(50):
        secret("MONTHLY", schedule=MONTHLY)
        secret("BY_HAND")
    with days_ago(10):
        rotation = secret_rotate(actor=OPERATOR, secret_id="MONTHLY")
        for minutes in range(3):
            with clock.shifted(timedelta(minutes=minutes)):
                rotations_advance(seconds=30)
        assert rotation_get(rotation.rotation_id).state == "completed"
        rotated_at = str(rotation_get(rotation.rotation_id).activated_at)
    with days_ago(50):
        # No sweep has come since.
        secret("LATE", schedule=MONTHLY)
    found = rows()
    today = clock.now().date()
    monthly = found["MONTHLY"]
    assert (monthly["State"], monthly["Rotator"], monthly["Schedule"]) == (
        *("in time", "generated", "every 30 days, 03:00 (UTC)"),
    )
    assert monthly["Last rotation"] == monthly["Value since"]
    assert monthly["Last rotation"][:16] == rotated_at[:16]
    assert monthly["Next"] == f"{today + timedelta(days=20)}T03:00:00.000000Z"
    assert (monthly["Age in days"], monthly["In the period"]) == (10, "1 completed, 0 failed")
    late = found["LATE"]
    assert (late["State"], late["Last rotation"], late["Age in days"]) == ("overdue", None, 50)
    assert late["Next"] == late["Due"] == f"{today - timedelta(days=20)}T03:00:00.000000Z"
    assert (found["BY_HAND"]["State"], found["BY_HAND"]["Next"]) == ("by hand only", None)
    assert list(found) == ["LATE", "BY_HAND", "MONTHLY"]


def test_its_page_shows_each_state_by_shape_and_word(signed_in: SignedIn) -> None:
    with days_ago(40):
        secret("LATE", schedule=MONTHLY)
        secret("BARE", rotated=False)
    page = signed_in("auditor").get("/dashboard/reports/rotations").text
    for tone, shape, word in (("bad", "cross", "overdue"), ("warn", "warning", "no rotation")):
        assert re.search(rf'state-{tone}"><svg[^>]*><use href="[^"]*#{shape}"></use></svg>{word}<', page)


def test_a_secret_without_a_rotation_is_there_with_its_age() -> None:
    with days_ago(40):
        secret("BARE", rotated=False)
        secret("GIVEN_UP", schedule=MONTHLY)
        rotation_configuration_delete(actor=ADMIN, secret_id="GIVEN_UP")
    with days_ago(5):
        write([event_of("GIVEN_UP", Action.SECRET_VERSION_ADDED, version=2)])
    found = rows()
    assert [(row["State"], row["Rotator"], row["Age in days"]) for row in found.values()] == [
        ("no rotation", None, 40),
        ("no rotation", None, 5),
    ]


def test_failed_rotations_of_the_period_are_counted_and_the_last_one_has_its_reason() -> None:
    with days_ago(90):
        secret("KEY", schedule=MONTHLY)
        write([event_of("KEY", Action.SECRET_ROTATION_FAILED, reason="before the period")])
    with days_ago(10):
        write([event_of("KEY", Action.SECRET_ROTATION_FAILED, reason="vault answers 403")])
    with days_ago(9):
        # A version that a rotation has only prepared is not current.
        write([event_of("KEY", Action.SECRET_VERSION_ADDED, version=2, rotation="r")])
        write([event_of("KEY", Action.SECRET_ROTATION_FAILED, reason="vault answers 503")])
    row = rows()["KEY"]
    day = clock.now().date() - timedelta(days=9)
    assert (row["In the period"], row["Age in days"], row["State"]) == ("0 completed, 2 failed", 90, "overdue")
    assert row["Last failure"] == f"{day} 12:00:00: vault answers 503"


def test_it_is_of_the_end_of_its_period_whatever_came_later() -> None:
    with days_ago(40):
        secret("KEY", schedule=MONTHLY)
        secret("GONE", rotated=False)
    with days_ago(20):
        secret_delete(actor=OPERATOR, secret_id="GONE")
    before = report("rotations", 30, until=15)
    write([event_of("KEY", Action.SECRET_VERSION_ACTIVATED, version=2)])
    rotation_configure(actor=ADMIN, secret_id="KEY", rotator="generated", schedule=None)
    secret_create(actor=OPERATOR, name="GONE", value="another long value")
    after = report("rotations", 30, until=15)
    assert after.digest == before.digest
    assert [(row[0], row[1].split(" 20")[0]) for row in before.rows] == [("KEY", "in time"), ("GONE", "deleted")]
    assert [row[:2] for row in report("rotations", 10).rows] == [("GONE", "no rotation"), ("KEY", "by hand only")]


def test_above_the_limit_of_events_an_age_is_the_least_that_it_can_be(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(report_rotations, "MOST_EVENTS", 4)
    monkeypatch.setattr(report_rotations, "READ_AT_ONCE", 2)
    with days_ago(20):
        secret("OLD", rotated=False)
        secret("NEW", rotated=False)
    with days_ago(10):
        write([event_of("NEW", Action.SECRET_VERSION_ACTIVATED, version=number) for number in range(9)])
    found = rows()
    day = clock.now().date() - timedelta(days=10)
    assert (found["OLD"]["Value since"], found["OLD"]["Age in days"]) == (f"before {day}", 10)
    assert found["NEW"]["Value since"].startswith(f"{day}T12:")


@pytest.mark.parametrize(
    ("text", "due"),
    [
        ("every 30 days, 03:00 (UTC)", "2026-12-01T03:00:00.000000Z"),
        ("every day, 23:30 (Europe/Berlin)", "2026-11-02T22:30:00.000000Z"),
        ("every 30 days, Friday 03:00 (Europe/Berlin)", "2026-11-27T02:00:00.000000Z"),
        ("every 30 days, Sunday 03:00 (Mars/Olympus)", None),
        ("when the moon is full", None),
    ],
)
def test_a_schedule_is_read_as_the_trail_has_it(text: str, due: str | None) -> None:
    assert schedule_next(text, clock.timestamp(datetime.fromisoformat("2026-11-01T12:00:00Z"))) == due
