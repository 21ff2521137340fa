"""Files that go by presigned URLs, in S3 and in a directory that the control plane serves: both do the same."""

import hashlib
import os
import socket
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import requests
from django.core.files.storage import storages

from controlplane.lib import clock
from controlplane.lib.errors import Unavailable
from controlplane.lib.ids import new_id
from controlplane.lib.object_storage import ObjectStorage
from controlplane.lib.presigned import CHECKSUM_HEADER, PART_LEAST, Link, Part, Stored, checksum, kept_folder
from controlplane.lib.presigned_files import PresignedFiles
from controlplane.lib.presigned_objects import PresignedObjects
from tests.clients import problem

NAME = "keep-7/artifacts/01kaa/9f86d081"
DATA = b"what a job has made" * 100
MINISTACK = pytest.mark.ministack("moto checks neither signatures nor checksums")


@pytest.fixture
def base(server: str) -> str:
    return f"{server}/"


@pytest.fixture
def files(tmp_path: Path, settings: Any) -> PresignedFiles:
    """An empty directory."""
    backend = {"BACKEND": "controlplane.lib.presigned_files.PresignedFiles", "OPTIONS": {"location": tmp_path}}
    settings.STORAGES = {**settings.STORAGES, "artifacts": backend}
    found = storages["artifacts"]
    assert isinstance(found, PresignedFiles)
    return found


@pytest.fixture(params=[pytest.param("S3", marks=MINISTACK), "directory"])
def storage(request: pytest.FixtureRequest) -> Any:
    """Both storages of artifacts, empty."""
    request.getfixturevalue("cloud_services" if request.param == "S3" else "files")
    return storages["artifacts"]


def part_of(data: bytes) -> Part:
    return Part(len(data), hashlib.sha256(data).hexdigest())


def put(link: Link, data: bytes, **headers: str) -> int:
    return requests.put(link.url, data=data, headers={**link.headers, **headers}, timeout=30).status_code


def get(link: Link, **headers: str) -> requests.Response:
    return requests.get(link.url, headers={**link.headers, **headers}, timeout=30)


def stored_once(storage: Any, base: str, data: bytes = DATA, name: str = NAME) -> None:
    assert put(storage.upload_link(name, None, 1, part_of(data), base=base), data) == 200


def test_what_is_sent_is_there_and_can_be_fetched_and_deleted(storage: Any, base: str) -> None:
    expected = Stored(len(DATA), checksum([part_of(DATA)]))
    assert not storage.upload_finish(NAME, None, expected)
    assert storage.upload_numbers(NAME, None) == set()
    stored_once(storage, base)
    assert 1 in storage.upload_numbers(NAME, None)
    assert storage.upload_finish(NAME, None, expected)
    answer = get(storage.download_link(NAME, seconds=60, base=base, filename="test.tar.gz"))
    assert answer.content == DATA
    assert answer.headers["Content-Disposition"] == 'attachment; filename="test.tar.gz"'
    storage.delete(NAME)
    assert storage.stored(NAME) is None
    assert get(storage.download_link(NAME, seconds=60, base=base)).status_code == 404
    if isinstance(storage, PresignedObjects):
        with pytest.raises(FileNotFoundError):
            list(storage.blocks(NAME, 0, 1))


@pytest.mark.parametrize(
    ("asked", "found"), [("3-9", slice(3, 10)), ("1890-", slice(1890, None)), ("-5", slice(-5, None))]
)
def test_a_range_is_fetched_without_the_rest(storage: Any, base: str, asked: str, found: slice) -> None:
    stored_once(storage, base)
    answer = get(storage.download_link(NAME, seconds=60, base=base), Range=f"bytes={asked}")
    assert (answer.status_code, answer.content) == (206, DATA[found])
    assert answer.headers["Content-Range"].endswith(f"/{len(DATA)}")


def test_a_range_behind_the_end_is_refused(storage: Any, base: str) -> None:
    stored_once(storage, base)
    answer = get(storage.download_link(NAME, seconds=60, base=base), Range="bytes=1900-")
    assert answer.status_code == 416


def test_content_with_another_sha256_is_refused_and_not_stored(storage: Any, base: str) -> None:
    link = storage.upload_link(NAME, None, 1, part_of(DATA), base=base)
    assert put(link, DATA.swapcase()) == 400
    other = part_of(DATA.swapcase())
    signed_for_other = storage.upload_link(NAME, None, 1, other, base=base).headers[CHECKSUM_HEADER]
    assert put(link, DATA.swapcase(), **{CHECKSUM_HEADER: signed_for_other}) == 403
    assert storage.stored(NAME) is None


def test_content_of_another_length_is_refused_and_not_stored(storage: Any, base: str) -> None:
    link = storage.upload_link(NAME, None, 1, part_of(DATA), base=base)
    for data in (DATA + b"!", DATA[:-1], b""):
        assert put(link, data, **{"Content-Length": str(len(data))}) == 403
    assert storage.stored(NAME) is None


def test_a_url_is_for_one_method_one_name_and_one_part(storage: Any, base: str) -> None:
    stored_once(storage, base)
    upload = storage.upload_link(NAME, None, 1, part_of(DATA), base=base)
    download = storage.download_link(NAME, seconds=60, base=base)
    assert get(Link(upload.url)).status_code == 403
    assert put(Link(download.url, upload.headers), DATA) == 403
    assert get(Link(download.url.replace("9f86d081", "9f86d082"))).status_code == 403
    longer = download.url.replace("Expires=60", "Expires=99").replace("expires=1", "expires=2")
    assert get(Link(longer)).status_code == 403
    if isinstance(storage, PresignedFiles):
        # The emulator takes a request without a signature for one of an owner.
        assert get(Link(download.url.partition("?")[0])).status_code == 403


def test_an_expired_url_is_refused(storage: Any, base: str) -> None:
    stored_once(storage, base)
    if isinstance(storage, PresignedFiles):
        upload = storage.upload_link(NAME, None, 1, part_of(DATA), base=base)
        download = storage.download_link(NAME, seconds=300, base=base)
        with clock.shifted(timedelta(hours=2)):
            assert put(upload, DATA) == 403
            assert get(download).status_code == 403
    else:
        # The emulator has a clock of its own.
        assert get(storage.download_link(NAME, seconds=0, base=base)).status_code in (400, 403)


def test_a_replay_of_an_upload_changes_nothing(storage: Any, base: str) -> None:
    link = storage.upload_link(NAME, None, 1, part_of(DATA), base=base)
    assert [put(link, DATA), put(link, DATA), put(link, DATA.swapcase())] == [200, 200, 400]
    assert get(storage.download_link(NAME, seconds=60, base=base)).content == DATA


def test_parts_are_sent_in_any_order_and_only_those_that_are_missing_again(storage: Any, base: str) -> None:
    content = [b"a" * PART_LEAST, b"b" * PART_LEAST, b"the end"]
    parts = [part_of(data) for data in content]
    expected = Stored(sum(part.size for part in parts), checksum(parts))
    upload = storage.upload_begin(NAME)

    def send(number: int, data: bytes) -> int:
        return put(storage.upload_link(NAME, upload, number, parts[number - 1], base=base), data)

    assert [send(3, b"the end"), send(1, content[1])] == [200, 400]
    assert storage.upload_numbers(NAME, upload) == {3}
    assert not storage.upload_finish(NAME, upload, expected)
    assert [send(2, content[1]), send(1, content[0])] == [200, 200]
    assert storage.upload_numbers(NAME, upload) == {1, 2, 3}
    assert not storage.upload_finish(NAME, upload, Stored(expected.size, checksum(parts[:2])))
    assert storage.upload_finish(NAME, upload, expected)
    # As after an answer that was lost.
    assert storage.upload_finish(NAME, upload, expected)
    assert {1, 2, 3} <= storage.upload_numbers(NAME, upload)
    assert [len(block) for block in storage.blocks(NAME, PART_LEAST, PART_LEAST + 300_000)] == [256 * 1024, 37_856]
    link = storage.download_link(NAME, seconds=60, base=base)
    assert hashlib.sha256(get(link).content).digest() == hashlib.sha256(b"".join(content)).digest()
    edge = get(link, Range=f"bytes={PART_LEAST - 2}-{2 * PART_LEAST + 2}")
    assert edge.content == b"aa" + content[1] + b"the"


def test_an_upload_that_is_given_up_leaves_no_parts(storage: Any, base: str) -> None:
    upload = storage.upload_begin(NAME)
    assert put(storage.upload_link(NAME, upload, 1, part_of(DATA), base=base), DATA) == 200
    for _ in range(2):
        storage.upload_abort(NAME, upload)
    assert storage.upload_numbers(NAME, upload) == set()
    if isinstance(storage, PresignedObjects):
        assert "Uploads" not in storage.connection.meta.client.list_multipart_uploads(Bucket=storage.bucket_name)


def test_a_link_shows_its_url_in_no_text(storage: Any, base: str) -> None:
    link = storage.download_link(NAME, seconds=60, base=base)
    assert "ignature" in link.url
    assert "ignature" not in f"{link} {link!r}"


def test_the_urls_of_aws_name_the_bucket_in_its_region(monkeypatch: pytest.MonkeyPatch, settings: Any) -> None:
    """S3 redirects from its global endpoint, and what is uploaded must follow no redirect."""
    monkeypatch.delenv("AWS_ENDPOINT_URL", raising=False)
    for link in (
        PresignedObjects("artifacts-of-one").download_link(NAME, seconds=60, base="").url,
        PresignedObjects("artifacts-of-one").upload_link(NAME, "u", 1, part_of(DATA), base="").url,
        ObjectStorage("artifacts-of-one").link("a.log", filename="a.log"),
    ):
        assert urlsplit(str(link)).netloc == f"artifacts-of-one.s3.{settings.AWS_REGION}.amazonaws.com"


# --- the directory alone --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "path", ["../sealing.key", "keep-7/../../sealing.key", "keep-7//a", ".hidden/a", "keep-7/a%2f..%2fb"]
)
def test_a_path_that_leaves_the_directory_is_not_found(server: str, path: str) -> None:
    request = requests.Request("GET", f"{server}/files/x").prepare()
    request.url = f"{server}/files/{path}?expires=9999999999&signature=x"
    with requests.Session() as session:
        assert session.send(request, timeout=30).status_code in (403, 404)


def test_a_body_that_breaks_off_leaves_nothing(files: PresignedFiles, base: str, tmp_path: Path) -> None:
    link = files.upload_link(NAME, None, 1, part_of(DATA), base=base)
    address = urlsplit(link.url)
    head = f"PUT {address.path}?{address.query} HTTP/1.1\r\nHost: {address.netloc}\r\n"
    head += "".join(f"{name}: {value}\r\n" for name, value in link.headers.items())
    with socket.create_connection((str(address.hostname), int(address.port or 0))) as connection:
        connection.sendall(head.encode() + b"\r\n" + DATA[:100])
        connection.shutdown(socket.SHUT_WR)
        assert b" 400 " in connection.recv(1000)
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_an_unsigned_body_is_not_read(files: PresignedFiles, base: str) -> None:
    answer = requests.put(f"{base}files/{NAME}?part=1", data=b"x" * 100, timeout=30)
    problem(answer, 403, "forbidden")


def test_a_full_disk_is_a_failure_of_ours(disk: Path, base: str, settings: Any) -> None:
    backend = {"BACKEND": "controlplane.lib.presigned_files.PresignedFiles", "OPTIONS": {"location": disk}}
    settings.STORAGES = {**settings.STORAGES, "artifacts": backend}
    storage: Any = storages["artifacts"]
    (disk / "filler").write_bytes(os.urandom(109 * 1024 * 1024))
    data = b"x" * (4 * 1024 * 1024)
    link = storage.upload_link(NAME, None, 1, part_of(data), base=base)
    problem(requests.put(link.url, data=data, headers=link.headers, timeout=30), 503, "unavailable")
    assert storage.stored(NAME) is None
    with pytest.raises(Unavailable):
        storage.save_stream(f"{NAME}-files", [data])
    assert [path for path in disk.rglob("*") if path.is_file()] == [disk / "filler"]


def test_files_are_deleted_when_their_days_are_over(files: PresignedFiles, base: str, tmp_path: Path) -> None:
    for days in (1, 90):
        stored_once(files, base, name=f"{kept_folder(days * 86_400)}/artifacts/01kaa/9f86d081")
    files.save_stream("keep-1/artifacts/01kaa/9f86d081-files", [b"the list"])
    assert files.expired_delete(seconds=5) == 0
    with clock.shifted(timedelta(days=4)):
        assert files.expired_delete(seconds=5) == 2
    with clock.shifted(timedelta(days=4)):
        assert files.expired_delete(seconds=5) == 0
    assert [path.parts[-4] for path in tmp_path.rglob("*") if path.is_file()] == ["artifacts"]
    with clock.shifted(timedelta(days=93)):
        assert files.expired_delete(seconds=0) == 0
        assert files.expired_delete(seconds=5) == 1


def test_files_of_young_runs_are_not_even_looked_at(files: PresignedFiles, base: str, tmp_path: Path) -> None:
    with clock.shifted(timedelta(days=-4)):
        old = new_id()
    young = new_id()
    for owner in (old, young):
        name = f"keep-1/artifacts/{owner}/9f86d081"
        stored_once(files, base, name=name)
        os.utime(tmp_path / name, (0, 0))
    assert files.expired_delete(seconds=5) == 1
    assert not (tmp_path / f"keep-1/artifacts/{old}").exists()
    assert files.stored(f"keep-1/artifacts/{young}/9f86d081")


def test_a_url_of_a_secret_key_of_before_is_still_valid(files: PresignedFiles, base: str, settings: Any) -> None:
    stored_once(files, base)
    link = files.download_link(NAME, seconds=60, base=base)
    settings.SECRET_KEY_FALLBACKS, settings.SECRET_KEY = [settings.SECRET_KEY], "another-" + "y" * 50
    assert get(link).content == DATA
    settings.SECRET_KEY_FALLBACKS = []
    assert get(link).status_code == 403


@pytest.mark.parametrize(("seconds", "folder"), [(1, "keep-1"), (86_401, "keep-3"), (10**9, "keep-90")])
def test_a_file_is_kept_for_at_least_as_long_as_was_asked(seconds: int, folder: str) -> None:
    assert kept_folder(seconds) == folder


# --- S3 alone -------------------------------------------------------------------------------------------------------


def test_a_bucket_that_does_not_exist_is_a_failure_of_ours(cloud_services: Any) -> None:
    storage = PresignedObjects("hybrid-ci-cd-there-is-none")
    with pytest.raises(Unavailable):
        storage.upload_begin(NAME)
    with pytest.raises(Unavailable):
        list(storage.blocks(NAME, 0, 1))
