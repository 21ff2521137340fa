"""Times and durations as users write and read them."""

from datetime import UTC, datetime, timedelta

import pytest
from hci import times
from hci.errors import UsageProblem


def test_times_of_the_api_are_read_and_nonsense_is_none() -> None:
    assert times.moment("2026-11-27T03:04:05.5Z") == datetime(2026, 11, 27, 3, 4, 5, 500_000, UTC)
    assert times.moment("2026-11-27T03:04:05+01:00") == datetime(2026, 11, 27, 2, 4, 5, 0, UTC)
    for nonsense in ("", "-", "x" * 100, "2026-13-01T00:00:00Z", None, 3):
        assert times.moment(nonsense) is None


def test_a_duration_before_now_or_a_time_is_meant() -> None:
    assert abs(times.now() - timedelta(minutes=10) - times.since("10m")) < timedelta(seconds=5)
    assert times.since("2026-11-27") == datetime(2026, 11, 27, tzinfo=UTC)
    for nonsense in ("10", "m", "-5m", "1w", "yesterday"):
        with pytest.raises(UsageProblem):
            times.since(nonsense)


@pytest.mark.parametrize(
    ("seconds", "took", "age"),
    [(8, "8s", "8s"), (200, "3m20s", "3m"), (3720, "1h02m", "1h"), (200_000, "55h33m", "2d")],
)
def test_durations_are_short(seconds: int, took: str, age: str) -> None:
    begin = datetime(2026, 1, 1, tzinfo=UTC)
    assert times.took(begin.isoformat(), (begin + timedelta(seconds=seconds)).isoformat()) == took
    assert times.age((times.now() - timedelta(seconds=seconds)).isoformat()) == age
    assert (times.took(None, None), times.age("x")) == ("", "")
