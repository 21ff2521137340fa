"""Files in S3: what is there, what is not, and how much of them travels."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from django.core.files.base import ContentFile
from django.core.files.storage import storages

from controlplane.lib.errors import Unavailable
from controlplane.lib.object_storage import ObjectStorage
from tests.conftest import CloudServices

DATA = bytes(range(256)) * 40


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


def test_a_piece_is_read_without_the_rest_by_one_request(storage: ObjectStorage) -> None:
    storage.save("a.log", ContentFile(DATA))
    with answers(storage) as asked:
        assert storage.read_range("a.log", 1000, 10) == (DATA[1000:1010], len(DATA))
    assert asked == [("GetObject", 10)]


@pytest.mark.parametrize("offset", [0, 10, 2**53])
def test_behind_the_end_there_is_nothing(storage: ObjectStorage, offset: int) -> None:
    storage.save("a.log", ContentFile(b"0123456789"[:offset]))
    assert storage.read_range("a.log", offset, 5) == (b"", min(offset, 10))


def test_what_is_not_there_is_told_apart_from_a_failure(storage: ObjectStorage) -> None:
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
