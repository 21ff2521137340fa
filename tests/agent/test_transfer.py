"""Archives go to the storage and come from it by presigned URLs, whatever the network does meanwhile."""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent import transfer
from agent.client import Backoff
from agent.protocol import Assignment
from agent.store import Archives
from agent.transfer import Download, TransferFailed, Upload, download, upload
from tests.agent.storage import FakeStorage

PART = 1000
DATA = os.urandom(9_500)


@pytest.fixture
def storage(tmp_path: Path) -> Iterator[FakeStorage]:
    storage = FakeStorage(tmp_path / "storage")
    yield storage
    storage.close()


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Backoff, "pause", lambda *_: 0.001)
    monkeypatch.setattr(transfer, "PIECE_BYTES", PART)


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    path = tmp_path / "archive"
    path.write_bytes(DATA)
    return path


def asked(storage: FakeStorage, most: int = 100) -> list[Upload]:
    """What the control plane answers: the parts that are not stored yet."""
    parts = range(1, 11)
    return [
        storage.upload("object", part, hashlib.sha256(DATA[(part - 1) * PART : part * PART]).hexdigest())
        for part in parts
        if not storage.has("object", part)
    ][:most]


def stored(storage: FakeStorage) -> bytes:
    storage.join("object")
    return (storage.folder / "object").read_bytes()


def test_an_archive_is_sent_in_parts_several_at_a_time(storage: FakeStorage, archive: Path) -> None:
    storage.pause = 0.01
    upload(archive, part_bytes=PART, ask=lambda: asked(storage))
    assert stored(storage) == DATA
    assert len(storage.puts) == 10
    assert 1 < storage.most_active <= transfer.THREADS


@pytest.mark.parametrize("fault", [0, -1, 400, 403, 408, 429, 500, 503])
def test_a_part_that_fails_is_sent_again(fault: int, storage: FakeStorage, archive: Path) -> None:
    storage.faults = [fault, fault]
    upload(archive, part_bytes=PART, ask=lambda: asked(storage, most=3))
    assert stored(storage) == DATA


def test_an_upload_goes_on_with_the_parts_that_are_missing(storage: FakeStorage, archive: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        upload(archive, part_bytes=PART, ask=lambda: asked(storage, most=3), check=lambda: interrupt(storage))
    before = [name for name in storage.puts if storage.has("object", int(name.partition(".")[2]))]
    storage.puts.clear()
    upload(archive, part_bytes=PART, ask=lambda: asked(storage))
    assert stored(storage) == DATA
    assert before
    assert not set(before) & set(storage.puts)


def interrupt(storage: FakeStorage) -> None:
    if len(storage.puts) > 4:
        raise KeyboardInterrupt


def test_an_interrupted_transfer_does_not_wait_for_the_storage(storage: FakeStorage, archive: Path) -> None:
    storage.pause = 20

    def check() -> None:
        if storage.active == transfer.THREADS:
            raise KeyboardInterrupt

    began = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        upload(archive, part_bytes=PART, ask=lambda: asked(storage), check=check)
    assert time.monotonic() - began < 10
    storage.pause = 0


def test_a_control_plane_that_never_has_enough_is_not_obeyed_for_ever(
    storage: FakeStorage, archive: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transfer, "_MOST_ROUNDS", 3)
    wanted = asked(storage, most=1)
    with pytest.raises(TransferFailed, match="again and again"):
        upload(archive, part_bytes=PART, ask=lambda: wanted)
    assert len(storage.puts) == 3


def test_what_an_earlier_run_has_left_is_removed_unless_it_is_of_use(tmp_path: Path) -> None:
    folder = tmp_path / "archives"
    archives = Archives(folder)
    job = Assignment("01k", 2)
    kept = [archives.upload(job, "artifacts"), folder / f"{'a' * 64}.download", folder / f"{'a' * 64}.download.pieces"]
    removed = [archives.upload(Assignment("01k", 1), "artifacts"), folder / f"{'b' * 64}.download"]
    for path in (*kept, *removed):
        path.touch()
    os.utime(removed[-1], (1, 1))
    archives.recover([job])
    assert set(folder.iterdir()) == set(kept)


def test_urls_that_expire_are_asked_for_again(storage: FakeStorage, archive: Path) -> None:
    answers = iter([asked(storage)])
    storage.expire()
    upload(archive, part_bytes=PART, ask=lambda: next(answers, None) or asked(storage))
    assert stored(storage) == DATA


@pytest.mark.parametrize(
    ("fault", "message", "is_network"),
    [
        (302, "the storage answered 302 (SomeReason)", False),
        (403, "the storage answered 403 (SomeReason)", False),
        (500, "the storage answered 500 (SomeReason)", False),
        (0, "no answer from the storage (RemoteDisconnected)", True),
    ],
)
def test_an_upload_gives_up_without_naming_the_url(
    fault: int, message: str, is_network: bool, storage: FakeStorage, archive: Path
) -> None:
    storage.faults = [fault] * 1000
    with pytest.raises(TransferFailed) as failure:
        upload(archive, part_bytes=PART, ask=lambda: asked(storage, most=1), patience=0.2)
    assert (str(failure.value), failure.value.is_network) == (message, is_network)
    assert failure.value.__cause__ is None
    assert storage.secret not in repr([asked(storage), storage.url, failure.value])


@pytest.mark.parametrize("url", ["file:///etc/passwd", "http://", "no url", "http://[::1", "http://a b/secret?c"])
def test_an_invalid_url_is_not_named_either(url: str, archive: Path) -> None:
    with pytest.raises(TransferFailed) as failure:
        upload(archive, part_bytes=PART, ask=lambda: [Upload(1, "PUT", url, {})], patience=0)
    assert "secret" not in str(failure.value)


def test_a_control_plane_cannot_ask_for_parts_that_do_not_exist(storage: FakeStorage, archive: Path) -> None:
    for one in [[storage.upload("x", part, "")] for part in (0, -1, 11, 10**9)]:
        with pytest.raises(TransferFailed, match="does not exist"):
            upload(archive, part_bytes=PART, ask=one.copy)
    assert not storage.puts


def fetched(storage: FakeStorage, target: Path) -> bytes:
    download(target, storage.download("object"), ask=lambda: storage.download("object"))
    assert not target.with_name("target.pieces").exists()
    return target.read_bytes()


@pytest.fixture
def offered(storage: FakeStorage) -> FakeStorage:
    """A storage that has an object."""
    (storage.folder / "object").write_bytes(DATA)
    return storage


def test_an_archive_is_fetched_in_pieces_several_at_a_time(offered: FakeStorage, tmp_path: Path) -> None:
    offered.pause = 0.01
    assert fetched(offered, tmp_path / "target") == DATA
    assert len(offered.gets) == 10
    assert offered.most_active > 1


@pytest.mark.parametrize("fault", [0, -1, 403, 404, 416, 429, 500])
def test_a_piece_that_fails_is_fetched_again(fault: int, offered: FakeStorage, tmp_path: Path) -> None:
    offered.faults = [fault, fault]
    assert fetched(offered, tmp_path / "target") == DATA


def test_a_small_archive_is_fetched_at_once(
    offered: FakeStorage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transfer, "PIECE_BYTES", 10_000)
    offered.faults = [-1]
    assert fetched(offered, tmp_path / "target") == DATA
    assert offered.gets == ["object None"] * 2


def test_a_download_goes_on_with_the_pieces_that_are_missing(offered: FakeStorage, tmp_path: Path) -> None:
    source = offered.download("object")
    offered.faults = [*[None] * 5, *[0] * 1000]
    with pytest.raises(TransferFailed):
        download(tmp_path / "target", source, ask=lambda: source, patience=0)
    offered.faults.clear()
    offered.gets.clear()
    assert fetched(offered, tmp_path / "target") == DATA
    assert len(offered.gets) == 5


def test_bytes_that_were_changed_are_noticed(offered: FakeStorage, tmp_path: Path) -> None:
    source = offered.download("object")
    (offered.folder / "object").write_bytes(DATA[:-1] + b"x")
    with pytest.raises(TransferFailed, match="another SHA-256"):
        download(tmp_path / "target", source, ask=lambda: source)
    assert len(offered.gets) == 20, "it was not fetched anew"


def test_pieces_of_another_archive_are_not_used(offered: FakeStorage, tmp_path: Path) -> None:
    (tmp_path / "target").write_bytes(bytes(len(DATA)))
    (tmp_path / "target.pieces").write_bytes(b"\1" * 10)
    assert fetched(offered, tmp_path / "target") == DATA


def test_a_full_disk_is_an_error_of_this_machine(offered: FakeStorage) -> None:
    if not Path("/dev/full").exists():
        pytest.skip("this system has no /dev/full")
    source = offered.download("object")
    with pytest.raises(OSError, match="No space left"):
        _write_to_full_disk(source)


def _write_to_full_disk(source: Download) -> None:
    class Full(transfer._Pieces):
        def __init__(self) -> None:
            self._size, self._count = len(DATA), 10
            self._file = os.open("/dev/full", os.O_RDWR)
            self._state = os.open("/dev/null", os.O_RDWR)

    rounds = transfer._Rounds(lambda: None, 1)
    with Full() as pieces:
        try:
            rounds.run([transfer._Fetching(pieces, source, 0)])
        finally:
            rounds.close()
