"""Times as texts."""

from datetime import UTC, datetime, timedelta, timezone

import pytest

from controlplane.lib.clock import duration_text, parse_timestamp, timestamp


@pytest.mark.parametrize(
    ("moment", "text"),
    [
        (datetime(2026, 11, 21, 9, 30, tzinfo=UTC), "2026-11-21T09:30:00.000000Z"),
        (datetime(2026, 11, 21, 0, 30, 1, 7, tzinfo=timezone(timedelta(hours=1))), "2026-11-20T23:30:01.000007Z"),
        (datetime(763, 7, 19, tzinfo=UTC), "0763-07-19T00:00:00.000000Z"),
    ],
)
def test_a_time_is_written_in_utc_with_microseconds_so_that_texts_sort_by_time(moment: datetime, text: str) -> None:
    assert timestamp(moment) == text
    assert parse_timestamp(text) == moment


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0 s"), (0.6, "1 s"), (187, "3 min 7 s"), (3600, "1 h"), (90_061, "25 h 1 min"), (-3, "0 s")],
)
def test_a_duration_has_its_two_largest_units(seconds: float, text: str) -> None:
    assert duration_text(seconds) == text
