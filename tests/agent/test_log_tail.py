"""The last bytes of a log above its limit, in two files at most."""

from __future__ import annotations

import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent import log_tail
from agent.log_tail import LogTail


@pytest.fixture
def tail(tmp_path: Path) -> Iterator[LogTail]:
    tail = LogTail(tmp_path, 4)
    yield tail
    tail.close()


def add(tail: LogTail, data: bytes, sequence: int = 7) -> list[int]:
    """Add all of it; returns how much each call took."""
    taken = []
    while data:
        taken.append(tail.add(memoryview(data), sequence))
        data = data[taken[-1] :]
    return taken


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.parametrize("size", range(1, 20))
@pytest.mark.parametrize("step", [1, 3, 4, 5, 20])
def test_the_last_bytes_are_kept_of_any_number_in_any_parts(tmp_path: Path, size: int, step: int) -> None:
    printed = bytes(range(size))
    tail = LogTail(tmp_path, 4)
    for start in range(0, size, step):
        add(tail, printed[start : start + step])
    assert b"".join(tail.last()) == printed[-4:]
    assert tail.size == size
    assert len(files(tmp_path)) == min(2, -(-size // 4))
    tail.remove()
    assert files(tmp_path) == {}


def test_a_call_takes_what_fits_into_the_current_file(tail: LogTail, tmp_path: Path) -> None:
    assert add(tail, b"0123456789") == [4, 4, 2]
    assert files(tmp_path) == {"00000007-000000000000004.tail": b"4567", "00000007-000000000000008.tail": b"89"}
    assert add(tail, b"ab", sequence=9) == [2]
    assert add(tail, b"c", sequence=9) == [1]
    assert files(tmp_path) == {"00000007-000000000000008.tail": b"89ab", "00000009-000000000000012.tail": b"c"}


def test_the_files_are_for_the_agents_user_only(tail: LogTail, tmp_path: Path) -> None:
    add(tail, b"secret")
    assert {stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()} == {0o600}


def test_a_long_tail_is_read_in_parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log_tail, "_READ_BYTES", 3)
    tail = LogTail(tmp_path, 8)
    add(tail, b"0123456789")
    assert list(tail.last()) == [b"234", b"567", b"89"]
    tail.close()


@pytest.mark.parametrize("size", [1, 4, 5, 8, 11])
def test_a_later_run_goes_on_with_the_tail_and_the_number_of_the_next_chunk(tmp_path: Path, size: int) -> None:
    printed = bytes(range(size))
    earlier = LogTail(tmp_path, 4)
    add(earlier, printed)
    earlier.close()
    found, sequence = LogTail.found(tmp_path)
    assert (sequence, found.size) == (7, size)
    assert b"".join(found.last()) == printed[-4:]
    found.remove()
    assert files(tmp_path) == {}


def test_a_folder_without_a_tail_has_none(tmp_path: Path) -> None:
    (tmp_path / "00000003.chunk").write_bytes(b"x")
    found, sequence = LogTail.found(tmp_path)
    assert (found.size, sequence, list(found.last())) == (0, 0, [])


def test_a_tail_that_is_closed_stays_on_disk_and_may_be_closed_again(tail: LogTail, tmp_path: Path) -> None:
    add(tail, b"abc")
    for _ in range(2):
        tail.close()
    assert files(tmp_path) == {"00000007-000000000000000.tail": b"abc"}
