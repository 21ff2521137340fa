"""Windows of time on the clocks of a zone: once, or each week, also when clocks are put forward and back."""

from datetime import UTC, datetime
from typing import Any

import pytest

from controlplane.lib.errors import InvalidInput
from controlplane.lib.freezes import Freeze, freeze_validate, frozen_until

WEEKEND = Freeze("FRI 16:00", "MON 08:00", "Europe/Berlin")
HOLIDAYS = Freeze("2026-12-20T18:00", "2027-01-04T08:00", "Europe/Berlin", "holidays")


def until(moment: str, *freezes: Freeze) -> str | None:
    found = frozen_until(freezes, datetime.fromisoformat(moment).astimezone(UTC))
    return found[0].isoformat() if found else None


@pytest.mark.parametrize(
    ("moment", "end"),
    [
        ("2026-12-11T15:59:59+01:00", None),
        ("2026-12-11T16:00+01:00", "2026-12-14T07:00:00+00:00"),
        ("2026-12-14T07:59:59+01:00", "2026-12-14T07:00:00+00:00"),
        ("2026-12-14T08:00+01:00", None),
        # Clocks are put back on Sunday: the freeze is an hour longer.
        ("2026-10-23T16:00+02:00", "2026-10-26T07:00:00+00:00"),
        # And forward: an hour shorter.
        ("2026-03-27T16:00+01:00", "2026-03-30T06:00:00+00:00"),
    ],
)
def test_a_weekly_freeze_follows_the_clocks(moment: str, end: str | None) -> None:
    assert until(moment, WEEKEND) == end


def test_a_freeze_at_a_time_that_comes_twice_begins_the_first_and_ends_the_second_time() -> None:
    night = Freeze("2026-10-25T02:30", "2026-10-25T02:45", "Europe/Berlin")
    assert until("2026-10-25T00:29:59Z", night) is None
    assert until("2026-10-25T00:30Z", night) == until("2026-10-25T01:44:59Z", night) == "2026-10-25T01:45:00+00:00"
    assert until("2026-10-25T01:45Z", night) is None


def test_a_freeze_at_a_time_that_does_not_exist_begins_when_clocks_are_put_forward() -> None:
    night = Freeze("2026-03-29T02:30", "2026-03-29T04:00", "Europe/Berlin")
    assert until("2026-03-29T00:59:59Z", night) is None
    assert until("2026-03-29T01:00Z", night) == "2026-03-29T02:00:00+00:00"


def test_freezes_that_meet_count_as_one() -> None:
    assert until("2026-12-18T17:00+01:00", WEEKEND, HOLIDAYS) == "2027-01-04T07:00:00+00:00"
    # And go on as long as one prolongs the other; the year ends at some time.
    always = (Freeze("MON 00:00", "SUN 00:00", "UTC"), Freeze("SUN 00:00", "MON 00:00", "UTC"))
    assert until("2026-12-18T17:00Z", *always)


@pytest.mark.parametrize(
    ("members", "field"),
    [
        ({"from": "FRI 16:00", "until": "FRI 16:00"}, "f.until"),
        ({"from": "FRI 16:00", "until": "2026-01-01T00:00"}, "f.until"),
        ({"from": "2026-01-02T00:00", "until": "2026-01-01T00:00"}, "f.until"),
        ({"from": "2026-02-30T00:00", "until": "2026-03-01T00:00"}, "f.from"),
        ({"from": "FRY 16:00", "until": "MON 08:00"}, "f.from"),
        ({"from": "FRI 24:00", "until": "MON 08:00"}, "f.from"),
        ({"from": "9999-12-31T00:00", "until": "9999-12-31T01:00"}, "f.from"),
        ({"from": 5, "until": None}, "f.from"),
        ({"from": "FRI 16:00", "until": "MON 08:00", "zone": "../etc"}, "f.zone"),
        ({"from": "FRI 16:00", "until": "MON 08:00", "reason": "a\nb"}, "f.reason"),
    ],
)
def test_what_is_no_window_is_named(members: dict[str, Any], field: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        freeze_validate(members, field="f")
    assert refused.value.errors[0]["field"] == field


def test_a_window_is_stored_as_it_was_given() -> None:
    given = {"from": "fri 16:00", "until": "MON 08:00", "zone": "Europe/Berlin", "reason": None}
    freeze = freeze_validate(given, field="f")
    assert freeze == WEEKEND
    assert Freeze.from_dict(freeze.as_dict()) == freeze
