"""When cron expressions are due, across daylight saving, compared with a plain model that looks at every minute."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from controlplane.lib import clock
from controlplane.lib.cron import Cron, cron_validate
from controlplane.lib.errors import InvalidInput

MINUTE = timedelta(minutes=1)
# Half an hour and a whole day that is left out, clocks that change at midnight, and zones without daylight saving.
ZONES = (
    "Africa/Casablanca",
    "America/New_York",
    "America/Santiago",
    "Asia/Kathmandu",
    "Australia/Lord_Howe",
    "Europe/Berlin",
    "Pacific/Apia",
    "UTC",
)


def times(text: str, zone: str, after: str, count: int = 3, seed: str = "web.nightly") -> list[str]:
    found = cron_validate(text, zone=zone, seed=seed).upcoming(datetime.fromisoformat(after), count)
    return [clock.timestamp(time)[:16] for time in found]


@pytest.mark.parametrize(
    ("text", "after", "expected"),
    [
        # Clocks are put forward on 28 March 2027 from 02:00 to 03:00: the time that does not exist is then, once.
        ("30 2 * * *", "2027-03-27T12:00Z", ["2027-03-28T01:00", "2027-03-29T00:30", "2027-03-30T00:30"]),
        ("*/10 2 * * *", "2027-03-27T12:00Z", ["2027-03-28T01:00", "2027-03-29T00:00", "2027-03-29T00:10"]),
        ("0,30 2,3 * * *", "2027-03-27T12:00Z", ["2027-03-28T01:00", "2027-03-28T01:30", "2027-03-29T00:00"]),
        # They are put back on 31 October 2027 from 03:00 to 02:00: the time that comes twice is the first one.
        ("30 2 * * *", "2027-10-30T12:00Z", ["2027-10-31T00:30", "2027-11-01T01:30", "2027-11-02T01:30"]),
        ("30 2 * * *", "2027-10-31T00:30Z", ["2027-11-01T01:30", "2027-11-02T01:30", "2027-11-03T01:30"]),
        # A schedule for every hour follows the time that passes: no hour without a run, and none with two.
        ("30 * * * *", "2027-10-30T23:45Z", ["2027-10-31T00:30", "2027-10-31T01:30", "2027-10-31T02:30"]),
        ("30 * * * *", "2027-03-28T00:15Z", ["2027-03-28T00:30", "2027-03-28T01:30", "2027-03-28T02:30"]),
    ],
)
def test_across_daylight_saving_a_schedule_is_due_exactly_once(text: str, after: str, expected: list[str]) -> None:
    assert times(text, "Europe/Berlin", after) == expected


def test_a_schedule_is_in_its_time_zone() -> None:
    assert times("0 9 * * MON", "Asia/Tokyo", "2026-11-28T00:00Z", 2) == ["2026-11-30T00:00", "2026-12-07T00:00"]


def test_h_is_another_time_for_each_schedule_and_the_same_for_one() -> None:
    def minutes(text: str, seed: str) -> list[str]:
        return [time[14:] for time in times(text, "UTC", "2026-11-28T00:00Z", 4, seed=seed)]

    assert minutes("H * * * *", "web.a") == minutes("H * * * *", "web.a")
    assert len({minutes("H * * * *", f"web.{number}")[0] for number in range(40)}) > 20
    quarters = [int(minute) for minute in minutes("H/15 * * * *", "web.a")]
    assert [later - sooner for sooner, later in zip(sorted(quarters), sorted(quarters)[1:], strict=False)] == [15] * 3
    for number in range(20):
        (time,) = times("H(10-19) H(2-4) H * *", "UTC", "2026-11-28T00:00Z", 1, seed=f"web.{number}")
        assert 10 <= int(time[14:]) <= 19
        assert 2 <= int(time[11:13]) <= 4
        assert int(time[8:10]) <= 28


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "must be a cron expression"),
        ("* * * *", "must have five fields"),
        ("0 * * * * *", "must have five fields"),
        ("61 * * * *", "cannot read the minute"),
        ("0 24 * * *", "cannot read the hour"),
        ("0 0 * * FRIDAY", "cannot read the day of week"),
        ("0 0 30 2 *", "must be a time that comes: no month of these has such a day"),
        ("0 0 31 4,6 *", "must be a time that comes: no month of these has such a day"),
        ("0 0 32 2 *", "cannot read the day of month"),
        ("0 0 */31 * 1#2", "must be a time that comes"),
        ("H(0-60) * * * *", "must have H in the minute from 0 to 59"),
        ("H(9-3) * * * *", "must have H in the minute from 0 to 59"),
        ("H/61 * * * *", "must have a step from 1 to 60 after H/ in the minute"),
        ("H(1-2)x * * * *", "must be a cron expression|cannot read the minute"),
        ("０ 0 * * *", "must be a cron expression"),
        ("0 0 * * *" + " " * 100, "must be a cron expression of at most 100 characters"),
    ],
)
def test_what_is_no_cron_expression_is_refused_with_its_field(text: str, message: str) -> None:
    with pytest.raises(InvalidInput, match=message) as error:
        cron_validate(text, zone="UTC", seed="web.nightly")
    assert [entry["field"] for entry in error.value.errors] == ["cron"]


@pytest.mark.parametrize("zone", ["", "Mars/Olympus", "../../etc/passwd", "Europe", None, 7, "Ü"])
def test_what_is_no_time_zone_is_refused(zone: object) -> None:
    with pytest.raises(InvalidInput, match="zone: must be a time zone"):
        cron_validate("0 0 * * *", zone=zone, seed="web.nightly")


def test_a_wrong_expression_and_a_wrong_zone_are_named_together() -> None:
    with pytest.raises(InvalidInput) as error:
        cron_validate("61 * * * *", zone="Mars", seed="web.nightly")
    assert [entry["field"] for entry in error.value.errors] == ["cron", "zone"]


@dataclass(frozen=True)
class Field:
    text: str
    values: frozenset[int]


def fields(low: int, high: int, *, steps: bool = True) -> st.SearchStrategy[Field]:
    every = frozenset(range(low, high + 1))
    numbers = st.sets(st.integers(low, high), min_size=1, max_size=3)
    kinds = [
        st.just(Field("*", every)),
        numbers.map(lambda found: Field(",".join(map(str, sorted(found))), frozenset(found))),
    ]
    if steps:
        kinds.append(st.integers(2, high).map(lambda step: Field(f"*/{step}", frozenset(range(low, high + 1, step)))))
    return st.one_of(kinds)


@cache
def changes(zone: str) -> list[datetime]:
    """When clocks of the zone change, to the day, in some years."""
    at = ZoneInfo(zone)
    days = [datetime(2011, 6, 1, tzinfo=UTC) + timedelta(days=day) for day in range(6 * 365)]
    return [
        day for day in days if day.astimezone(at).utcoffset() != (day + timedelta(days=1)).astimezone(at).utcoffset()
    ]


def minutes_between(begin: datetime, end: datetime) -> Iterator[datetime]:
    while begin < end:
        yield begin
        begin += MINUTE


def modelled(found: tuple[Field, Field, Field], zone: str, begin: datetime, end: datetime) -> set[datetime]:
    """The times in (begin, end) at which it is due, by a look at every minute of the clock and of the time."""
    minute, hour, weekday = found

    def fits(local: datetime) -> bool:
        day = (local.weekday() + 1) % 7
        return local.minute in minute.values and local.hour in hour.values and day in weekday.values

    at = ZoneInfo(zone)
    passed = [(one, one.astimezone(at).replace(tzinfo=None, fold=0)) for one in minutes_between(begin, end)]
    if len(hour.values) == 24:
        return {one for one, local in passed[1:] if fits(local)}
    due = set()
    first: dict[datetime, datetime] = {}
    for one, local in passed:
        first.setdefault(local, one)
    for local in minutes_between(passed[0][1], max(first)):
        if fits(local):
            # A time that no clock shows is due when clocks show the next one.
            shown = local
            while shown not in first:
                shown += MINUTE
            due.add(first[shown])
    return due - {begin}


@pytest.mark.parametrize("examples", [12, pytest.param(1_000, marks=pytest.mark.nightly)])
def test_the_times_are_those_of_a_plain_model_across_zones_and_daylight_saving(examples: int) -> None:
    @settings(max_examples=examples, deadline=None)
    @given(data=st.data(), zone=st.sampled_from(ZONES))
    def compare(data: st.DataObject, zone: str) -> None:
        found = (data.draw(fields(0, 59)), data.draw(fields(0, 23)), data.draw(fields(0, 6, steps=False)))
        begin = data.draw(st.sampled_from(changes(zone) or [datetime(2026, 1, 1, tzinfo=UTC)]))
        # The model knows no clock before its window, so that opens some hours before the change.
        begin += timedelta(minutes=data.draw(st.integers(-12 * 60, 0)))
        end = begin + timedelta(days=2)
        minute, hour, weekday = found
        cron = cron_validate(f"{minute.text} {hour.text} * * {weekday.text}", zone=zone, seed="web.nightly")
        first, last = begin + timedelta(hours=2), end - timedelta(hours=2)
        expected = sorted(one for one in modelled(found, zone, begin, end) if first < one < last)
        assert list(between(cron, first, last)) == expected

    compare()


def between(cron: Cron, begin: datetime, end: datetime) -> Iterator[datetime]:
    following = cron.after(begin)
    while following is not None and following < end:
        yield following
        following = cron.after(following)
