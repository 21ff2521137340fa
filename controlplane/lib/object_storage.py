"""A storage for Django's setting STORAGES that keeps files in a bucket of S3.

It extends the storage of django-storages in four ways: it can read a part of a file, it can save a file that is made
while it is sent, it raises `Unavailable` when S3 fails, and its calls end before API Gateway's timeout.
"""

import base64
import hashlib
from collections.abc import Iterable, Iterator

from boto3.s3.transfer import TransferConfig
from botocore.exceptions import ClientError
from django.conf import settings
from django.core.files.base import File
from storages.backends.s3 import S3Storage

from controlplane.lib.aws import client_config, failures_named
from controlplane.lib.errors import Unavailable
from controlplane.lib.streams import ChunkReader

# S3 takes parts from 5 MB. Without threads, no more than the current part and the next are in memory.
_PART_BYTES = 8 * 1024 * 1024
_IN_PARTS = TransferConfig(multipart_threshold=_PART_BYTES, multipart_chunksize=_PART_BYTES, use_threads=False)

_MISSING = frozenset({"404", "NoSuchKey"})
_OFFSET_TOO_LARGE = "InvalidRange"


class _Checksum:
    """The checksum that S3 has of a file in parts: the digest of the parts' digests, and their number."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []
        self._part = hashlib.sha256()
        self._room = _PART_BYTES

    def following(self, chunks: Iterable[bytes]) -> Iterator[bytes]:
        """The chunks, which are added to the checksum."""
        for chunk in chunks:
            rest = memoryview(chunk)
            while rest:
                self._part.update(rest[: self._room])
                taken = min(len(rest), self._room)
                self._room -= taken
                rest = rest[taken:]
                if not self._room:
                    self._parts.append(self._part.digest())
                    self._part, self._room = hashlib.sha256(), _PART_BYTES
            yield chunk

    def value(self) -> str:
        """The checksum of all chunks so far, in the form of S3's header."""
        if not self._parts:
            return base64.b64encode(self._part.digest()).decode()
        parts = [*self._parts, self._part.digest()] if self._room < _PART_BYTES else self._parts
        return f"{base64.b64encode(hashlib.sha256(b''.join(parts)).digest()).decode()}-{len(parts)}"


class ObjectStorage(S3Storage):  # type: ignore[misc]
    """A bucket. Saving a file replaces an existing file of the same name atomically.

    All methods raise Unavailable when S3 fails. Methods that read raise FileNotFoundError when the file does not exist.
    That needs the permission to list the bucket: without it, S3 denies access to a missing file.
    """

    def __init__(self, bucket_name: str) -> None:
        super().__init__(bucket_name=bucket_name, region_name=settings.AWS_REGION, client_config=client_config())

    def save(self, name: str, content: "File[bytes]", max_length: int | None = None) -> str:
        """Write the file and return its name."""
        with failures_named("S3"):
            saved: str = super().save(name, content, max_length)
        return saved

    def save_stream(self, name: str, chunks: Iterable[bytes]) -> None:
        """Write the file whose content are the chunks, in parts, with at most two parts in memory.

        S3's checksum of the file is compared with that of the chunks. If anything fails, an earlier file of this name
        stays, and the parts that S3 has are deleted. Raises Unavailable, and what the chunks raise.
        """
        checksum = _Checksum()
        extra = {"ContentType": "text/plain", "ChecksumAlgorithm": "SHA256"}
        with failures_named("S3"):
            file = self.bucket.Object(name)
            file.upload_fileobj(ChunkReader(checksum.following(chunks)), ExtraArgs=extra, Config=_IN_PARTS)
            stored = self.connection.meta.client.head_object(
                Bucket=self.bucket_name, Key=name, ChecksumMode="ENABLED"
            ).get("ChecksumSHA256")
        if stored != checksum.value():
            raise Unavailable("AWS (S3) has stored other content than was sent. Try again.")

    def delete(self, name: str) -> None:
        """Delete the file if it exists."""
        with failures_named("S3"):
            super().delete(name)

    def exists(self, name: str) -> bool:
        """Whether the file exists."""
        with failures_named("S3"):
            exists: bool = super().exists(name)
        return exists

    def size(self, name: str) -> int:
        """The size of the file in bytes."""
        with failures_named("S3"):
            size: int = super().size(name)
        return size

    def read_range(self, name: str, offset: int, limit: int) -> tuple[bytes, int]:
        """At most `limit` bytes (at least 1) from `offset`, and the size of the whole file, by one request."""
        client = self.connection.meta.client
        with failures_named("S3"):
            try:
                found = client.get_object(
                    Bucket=self.bucket_name, Key=name, Range=f"bytes={offset}-{offset + limit - 1}"
                )
                data: bytes = found["Body"].read()
            except ClientError as error:
                code = error.response["Error"]["Code"]
                if code in _MISSING:
                    raise FileNotFoundError(f"{name} is not in the bucket") from error
                if code != _OFFSET_TOO_LARGE:
                    raise
            else:
                return data, int(found["ContentRange"].rpartition("/")[2])
        return b"", self.size(name)
