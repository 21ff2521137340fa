"""Reading the log of an attempt by its lines, and searching it."""

import re
from collections.abc import Callable, Iterator
from typing import Any
from unittest.mock import patch

import pytest
from django.core.files.storage import storages
from hypothesis import given, settings
from hypothesis import strategies as st

from apps.jobs.log_index import LogIndex, indexes_dump
from apps.jobs.models import Job, LogChunk
from apps.jobs.selectors import attempt_log, job_get
from apps.jobs.selectors.log_lines import LINE_BYTES as LONGEST
from apps.jobs.selectors.log_lines import Line, log_lines
from apps.jobs.selectors.log_search import MAX_HITS, log_errors, log_first_error, log_search
from apps.jobs.services import log_archive
from controlplane.lib.errors import NotFound
from controlplane.lib.sgr import PLAIN, style_after
from tests.examples import examples
from tests.signing import AgentClient

# So small that short logs have many blocks and long lines.
LINE_BYTES = 12
PIECES = (b"\n", b"a", b"bc", b"\x1b[31m", b"\x1b[0m", b"\x1b[38;2;1;2;3m", b"x" * 30, b"1;4")


@pytest.fixture
def job_id(make_job: Callable[..., str]) -> str:
    return make_job()


def archived(*attempts: bytes, cut: int = 7) -> Job:
    """A job with this archived log."""
    indexes = []
    for data in attempts:
        index = LogIndex()
        for offset in range(0, len(data), cut):
            index.add(data[offset : offset + cut], [(0, 1000 + offset * 10)])
        indexes.append(index)
    storage: Any = storages["logs"]
    name = f"{abs(hash(attempts))}-{cut}.log"
    storage.save_stream(name, [b"".join(attempts)])
    storage.save_stream(f"{name}.index", [indexes_dump(indexes)])
    return Job("01kb2m7v3c0000000000000000", log_stored=name, attempt=len(attempts), status="completed")


def pages(job: Job, first: int) -> Iterator[Line]:
    log = attempt_log(job, 1)
    while lines := log_lines(log, first=first, count=5).lines:
        yield from lines
        first += len(lines)


@given(data=st.lists(st.sampled_from(PIECES), max_size=60).map(b"".join), cut=st.integers(1, 9))
@settings(deadline=None, max_examples=examples(40))
def test_from_any_line_on_the_lines_and_their_styles_are_the_same(data: bytes, cut: int) -> None:
    expected = re.findall(rb"[^\n]*\n|[^\n]+", data)
    with (
        patch("apps.jobs.log_index.BLOCK_BYTES", 16),
        patch("apps.jobs.selectors.log_lines.LINE_BYTES", LINE_BYTES),
        patch("apps.jobs.selectors.log_lines._BLOCK_BYTES", 48),
    ):
        job = archived(data, cut=cut)
        for first in range(1, len(expected) + 2):
            lines = list(pages(job, first))
            assert [line.number for line in lines] == list(range(first, len(expected) + 1))
            for line in lines:
                text = expected[line.number - 1].rstrip(b"\n")
                assert (line.text, line.cut) == (text[:LINE_BYTES], len(text) > LINE_BYTES)
                assert line.style == style_after(b"".join(expected[: line.number - 1]), PLAIN)


def test_an_archived_log_is_read_by_attempt() -> None:
    job = archived(b"one\ntwo\n", b"", b"three\nfo", cut=3)
    logs = [attempt_log(job, number) for number in (1, 2, 3)]
    texts = [[line.text for line in log_lines(log, first=1, count=9).lines] for log in logs]
    assert texts == [[b"one", b"two"], [], [b"three", b"fo"]]
    with pytest.raises(NotFound):
        attempt_log(job, 4)


def test_the_lines_of_chunks_are_those_of_the_archive(job_id: str, agent: AgentClient) -> None:
    assignment = agent.take()
    for sequence, data in enumerate((b"one\nt", b"wo\n", b"\x1b[31mred\n", b"end")):
        agent.log(assignment, sequence, data)
    running = log_lines(attempt_log(job_get(job_id), 1), first=1, count=9)
    assert not running.complete
    agent.finish(assignment, log_chunks=4)
    ended = log_lines(attempt_log(job_get(job_id), 1), first=1, count=9)
    log_archive(job=job_get(job_id))
    stored = log_lines(attempt_log(job_get(job_id), 1), first=1, count=9)
    assert [line.text for line in stored.lines] == [b"one", b"two", b"\x1b[31mred", b"end"]
    assert stored.lines == ended.lines == running.lines
    assert stored.complete
    assert ended.complete
    assert min(line.at for line in stored.lines) > 1_700_000_000


def test_a_log_that_was_archived_without_an_index_is_read_as_one(job_id: str, agent: AgentClient) -> None:
    assignment = agent.take()
    agent.log(assignment, 0, b"one\ntwo\n")
    agent.finish(assignment, log_chunks=1)
    log_archive(job=job_get(job_id))
    job = job_get(job_id)
    storages["logs"].delete(f"{job.log_stored}.index")
    assert [line.text for line in log_lines(attempt_log(job, 1), first=1, count=9).lines] == [b"one", b"two"]


def test_chunks_of_an_earlier_version_have_no_times(job_id: str, agent: AgentClient) -> None:
    assignment = agent.take()
    agent.log(assignment, 0, b"one\n")
    LogChunk(stream=f"{job_id}#1", sequence=0).update(actions=[LogChunk.at.remove()])
    assert [line.at for line in log_lines(attempt_log(job_get(job_id), 1), first=1, count=9).lines] == [0]


def test_a_line_of_many_megabytes_costs_little() -> None:
    data = b"first\n" + b"x" * 3_000_000 + b"\nlast\n"
    log = attempt_log(archived(data, cut=100_000), 1)
    lines = log_lines(log, first=1, count=9).lines
    assert [(line.number, len(line.text), line.cut) for line in lines] == [
        (1, 5, False),
        (2, 16_384, True),
        (3, 4, False),
    ]


@pytest.mark.parametrize("repeats", [2_000, 20_000])
@pytest.mark.parametrize("ending", [b"\n", b"\r\n", b""])
def test_of_a_long_progress_bar_its_last_state_is_read(repeats: int, ending: bytes) -> None:
    bar = b"".join(b"\r\x1b[32m%6d of %d" % (number, repeats) for number in range(1, repeats + 1))
    log = attempt_log(archived(b"before\n" + bar + ending + (b"after\n" if ending else b""), cut=100_000), 1)
    _, line, *after = log_lines(log, first=1, count=10).lines
    last = b"%6d of %d" % (repeats, repeats)
    assert line.text.rstrip(b"\r").endswith(last)
    assert (line.cut, len(line.text) <= LONGEST) == (False, True)
    assert [one.text for one in after] == ([b"after"] if ending else [])


def test_a_long_line_that_ends_with_a_carriage_return_is_read_from_its_beginning() -> None:
    (line,) = log_lines(attempt_log(archived(b"x" * 20_000 + b"\r\n", cut=100_000), 1), first=1, count=1).lines
    assert (line.text, line.cut) == (b"x" * LONGEST, True)


def test_a_search_finds_what_people_see_in_every_line() -> None:
    data = b"a\x1b[31mb\x1b[0mc\nABC\nabd\n" + b"y" * 20_000 + b"abc\n" + b"tail abc"
    log = attempt_log(archived(data), 1)
    assert log_search(log, question="abc", regex=False, case=False).lines == [1, 2, 5]
    assert log_search(log, question="abc", regex=False, case=True).lines == [1, 5]
    assert log_search(log, question="^ab[cd]$", regex=True, case=True).lines == [1, 3]


def test_a_search_lists_the_first_hits_and_counts_all() -> None:
    log = attempt_log(archived(b"hit\n" * (MAX_HITS + 5), cut=10_000), 1)
    hits = log_search(log, question="hit", regex=False, case=True)
    assert (len(hits.lines), hits.total, hits.complete) == (MAX_HITS, MAX_HITS + 5, True)


@given(
    lines=st.lists(st.sampled_from([b"needle", b"hay", b"", b"need", b"x needle y"]), max_size=40),
    block=st.integers(1, 9),
)
@settings(deadline=None, max_examples=examples(40))
def test_hits_are_the_same_however_the_log_is_read(lines: list[bytes], block: int) -> None:
    log = attempt_log(archived(b"\n".join(lines)), 1)
    with patch("apps.jobs.selectors.log_search._BLOCK_BYTES", block):
        hits = log_search(log, question="needle", regex=False, case=True)
    assert hits.lines == [number for number, line in enumerate(lines, 1) if b"needle" in line]


@pytest.mark.parametrize(
    "text",
    [
        "main.c:3:5: error: expected ;",
        "error[E0308]: mismatched types",
        "ERROR: no",
        "fatal: not a repository",
        "E   assert 1 == 2",
        "FAILED tests/test_a.py::test_b",
        "not ok 3 - adds",
        "--- FAIL: TestX (0.00s)",
        "Traceback (most recent call last):",
        "ValueError: no",
        "::error file=a::no",
        "sh: 1: nope: command not found",
        "Foo.cs(3,4): error CS1002: ; expected",
        '<failure message="x">',
    ],
)
def test_what_tools_print_when_they_fail_is_an_error(text: str) -> None:
    log = attempt_log(archived(f"fine\n{text}\n0 errors, no failure\n".encode()), 1)
    assert log_errors(log).lines == [2]
    assert [log_first_error(log, first=first) for first in (1, 2, 3)] == [2, 2, None]
