"""Files in S3: what is there, what is not, and how much of them travels."""

import tracemalloc
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from django.core.files.base import ContentFile
from django.core.files.storage import storages

from controlplane.lib import object_storage
from controlplane.lib.errors import Unavailable
from controlplane.lib.file_storage import FileStorage
from controlplane.lib.object_storage import ObjectStorage
from controlplane.lib.streams import ChunkReader
from tests.conftest import CloudServices

DATA = bytes(range(256)) * 40
PARTS = pytest.mark.ministack("moto gives an object of several parts the checksum of no part and of no whole")


@pytest.fixture
def storage(cloud_services: CloudServices) -> ObjectStorage:
    found = storages["logs"]
    assert isinstance(found, ObjectStorage)
    return found


@contextmanager
def answers(storage: ObjectStorage) -> Iterator[list[tuple[str, int]]]:
    """What S3 is asked in this block, and how many bytes each answer has."""
    asked: list[tuple[str, int]] = []

    def after(parsed: dict[str, Any], model: Any, **_: Any) -> None:
        asked.append((model.name, int(parsed.get("ContentLength", 0)) if model.name == "GetObject" else 0))

    events = storage.connection.meta.client.meta.events
    events.register("after-call.s3.*", after, unique_id="answers")
    try:
        yield asked
    finally:
        events.unregister("after-call.s3.*", unique_id="answers")


def test_what_is_saved_is_read_back_and_can_be_deleted(storage: ObjectStorage) -> None:
    assert not storage.exists("a.log")
    assert storage.save("a.log", ContentFile(DATA)) == "a.log"
    assert (storage.exists("a.log"), storage.size("a.log")) == (True, len(DATA))
    assert storage.read_range("a.log", 0, len(DATA) + 1) == (DATA, len(DATA))
    storage.delete("a.log")
    assert not storage.exists("a.log")
    # As after an answer that was lost.
    storage.delete("a.log")


def test_a_file_in_parts_arrives_whole(storage: ObjectStorage) -> None:
    data = DATA * 1_000
    storage.save("large.log", ContentFile(data))
    assert storage.read_range("large.log", 0, len(data)) == (data, len(data))


def test_saving_again_replaces_what_is_there(storage: ObjectStorage) -> None:
    for data in (b"first", b"second"):
        assert storage.save("a.log", ContentFile(data)) == "a.log"
    assert storage.read_range("a.log", 0, 100) == (b"second", 6)


def test_a_slice_is_read_without_the_rest_by_one_request(storage: ObjectStorage) -> None:
    storage.save("a.log", ContentFile(DATA))
    with answers(storage) as asked:
        assert storage.read_range("a.log", 1000, 10) == (DATA[1000:1010], len(DATA))
    assert asked == [("GetObject", 10)]


@pytest.mark.parametrize("offset", [0, 10, 2**53])
def test_behind_the_end_there_is_nothing(storage: ObjectStorage, offset: int) -> None:
    storage.save("a.log", ContentFile(b"0123456789"[:offset]))
    assert storage.read_range("a.log", offset, 5) == (b"", min(offset, 10))


def test_a_missing_file_is_distinguished_from_a_failure(storage: ObjectStorage) -> None:
    with pytest.raises(FileNotFoundError):
        storage.read_range("gone.log", 0, 1)
    with pytest.raises(FileNotFoundError):
        storage.size("gone.log")


def test_a_bucket_that_is_not_there_is_a_failure_of_ours(cloud_services: CloudServices) -> None:
    storage = ObjectStorage("hybrid-ci-cd-there-is-none")
    with pytest.raises(Unavailable):
        storage.read_range("a.log", 0, 1)
    with pytest.raises(Unavailable):
        storage.save("a.log", ContentFile(b"a"))


def chunks(count: int, failure: Exception | None = None) -> Iterator[bytes]:
    """`count` megabytes in small chunks, and then the failure."""
    for number in range(count * 10):
        yield bytes([number % 251]) * 100_000
    if failure:
        raise failure


@pytest.fixture(params=["S3", "directory"])
def any_storage(request: pytest.FixtureRequest, tmp_path: Path) -> Any:
    """Both storages of logs."""
    return request.getfixturevalue("storage") if request.param == "S3" else FileStorage(location=tmp_path)


@pytest.mark.parametrize("count", [0, 1, pytest.param(20, marks=PARTS)])
def test_a_file_that_is_made_while_it_is_sent_arrives_whole(any_storage: Any, count: int) -> None:
    any_storage.save_stream("a.log", chunks(count))
    data = b"".join(chunks(count))
    assert any_storage.size("a.log") == len(data)
    if data:
        assert any_storage.read_range("a.log", 0, len(data)) == (data, len(data))


@PARTS
def test_a_file_of_exactly_two_parts_has_the_checksum_of_two_parts(storage: ObjectStorage) -> None:
    storage.save_stream("a.log", [b"x" * object_storage._PART_BYTES] * 2)
    assert storage.size("a.log") == 2 * object_storage._PART_BYTES


@PARTS
def test_a_file_is_never_in_memory_as_a_whole(any_storage: Any) -> None:
    any_storage.save_stream("first.log", chunks(1))
    tracemalloc.start()
    try:
        any_storage.save_stream("a.log", chunks(60))
        assert tracemalloc.get_traced_memory()[1] < 4 * object_storage._PART_BYTES
    finally:
        tracemalloc.stop()


def test_a_file_that_breaks_off_leaves_the_earlier_one_and_no_parts(
    any_storage: Any, cloud_services: CloudServices, tmp_path: Path
) -> None:
    any_storage.save_stream("a.log", [b"earlier"])
    for count in (1, 20):
        with pytest.raises(ValueError, match="damaged"):
            any_storage.save_stream("a.log", chunks(count, ValueError("damaged")))
    assert any_storage.read_range("a.log", 0, 100) == (b"earlier", 7)
    assert "Uploads" not in cloud_services.s3.list_multipart_uploads(Bucket=cloud_services.bucket)
    assert {path.name for path in tmp_path.iterdir()} <= {"a.log"}


def test_a_part_that_s3_refuses_ends_the_upload_and_leaves_no_parts(
    storage: ObjectStorage, cloud_services: CloudServices
) -> None:
    client = storage.connection.meta.client

    def spoil(params: dict[str, Any], **_: Any) -> None:
        if params["PartNumber"] == 2:
            params["UploadId"] = "unknown"

    client.meta.events.register("before-parameter-build.s3.UploadPart", spoil, unique_id="spoil")
    try:
        with pytest.raises(Unavailable):
            storage.save_stream("a.log", chunks(20))
    finally:
        client.meta.events.unregister("before-parameter-build.s3.UploadPart", unique_id="spoil")
    assert not storage.exists("a.log")
    assert "Uploads" not in cloud_services.s3.list_multipart_uploads(Bucket=cloud_services.bucket)


@pytest.mark.parametrize("count", [1, 20])
def test_content_that_changes_on_the_way_to_s3_is_noticed(
    storage: ObjectStorage, monkeypatch: pytest.MonkeyPatch, count: int
) -> None:
    read = ChunkReader.read

    def read_spoiled(reader: ChunkReader, amount: int = -1) -> bytes:
        return read(reader, amount).replace(b"\x07\x07", b"\x07\x08", 1)

    monkeypatch.setattr(ChunkReader, "read", read_spoiled)
    with pytest.raises(Unavailable, match="other content"):
        storage.save_stream("a.log", chunks(count))
