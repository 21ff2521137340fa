"""When rotations are due."""

from datetime import datetime

import pytest

from apps.secrets.rotation.schedules import schedule_validate
from controlplane.lib import clock


def due(last: str, **members: object) -> str:
    schedule = schedule_validate({"at": "03:00", "zone": "Europe/Berlin", **members})
    assert schedule is not None
    return clock.timestamp(schedule.after(datetime.fromisoformat(last)))[:16]


@pytest.mark.parametrize(
    ("last", "members", "expected"),
    [
        # The last Friday that is not later than 30 days: a Friday, four weeks later.
        ("2026-11-06T02:00:30Z", {"every_days": 30, "weekday": "friday"}, "2026-12-04T02:00"),
        ("2026-11-09T12:00:00Z", {"every_days": 30, "weekday": "friday"}, "2026-12-04T02:00"),
        # Less than a week: the next one.
        ("2026-11-06T02:00:30Z", {"every_days": 1, "weekday": "friday"}, "2026-11-13T02:00"),
        ("2026-11-05T12:00:00Z", {"every_days": 1, "weekday": "friday"}, "2026-11-06T02:00"),
        ("2026-11-05T12:00:00Z", {"every_days": 7, "weekday": "friday"}, "2026-11-06T02:00"),
        ("2026-11-05T12:00:00Z", {"every_days": 1}, "2026-11-06T02:00"),
        ("2026-11-05T12:00:00Z", {"every_days": 90, "zone": "America/New_York"}, "2027-02-03T08:00"),
        # It is already Friday in the zone.
        ("2026-11-05T23:30:00Z", {"every_days": 1, "at": "00:15"}, "2026-11-06T23:15"),
        # Clocks are put forward from 02:00 to 03:00, and back from 03:00 to 02:00.
        ("2027-03-27T12:00:00Z", {"every_days": 1, "at": "02:30"}, "2027-03-28T01:30"),
        ("2026-10-24T12:00:00Z", {"every_days": 1, "at": "02:30"}, "2026-10-25T00:30"),
    ],
)
def test_a_schedule_is_in_its_time_zone_and_no_value_gets_older_than_it_says(
    last: str, members: dict[str, object], expected: str
) -> None:
    assert due(last, **members) == expected


def test_a_schedule_in_words() -> None:
    schedule = schedule_validate({"every_days": 30, "at": "03:00", "weekday": "Friday", "zone": "Europe/Berlin"})
    assert schedule is not None
    assert schedule.as_text() == "every 30 days, Friday 03:00 (Europe/Berlin)"
    assert schedule_validate(schedule.as_json()) == schedule
    assert schedule_validate(None) is None
