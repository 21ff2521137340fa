"""Where the lines of a log are."""

import json
import random
import re
from collections.abc import Iterator
from unittest.mock import patch

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from apps.jobs.log_index import BLOCK_BYTES, MAX_GROUPS, LogIndex, StepEnd, indexes_dump, indexes_load
from controlplane.lib.line_times import LineTimes
from controlplane.lib.sgr import PLAIN, Style, style_after

PIECES = (
    *(b"\n", b"a", b"bc", b"\x1b[31m", b"\x1b[0m", b"\x1b[38;2;1;2;3m", b"\x1b", b"[", b"m", b"1;4", b"\x1b[2K"),
    *("── step 1/2: lint\n".encode(), "── step 2/2: test".encode(), "x── step 2/2: no\n".encode()),
    *("── step 1/2: lint · exit code 3 after 1.5 s\n".encode(), b"::group::A", b"::endgroup::", b"##[group]B\n"),
)
LOGS = st.lists(st.sampled_from(PIECES), max_size=60).map(b"".join)
CUTS = st.lists(st.integers(1, 9), min_size=1, max_size=20)


def chunks(data: bytes, cuts: list[int]) -> Iterator[bytes]:
    offset = number = 0
    while offset < len(data):
        size = cuts[number % len(cuts)]
        yield data[offset : offset + size]
        offset += size
        number += 1


def indexed(data: bytes, cuts: list[int]) -> LogIndex:
    index = LogIndex()
    with patch("apps.jobs.log_index.BLOCK_BYTES", 16):
        for number, chunk in enumerate(chunks(data, cuts)):
            index.add(chunk, [(0, 1000 * (100 + number))])
    return index


@given(LOGS, CUTS)
@settings(deadline=None)
def test_cutting_a_log_anywhere_gives_the_same_lines_colours_steps_and_groups(data: bytes, cuts: list[int]) -> None:
    index = indexed(data, cuts)
    assert (index.size, index.lines, index.style) == (len(data), data.count(b"\n"), style_after(data, PLAIN))
    assert index.total == len(re.findall(rb"[^\n]*\n|[^\n]+", data))
    titles: dict[int, int] = {}
    ends: dict[int, StepEnd] = {}
    groups = []
    for number, line in enumerate(data.split(b"\n")[:-1], 1):
        if match := re.match(r"── step (\d)/".encode(), line):
            first = titles.setdefault(int(match[1]), number)
            if first != number and line.endswith(" · exit code 3 after 1.5 s".encode()):
                ends[int(match[1])] = StepEnd(number, "exit code 3", 1.5)
        if line.startswith((b"::group::", b"##[group]", b"::endgroup::")):
            groups.append(-number if line.startswith(b"::end") else number)
    assert (index.steps, index.ends, index.groups) == (titles, ends, groups)


@given(LOGS, CUTS)
@settings(deadline=None)
def test_each_mark_says_what_comes_before_it(data: bytes, cuts: list[int]) -> None:
    index = indexed(data, cuts)
    for mark in index.marks:
        assert mark.lines == data[: mark.offset].count(b"\n")
        assert style_after(data[mark.offset :], Style.parse(mark.style)) == style_after(data, PLAIN)
    starts = [0, *(match.end() for match in re.finditer(b"\n", data))]
    for number, start in enumerate(starts, 1):
        mark = index.mark_of_line(number)
        assert mark.offset <= start
        # Never so far away that a reader of a block would not find the line.
        later = [other for other in index.marks if other.offset > mark.offset]
        assert not later or later[0].lines >= number - 1


@given(LOGS, CUTS)
@settings(deadline=None)
def test_what_is_stored_is_read_again(data: bytes, cuts: list[int]) -> None:
    index = indexed(data, cuts)
    (again,) = indexes_load(indexes_dump([index]))
    assert (again.marks, again.size, again.total, again.steps) == (index.marks, index.size, index.total, index.steps)
    assert (again.ends, again.groups) == (index.ends, index.groups)


def test_an_index_that_an_earlier_version_stored_is_read() -> None:
    index = indexed("── step 1/1: lint\n::group::A\n".encode(), [7])
    value = index.as_json()
    del value["ends"], value["groups"]
    again = LogIndex.from_json(value)
    assert (again.steps, again.ends, again.groups) == ({1: 1}, {}, [])


def test_a_log_of_nothing_but_groups_has_an_index_of_bounded_size() -> None:
    index = LogIndex()
    index.add(b"::group::\n" * 100_000 + b"::group::" + b"x" * 2000 + b"\n")
    assert len(index.groups) == MAX_GROUPS
    assert len(indexes_dump([index])) < 10_000


@given(LOGS, CUTS, CUTS)
@settings(deadline=None)
def test_a_line_has_the_time_of_the_first_byte_of_it_however_the_log_is_cut(
    data: bytes, cuts: list[int], pauses: list[int]
) -> None:
    index = LogIndex()
    expected, at, place, number = {}, 1_000_000, 0, 1
    for count, chunk in enumerate(chunks(data, cuts)):
        # Each byte but some is printed 10 ms after the one before.
        times = [(offset, at + 10 * offset) for offset in range(len(chunk)) if not offset or offset % pauses[0] == 0]
        index.add(chunk, times)
        for offset in range(len(chunk)):
            if place == 0 or data[place - 1 : place] == b"\n":
                expected[number] = max(moment for seen, moment in times if seen <= offset)
            number += chunk[offset : offset + 1] == b"\n"
            place += 1
        at += 10 * len(chunk) + pauses[count % len(pauses)]
    assert {line: index.times.at(line) for line in expected} == expected
    (again,) = indexes_load(indexes_dump([index]))
    assert {line: again.times.at(line) for line in expected} == expected
    assert list(expected.values()) == sorted(expected.values())


def test_a_clock_that_goes_back_does_not_bring_lines_out_of_order() -> None:
    index = LogIndex()
    for at in (5_000, 3_000, 5_100):
        index.add(b"line\n", [(0, at)])
    assert [index.times.at(number) for number in (1, 2, 3)] == [5_000, 5_000, 5_100]


def test_lines_before_the_first_known_time_have_none() -> None:
    index = LogIndex()
    index.add(b"one\n")
    index.add(b"two\n", [(0, 7_000)])
    index.add(b"three\n")
    assert [index.times.at(number) for number in (1, 2, 3)] == [0, 7_000, 7_000]


def test_an_index_of_an_earlier_version_is_read_with_its_seconds() -> None:
    stored = {"size": 10, "lines": 3, "ends_open": False, "style": "", "styles": {}, "steps": {"1": 2}}
    marks = {"offsets": [0, 4, 4], "line_feeds": [0, 1, 1], "times": [100, 0, 7]}
    (index,) = indexes_load(json.dumps([stored | marks]).encode())
    assert [index.times.at(number) for number in (1, 2, 3)] == [100_000, 100_000, 107_000]


def test_an_earlier_version_reads_the_seconds_of_the_marks() -> None:
    index = LogIndex()
    for second in range(3):
        index.add(b"x" * (BLOCK_BYTES - 1) + b"\n", [(0, 100_000 + 1000 * second)])
    (stored,) = json.loads(indexes_dump([index]))
    assert stored["times"] == [100, 1, 1, 0]
    assert len(stored["offsets"]) == len(stored["line_feeds"]) == 4


def log_of(seconds: int, writes: int, line: int, lines: int = 1) -> LogIndex:
    """An index of a log that came in chunks of some lines, irregularly."""
    index, chance, at = LogIndex(), random.Random(1), 1_700_000_000_000
    for _ in range(writes):
        at += int(1000 * seconds / writes * chance.uniform(0.2, 1.8))
        index.add(b"".join(b"x" * chance.randint(line // 2, line * 3 // 2) + b"\n" for _ in range(lines)), [(0, at)])
    return index


@pytest.mark.parametrize(
    ("seconds", "writes", "line", "lines"),
    [
        pytest.param(43, 2_000, 40, 50, id="4 MB in 43 s"),
        pytest.param(7_200, 7_200, 30, 1, id="a short line a second for two hours"),
        pytest.param(86_400, 8_640, 70, 1, id="a line each ten seconds for a day"),
        pytest.param(100, 10_000, 12, 1, id="a very short line each hundredth of a second"),
    ],
)
def test_times_and_all_else_in_an_index_take_at_most_two_percent_of_the_log(
    seconds: int, writes: int, line: int, lines: int
) -> None:
    index = log_of(seconds, writes, line, lines)
    stored = indexes_dump([index])
    assert len(stored) <= 0.02 * index.size + 1024
    (again,) = indexes_load(stored)
    differences = [index.times.at(number) - again.times.at(number) for number in range(1, index.total + 1)]
    # So many lines a second need less exact times; by no more than a tenth of how long the log took.
    assert min(differences) >= 0
    assert max(differences) < 20_000


@pytest.mark.slow
def test_the_times_of_a_day_of_output_take_little_memory() -> None:
    times = LineTimes()
    for number in range(1, 300_001):
        times.add(number, 1_700_000_000_000 + 288 * number)
    assert len(times._times) <= 50_000
    wanted = [1_700_000_000_000 + 288 * number - times.at(number) for number in range(1, 300_001)]
    assert min(wanted) >= 0
    assert max(wanted) < 3_000
