"""When the bytes of log chunks were printed: what the agent tells the control plane, and how little that is."""

from __future__ import annotations

import os
import random
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from agent import client as client_module
from agent.client import Client, Unreachable
from agent.log_stream import CHUNK_BYTES, LogStream
from agent.log_times import LogTimes
from agent.protocol import Assignment
from agent.spool import Spool

JOB = Assignment("job1", 1)


@pytest.fixture
def now(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    moment = [1000.0]
    monkeypatch.setattr(time, "monotonic", lambda: moment[0])
    return moment


def test_the_ages_are_those_at_the_moment_of_sending(now: list[float]) -> None:
    times = LogTimes()
    times.note(0, 10)
    now[0] += 2
    times.note(0, 5)
    now[0] += 600
    assert times.header(0) == "602000 10:2000"
    now[0] += 1
    assert times.header(0) == "603000 10:2000"


def test_each_try_to_send_a_chunk_has_its_own_ages(monkeypatch: pytest.MonkeyPatch) -> None:
    sent: list[Any] = []

    def send(*_: Any, headers: Any, **__: Any) -> str:
        sent.append(headers)
        if len(sent) < 3:
            raise Unreachable("no answer", retry_after=0)
        return "done"

    monkeypatch.setattr(client_module.Backoff, "pause", lambda *_: 0)
    client = Client("http://127.0.0.1:1")
    monkeypatch.setattr(client, "send", send)
    ages = iter(("0", "500", "1500"))
    stop = threading.Event()
    client.insist("POST", "/", understand=str, headers={"A": "b"}, fresh=lambda: {"Log-Times": next(ages)}, stop=stop)
    assert sent == [{"A": "b", "Log-Times": age} for age in ("0", "500", "1500")]


def test_lines_that_are_printed_in_one_hundredth_of_a_second_have_one_time(now: list[float]) -> None:
    times = LogTimes()
    for _ in range(30):
        times.note(0, 10)
        now[0] += 0.004
    # Each third line is at least 10 ms after the last place.
    assert str(times.header(0)).split()[1:] == ["30:12"] * 9


@pytest.mark.parametrize(
    ("size", "pause", "seconds"), [(4_000_000, 0.02, 43), (60_000, 1.0, 1500), (2_000_000, 0.0101, 400)]
)
def test_the_times_take_at_most_two_percent_of_the_log(
    now: list[float], tmp_path: Path, size: int, pause: float, seconds: int
) -> None:
    chance = random.Random(1)
    spooled = Spool(tmp_path / "spool", limit=10**9).open(JOB)
    stream = LogStream(spooled)
    sequence, header_bytes = 0, 0
    writes = int(seconds / pause)
    for _ in range(writes):
        stream.write(b"x" * (size // writes))
        now[0] += pause * chance.uniform(0.5, 1.5)
        if stream._since is not None and now[0] - stream._since >= 0.3:
            with stream._changed:
                stream._cut()
        while sequence < stream._chunks:
            # The age is not stored: it becomes the time of the chunk.
            header_bytes += len(spooled.chunk_times(sequence).partition(" ")[2])
            spooled.delete_chunk(sequence)
            sequence += 1
    assert header_bytes <= 0.02 * size + 1000
    assert len(spooled._times._chunks) <= 1


def test_a_chunk_has_no_more_than_a_hundred_places(now: list[float], tmp_path: Path) -> None:
    spooled = Spool(tmp_path / "spool", limit=10**9).open(JOB)
    stream = LogStream(spooled)
    for _ in range(CHUNK_BYTES // 100):
        stream.write(b"x" * 100)
        now[0] += 1
    places = spooled.chunk_times(0).split()[1:]
    assert places == ["100:1000"] * 100


def test_of_a_chunk_of_an_earlier_run_the_time_of_its_end_is_known(tmp_path: Path) -> None:
    LogStream(Spool(tmp_path / "spool", limit=1000).open(JOB)).write(b"before the kill")
    (spooled,) = Spool(tmp_path / "spool", limit=1000).recover()
    LogStream.recover(spooled)
    (path,) = spooled.path.glob("*.chunk")
    seen = path.stat()
    os.utime(path, (seen.st_atime, seen.st_mtime - 60))
    assert 60_000 <= int(spooled.chunk_times(0)) < 90_000
    os.utime(path, (seen.st_atime, seen.st_mtime + 3600))
    assert spooled.chunk_times(0) == "0"
