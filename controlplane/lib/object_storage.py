"""A storage for Django's setting STORAGES that keeps files in a bucket of S3.

It extends the storage of django-storages: it can read a part of a file, it can save a file that is made while it is
sent, it can link to a file, it raises `Unavailable` when S3 fails, and its calls end before API Gateway's timeout.
"""

import base64
import hashlib
import os
from collections.abc import Iterable, Iterator
from functools import cache

import boto3
from boto3.s3.transfer import TransferConfig
from botocore.config import Config
from botocore.exceptions import ClientError
from botocore.loaders import Loader, create_loader
from botocore.session import Session
from django.conf import settings
from django.core.files.base import File
from storages.backends.s3 import S3Storage

from controlplane.lib.aws import client_config, failures_named
from controlplane.lib.errors import Unavailable
from controlplane.lib.streams import ChunkReader

# For how many seconds a link to a file can be used.
_LINK_SECONDS = 300

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

    A hurried one makes one attempt at each call. It fails within 4 s when S3 does not answer.
    """

    def __init__(self, bucket_name: str, *, hurried: bool = False) -> None:
        config = _config(client_config(hurried=hurried))
        super().__init__(bucket_name=bucket_name, region_name=settings.AWS_REGION, client_config=config)

    def _create_session(self) -> boto3.Session:
        """A session for each thread. What they have read of AWS's services is the same."""
        own = Session()
        own.register_component("data_loader", _loader())
        return boto3.Session(botocore_session=own)

    def save(self, name: str, content: "File[bytes]", max_length: int | None = None) -> str:
        """Write the file and return its name."""
        with failures_named("S3"):
            saved: str = super().save(name, content, max_length)
        return saved

    def save_stream(self, name: str, chunks: Iterable[bytes], *, content_type: str = "text/plain") -> None:
        """Write the file whose content are the chunks, in parts, with at most two parts in memory.

        S3's checksum of the file is compared with that of the chunks. If anything fails, an earlier file of this name
        stays, and the parts that S3 has are deleted. Raises Unavailable, and what the chunks raise.
        """
        checksum = _Checksum()
        extra = {"ContentType": content_type, "ChecksumAlgorithm": "SHA256"}
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

    def link(self, name: str, *, filename: str) -> str | None:
        """A presigned URL from which anyone can download the file as `filename`, in UTF-8, for five minutes."""
        shown = {
            "ResponseContentType": "text/plain; charset=utf-8",
            "ResponseContentDisposition": f'attachment; filename="{filename}"',
        }
        with failures_named("S3"):
            url: str = self.connection.meta.client.generate_presigned_url(
                "get_object", Params={"Bucket": self.bucket_name, "Key": name, **shown}, ExpiresIn=_LINK_SECONDS
            )
        return url


@cache
def _loader() -> Loader:
    """The description of S3 is a megabyte of JSON, so the process reads it once."""
    return create_loader()


def _config(config: Config) -> Config:
    """The client's configuration, with how it names the bucket. AWS is addressed by the bucket's name in its region.

    botocore's presigned URLs would otherwise name S3's global endpoint, which redirects to the region. An emulator has
    no name for each bucket.
    """
    if os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL"):
        return config
    return config.merge(Config(s3={"addressing_style": "virtual"}))
