"""The log stream and the spool."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import pytest

from agent.log_stream import CHUNK_BYTES, DELAY_SECONDS, LogStream
from agent.protocol import Assignment
from agent.spool import Spool

JOB = Assignment("job1", 1)


@pytest.fixture
def spool(tmp_path: Path) -> Spool:
    return Spool(tmp_path / "spool", limit=1_000_000)


def test_the_chunks_together_are_the_output(spool: Spool) -> None:
    spooled = spool.open(JOB)
    stream = LogStream(spooled)
    written = b"".join(bytes([number % 256]) * (number * 37) for number in range(120))
    for start in range(0, len(written), 7001):
        stream.write(written[start : start + 7001])
    stream.finish({"exit_code": 0})
    chunks = [spooled.read_chunk(sequence) for sequence in stream.sequences()]
    assert b"".join(chunks) == written
    assert [len(chunk) for chunk in chunks[:-1]] == [CHUNK_BYTES] * (len(chunks) - 1)
    assert spooled.read_report() == {"exit_code": 0, "log_chunks": len(chunks)}


def test_a_little_output_is_delivered_after_a_third_of_a_second_however_much_follows_it(
    spool: Spool, monkeypatch: pytest.MonkeyPatch
) -> None:
    now, waits = [100.0], []
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    stream = LogStream(spool.open(JOB))

    def wait(seconds: float | None) -> None:
        waits.append(seconds)
        now[0] += 0.25
        stream._add(b"more")

    monkeypatch.setattr(stream._changed, "wait", wait)
    sequences = stream.sequences()
    stream.write(b"a")
    assert next(sequences) == 0
    assert waits == [pytest.approx(DELAY_SECONDS), pytest.approx(DELAY_SECONDS - 0.25)]
    assert DELAY_SECONDS == 0.3
    stream.write(b"b")
    assert next(sequences) == 1
    assert waits[2:] == waits[:2]


def test_the_agent_s_own_lines_begin_on_a_new_line(spool: Spool) -> None:
    spooled = spool.open(JOB)
    stream = LogStream(spooled)
    stream.say("one")
    stream.write(b"no newline")
    stream.say("two")
    stream.write(b"newline\n")
    stream.say("three")
    stream.finish({})
    assert spooled.read_chunk(0) == b"one\nno newline\ntwo\nnewline\nthree\n"


def test_writers_wait_for_room_until_chunks_are_delivered(tmp_path: Path) -> None:
    spooled = Spool(tmp_path / "spool", limit=2 * CHUNK_BYTES).open(JOB)
    stream = LogStream(spooled)
    for _ in range(2):
        stream.write(b"x" * CHUNK_BYTES)
    written = threading.Event()

    def write() -> None:
        stream.write(b"y")
        written.set()

    threading.Thread(target=write, daemon=True).start()
    assert not written.wait(0.3)
    spooled.delete_chunk(0)
    assert written.wait(20)


def test_writers_do_not_wait_when_their_command_is_stopped(tmp_path: Path) -> None:
    stream = LogStream(Spool(tmp_path / "spool", limit=1).open(JOB))
    stream.write(b"x" * CHUNK_BYTES)
    written = threading.Event()

    def write() -> None:
        stream.write(b"last output")
        written.set()

    threading.Thread(target=write, daemon=True).start()
    assert not written.wait(0.1)
    stream.ignore_limit.set()
    assert written.wait(20)


def test_attempts_are_recovered_whether_they_have_ended_or_not(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "spool", limit=1000)
    ended = LogStream(spool.open(JOB))
    ended.write(b"log")
    ended.finish({"exit_code": 1})
    LogStream(spool.open(Assignment("job2", 1))).write(b"x" * CHUNK_BYTES + b"y")
    (tmp_path / "spool" / "stray").mkdir()
    spool.open(Assignment("job3", 1))
    finished, interrupted = Spool(tmp_path / "spool", limit=1000).recover()
    assert (finished.job, finished.is_finished) == (JOB, True)
    assert list(finished.sequences()) == [0]
    assert finished.read_report() == {"exit_code": 1, "log_chunks": 1}
    assert (interrupted.job.job_id, interrupted.is_finished) == ("job2", False)
    LogStream.recover(interrupted)
    assert [interrupted.read_chunk(sequence) for sequence in interrupted.sequences()] == [b"x" * CHUNK_BYTES, b"y"]
    assert sorted(path.name for path in (tmp_path / "spool").iterdir()) == ["job1.1", "job2.1"]
    for spooled in (finished, interrupted):
        spooled.remove()
    assert list((tmp_path / "spool").iterdir()) == []
