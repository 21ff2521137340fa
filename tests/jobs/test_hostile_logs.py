"""Logs that jobs print to do harm, or by mistake: little memory and time, and text in which others find their way."""

import time
import tracemalloc
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from django.core.files.storage import storages

from apps.jobs.log_index import LogIndex, indexes_dump
from apps.jobs.models import Job
from apps.jobs.selectors import attempt_log, log_part, part_lines, part_tail
from apps.jobs.selectors.log_lines import log_lines
from apps.jobs.selectors.log_search import log_errors, log_search, log_search_page

MB = 1_000_000
BEFORE, AFTER = b"before\n", b"\nneedle\nafter\n"
HOSTILE = {
    "30 MB in one line": b"x" * (30 * MB),
    "null characters": b"\0" * (5 * MB),
    "invalid UTF-8": b"\xff\xc3\xed\xa0\x80\xf8" * MB,
    "a million carriage returns": b"50 %\r" * MB,
    "escape characters": b"\x1b" * (5 * MB),
    "colours": b"\x1b[31m\x1b[42m" * (MB // 16),
    "titles of windows that do not end": b"\x1b]0;" * MB,
    "titles of steps that are none": "── step 1/2: ".encode() * (MB // 4),
}


@contextmanager
def bounded(memory: int) -> Iterator[None]:
    """Fails if the block needs more memory, in bytes, or more than 20 s, of which tracemalloc itself takes most."""
    began = time.process_time()
    tracemalloc.start()
    try:
        yield
        assert tracemalloc.get_traced_memory()[1] < memory
    finally:
        tracemalloc.stop()
    assert time.process_time() - began < 20


def sizes() -> Iterator[Any]:
    """Each line in full, which is by day a tenth of it, but for the longest, which alone is longer than its bound."""
    for name, line in HOSTILE.items():
        if len(line) > 16 * MB:
            yield pytest.param(line, id=name)
        else:
            yield pytest.param(line[: len(line) // 10], id=f"a tenth of {name}")
            yield pytest.param(line, id=name, marks=pytest.mark.nightly)


@pytest.fixture(params=sizes())
def hostile(request: Any) -> Any:
    """An archived log with a hostile line among others. To index it costs little."""
    data = BEFORE + request.param + AFTER
    index = LogIndex()
    with bounded(3 * MB):
        for offset in range(0, len(data), 100_000):
            index.add(data[offset : offset + 100_000], [(0, 1_700_000_000_000 + offset)])
    storage: Any = storages["logs"]
    # The index is cached by the name.
    name = f"hostile-{request.param_index}.log"
    storage.save_stream(name, [data])
    storage.save_stream(f"{name}.index", [indexes_dump([index])])
    yield Job("01kb2m7v3c0000000000000000", log_stored=name, attempt=1, status="completed")
    storage.delete(name)


def test_a_hostile_line_costs_little_and_hides_no_other(hostile: Job) -> None:
    with bounded(16 * MB):
        reads(hostile)


def reads(hostile: Job) -> None:
    log = attempt_log(hostile, 1)
    assert log.index.total == 4
    lines = log_lines(log, first=1, count=9).lines
    assert [line.text for line in lines if line.number != 2] == [b"before", b"needle", b"after"]
    assert len(lines[1].text) <= 16 * 1024
    assert lines[1].cut == (b"\r" not in lines[1].text)
    assert log_search(log, question="needle", regex=False, case=False).lines == [3]
    asked: dict[str, Any] = {"case": True, "first": 1, "last": 4, "limit": 9, "context": 3}
    for regex in (False, True):
        page = log_search_page(log, question="ne+dle" if regex else "needle", regex=regex, **asked)
        (hit,) = page.hits
        assert (hit.number, hit.after, hit.before[0], len(hit.before[1]) <= 16 * 1024) == (3, ["after"], "before", True)
    assert log_errors(log).lines == []
    part = log_part(job=hostile, attempt=1)
    first, more = part_lines(part, offset=0, limit=1000)
    assert (first.data, more) == (BEFORE, True)
    assert part_tail(part, lines=2, limit=MB).data == b"needle\nafter\n"
    assert len(part.stamped(part.read(7, 1000)).data) < 2000
