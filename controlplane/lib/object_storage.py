"""A storage for Django's setting STORAGES that keeps files in a bucket of S3.

It extends the storage of django-storages in three ways: it can read a part of a file, it raises `Unavailable` when S3
fails, and its calls end before API Gateway's timeout.
"""

from botocore.exceptions import ClientError
from django.conf import settings
from django.core.files.base import File
from storages.backends.s3 import S3Storage

from controlplane.lib.aws import client_config, failures_named

_MISSING = frozenset({"404", "NoSuchKey"})
_OFFSET_TOO_LARGE = "InvalidRange"


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
