"""Files in a bucket of S3, for the storages that Django's settings name.

It is django-storages' own, but for three things: a piece of a file is read without the rest of it, what S3 cannot do
just now is `Unavailable`, and nothing is waited for longer than a gateway waits.
"""

from botocore.exceptions import ClientError
from django.conf import settings
from django.core.files.base import File
from storages.backends.s3 import S3Storage

from controlplane.lib.aws import client_config, failures_named

_MISSING = frozenset({"404", "NoSuchKey"})
_BEHIND_THE_END = "InvalidRange"


class ObjectStorage(S3Storage):  # type: ignore[misc]
    """A bucket. Names are not made unique: saving under a name replaces what is there, whole or not at all.

    Every method raises Unavailable when S3 fails, and those that read FileNotFoundError for what is not there. That is
    told apart by the right to list the bucket: without it, S3 refuses what is not there.
    """

    def __init__(self, bucket_name: str) -> None:
        super().__init__(bucket_name=bucket_name, region_name=settings.AWS_REGION, client_config=client_config())

    def save(self, name: str, content: "File[bytes]", max_length: int | None = None) -> str:
        """Put `content` there and return its name."""
        with failures_named("S3"):
            saved: str = super().save(name, content, max_length)
        return saved

    def delete(self, name: str) -> None:
        """Delete it if it is there."""
        with failures_named("S3"):
            super().delete(name)

    def exists(self, name: str) -> bool:
        """Whether it is there."""
        with failures_named("S3"):
            there: bool = super().exists(name)
        return there

    def size(self, name: str) -> int:
        """In bytes."""
        with failures_named("S3"):
            size: int = super().size(name)
        return size

    def read_range(self, name: str, offset: int, limit: int) -> tuple[bytes, int]:
        """At most `limit` bytes (at least one) from `offset`, and the size of the whole; by one request."""
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
                if code != _BEHIND_THE_END:
                    raise
            else:
                return data, int(found["ContentRange"].rpartition("/")[2])
        return b"", self.size(name)
