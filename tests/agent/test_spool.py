"""What is not delivered yet, on disk: chunks that grow and are complete, reports, and how much of it there may be."""

from __future__ import annotations

import errno
import json
import os
import stat
import threading
from pathlib import Path

import pytest

from agent import spool as spool_module
from agent.protocol import Assignment
from agent.spool import Spool, SpooledAttempt

JOB = Assignment("job1", 1)


@pytest.fixture
def spool(tmp_path: Path) -> Spool:
    return Spool(tmp_path / "spool", limit=10)


@pytest.fixture
def spooled(spool: Spool) -> SpooledAttempt:
    return spool.open(JOB)


def append(spooled: SpooledAttempt, sequence: int, data: bytes) -> None:
    spooled.append(sequence, memoryview(data))


def names(spooled: SpooledAttempt) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in spooled.path.iterdir()}


def has_room(spool: Spool) -> bool:
    """Whether a writer would not wait."""
    gone_on = threading.Event()

    def wait() -> None:
        spool.wait_for_room(stop)
        gone_on.set()

    stop = threading.Event()
    thread = threading.Thread(target=wait)
    thread.start()
    found = gone_on.wait(0.05)
    stop.set()
    thread.join(20)
    assert gone_on.is_set()
    return found


def test_the_spool_and_all_in_it_are_for_the_agents_user_only(spool: Spool, spooled: SpooledAttempt) -> None:
    append(spooled, 0, b"secret")
    spooled.write_report({})
    for path in (spooled.path.parent, spooled.path, *spooled.path.iterdir()):
        assert stat.S_IMODE(path.stat().st_mode) & 0o077 == 0, path
    assert Spool(spooled.path.parent, limit=1).recover()


def test_output_grows_in_one_chunk_until_that_is_complete(spooled: SpooledAttempt) -> None:
    append(spooled, 3, b"ab")
    append(spooled, 3, b"cd")
    assert names(spooled) == {"00000003.growing": b"abcd"}
    assert list(spooled.sequences()) == []
    spooled.complete(3)
    assert names(spooled) == {"00000003.chunk": b"abcd"}
    append(spooled, 12, b"e")
    spooled.complete(12)
    append(spooled, 100_000_000, b"f")
    spooled.complete(100_000_000)
    assert list(spooled.sequences()) == [3, 12, 100_000_000]
    assert spooled.read_chunk(3) == b"abcd"
    spooled.delete_chunk(3)
    assert list(spooled.sequences()) == [12, 100_000_000]


def test_a_chunk_number_that_is_used_again_begins_empty(spooled: SpooledAttempt) -> None:
    append(spooled, 0, b"earlier")
    spooled._close()
    append(spooled, 0, b"new")
    assert names(spooled) == {"00000000.growing": b"new"}


def test_other_files_are_no_chunks(spooled: SpooledAttempt) -> None:
    for name in ("x.chunk", "-1.chunk", "5.other"):
        (spooled.path / name).write_bytes(b"12345")
    assert (list(spooled.sequences()), spooled.size()) == ([], 0)


def test_a_write_that_the_disk_refuses_in_the_middle_leaves_the_chunk_as_it_was(
    spool: Spool, spooled: SpooledAttempt, monkeypatch: pytest.MonkeyPatch
) -> None:
    append(spooled, 0, b"whole")
    write = os.write

    def write_some(descriptor: int, data: bytes) -> int:
        if len(data) < 4:
            raise OSError(errno.ENOSPC, "No space left on device")
        return write(descriptor, data[:2])

    monkeypatch.setattr(os, "write", write_some)
    with pytest.raises(OSError, match="No space"):
        append(spooled, 0, b"123456")
    assert names(spooled) == {"00000000.growing": b"whole"}
    monkeypatch.setattr(os, "write", lambda descriptor, data: write(descriptor, data[:2]))
    append(spooled, 0, b"123456")
    assert names(spooled) == {"00000000.growing": b"whole123456"}
    assert spool._used == 11


def test_writers_wait_from_the_limit_on_until_a_chunk_is_delivered(spool: Spool, spooled: SpooledAttempt) -> None:
    append(spooled, 0, b"123456789")
    assert has_room(spool)
    append(spooled, 0, b"0")
    assert not has_room(spool)
    spooled.complete(0)
    assert not has_room(spool)
    spooled.delete_chunk(0)
    assert has_room(spool)


def test_a_writer_that_waits_goes_on_as_soon_as_there_is_room(spool: Spool, spooled: SpooledAttempt) -> None:
    append(spooled, 0, b"x" * 20)
    spooled.complete(0)
    gone_on = threading.Event()

    def wait() -> None:
        spooled.wait_for_room(threading.Event())
        gone_on.set()

    threading.Thread(target=wait, daemon=True).start()
    assert not gone_on.wait(0.1)
    spooled.delete_chunk(0)
    assert gone_on.wait(20)


def test_a_removed_attempt_takes_no_room_whether_its_chunks_are_complete_or_grow(
    spool: Spool, spooled: SpooledAttempt
) -> None:
    append(spooled, 0, b"x" * 6)
    spooled.complete(0)
    append(spooled, 1, b"x" * 6)
    assert (spool._used, spooled.size()) == (12, 12)
    spooled.remove()
    assert (spool._used, spooled.path.exists(), spooled._growing) == (0, False, None)


def test_a_new_attempt_has_an_empty_folder_whatever_was_there(spool: Spool, spooled: SpooledAttempt) -> None:
    append(spooled, 0, b"left over")
    assert names(spool.open(JOB)) == {}
    assert spooled.path.name == "job1.1"


def test_a_report_is_on_disk_and_so_are_the_chunks_before_it(
    spooled: SpooledAttempt, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[str] = []

    def sync(path: Path) -> None:
        synced.append(path.name)
        if path.name == "00000000.chunk":
            # The delivery was faster.
            raise FileNotFoundError

    monkeypatch.setattr(spool_module, "sync", sync)
    for sequence in (0, 1):
        append(spooled, sequence, b"x")
        spooled.complete(sequence)
    assert not spooled.is_finished
    spooled.write_report({"exit_code": 1})
    assert (sorted(synced), spooled.is_finished) == (["00000000.chunk", "00000001.chunk"], True)
    assert json.loads((spooled.path / "finish.json").read_bytes()) == spooled.read_report() == {"exit_code": 1}


def test_a_report_that_the_disk_does_not_take_is_kept_in_memory(
    spooled: SpooledAttempt, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(spool_module, "write_private", refuse)
    spooled.write_report({"exit_code": 1})
    assert (spooled.read_report(), spooled.is_finished) == ({"exit_code": 1}, False)
    assert "keeps the result of" in caplog.text


def test_a_new_run_finds_what_is_not_delivered_counts_it_and_removes_the_rest(tmp_path: Path) -> None:
    earlier = Spool(tmp_path, limit=100)
    for number, (finished, grows, completes) in enumerate(
        [(True, False, False), (True, False, True), (False, True, True), (False, False, False)]
    ):
        attempt = earlier.open(Assignment(f"job.{number}", 10 + number))
        if completes:
            append(attempt, 0, b"12345")
            attempt.complete(0)
        if grows:
            append(attempt, 1, b"67")
        if finished:
            attempt.write_report({"number": number})
    for name in ("stray", "job5.x", ".5", "job6."):
        (tmp_path / name).mkdir()
        (tmp_path / name / "0.chunk").write_bytes(b"x")
    (tmp_path / "file").write_bytes(b"x")
    later = Spool(tmp_path, limit=100)
    found = later.recover()
    assert [attempt.job for attempt in found] == [Assignment(f"job.{number}", 10 + number) for number in range(3)]
    assert [attempt.is_finished for attempt in found] == [True, True, False]
    assert later._used == 5 + 5 + 2
    assert sorted(path.name for path in tmp_path.iterdir()) == ["job.0.10", "job.1.11", "job.2.12"]
    found[2].complete_growing()
    assert names(found[2]) == {"00000000.chunk": b"12345", "00000001.chunk": b"67"}
