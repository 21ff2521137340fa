"""A bucket of S3 whose files agents and users send and fetch themselves, by presigned URLs."""

from base64 import b64decode
from collections.abc import Iterator, Mapping
from functools import cached_property
from typing import Any

from botocore.exceptions import ClientError

from controlplane.lib.aws import failures_named
from controlplane.lib.object_storage import ObjectStorage
from controlplane.lib.presigned import (
    CHECKSUM_HEADER,
    PARTS_MOST,
    UPLOAD_SECONDS,
    Link,
    Part,
    Stored,
    base64_text,
    checksum,
)

_MISSING = frozenset({"404", "NoSuchKey"})
_BLOCK = 256 * 1024
_UPLOAD_IS_GONE = "NoSuchUpload"


class PresignedObjects(ObjectStorage):
    """All methods raise Unavailable when S3 fails. The bucket's life cycle deletes what has expired.

    An `upload` is S3's id of an upload in parts, or None for a file that is sent at once.
    """

    @cached_property
    def hurried(self) -> "PresignedObjects":
        """The same bucket for a request that has no time for second attempts."""
        return PresignedObjects(self.bucket_name, hurried=True)

    def names(self, folder: str) -> list[str]:
        """The names of the files in the folder, of the first 1,000."""
        with failures_named("S3"):
            found = self._client.list_objects_v2(Bucket=self.bucket_name, Prefix=f"{folder}/")
        return [str(each["Key"]) for each in found.get("Contents", ())]

    def upload_begin(self, name: str) -> str:
        """Begin an upload in parts."""
        with failures_named("S3"):
            begun = self._client.create_multipart_upload(
                Bucket=self.bucket_name, Key=name, ChecksumAlgorithm="SHA256", ContentType=self.default_content_type
            )
        return str(begun["UploadId"])

    def upload_abort(self, name: str, upload: str) -> None:
        """Delete the parts of an upload that will not be completed, if they exist."""
        with failures_named("S3"):
            try:
                self._client.abort_multipart_upload(Bucket=self.bucket_name, Key=name, UploadId=upload)
            except ClientError as error:
                if error.response["Error"]["Code"] != _UPLOAD_IS_GONE:
                    raise

    def upload_numbers(self, name: str, upload: str | None) -> set[int]:
        """The numbers of the parts that are stored; all that there can be if the whole file is."""
        parts = self._parts(name, upload) if upload is not None else None
        if parts is None:
            return set(range(1, PARTS_MOST + 1)) if self.stored(name) else set()
        return {int(part["PartNumber"]) for part in parts}

    def upload_link(self, name: str, upload: str | None, number: int, part: Part, *, base: str) -> Link:  # noqa: ARG002
        """Where to PUT a part. S3 refuses any other length and content."""
        digest = base64_text(bytes.fromhex(part.sha256))
        asked: dict[str, Any] = {"ContentLength": part.size, "ChecksumSHA256": digest}
        if upload is not None:
            asked |= {"UploadId": upload, "PartNumber": number}
        operation = "put_object" if upload is None else "upload_part"
        headers = {"Content-Length": str(part.size), CHECKSUM_HEADER: digest}
        return Link(self._presigned(operation, name, UPLOAD_SECONDS, asked), headers)

    def upload_finish(self, name: str, upload: str | None, expected: Stored) -> bool:
        """Make the file of its parts. Returns whether it is there, with the expected size and checksum.

        If it is not, nothing has changed. Repeating it changes nothing.
        """
        parts = self._parts(name, upload) if upload is not None else None
        if upload is not None and parts is not None:
            found = [Part(int(part["Size"]), _digest(part)) for part in parts]
            if not found or Stored(sum(part.size for part in found), checksum(found)) != expected:
                return False
            with failures_named("S3"):
                try:
                    self._client.complete_multipart_upload(
                        Bucket=self.bucket_name,
                        Key=name,
                        UploadId=upload,
                        MultipartUpload={
                            "Parts": [
                                {name: part[name] for name in ("PartNumber", "ETag", "ChecksumSHA256")}
                                for part in parts
                            ]
                        },
                    )
                except ClientError as error:
                    # The same request was answered at the same moment.
                    if error.response["Error"]["Code"] != _UPLOAD_IS_GONE:
                        raise
        return self.stored(name) == expected

    def stored(self, name: str) -> Stored | None:
        """What the bucket has under this name; None for nothing."""
        with failures_named("S3"):
            try:
                found = self._client.head_object(Bucket=self.bucket_name, Key=name, ChecksumMode="ENABLED")
            except ClientError as error:
                if error.response["Error"]["Code"] not in _MISSING:
                    raise
                return None
        return Stored(int(found["ContentLength"]), str(found.get("ChecksumSHA256", "")))

    def download_link(self, name: str, *, seconds: int, base: str, filename: str | None = None) -> Link:  # noqa: ARG002
        """Where to GET the file; as an attachment with `filename`, of ASCII, for a browser."""
        asked = {"ResponseContentDisposition": f'attachment; filename="{filename}"'} if filename else {}
        return Link(self._presigned("get_object", name, seconds, asked))

    def blocks(self, name: str, first: int, end: int) -> Iterator[bytes]:
        """The bytes of the file from `first` up to, but not including `end`, in blocks. Raises FileNotFoundError."""
        with failures_named("S3"):
            try:
                found = self._client.get_object(Bucket=self.bucket_name, Key=name, Range=f"bytes={first}-{end - 1}")
            except ClientError as error:
                if error.response["Error"]["Code"] not in _MISSING:
                    raise
                raise FileNotFoundError(f"{name} is not in the bucket") from error
            yield from found["Body"].iter_chunks(_BLOCK)

    @property
    def _client(self) -> Any:
        return self.connection.meta.client

    def _presigned(self, operation: str, name: str, seconds: int, asked: Mapping[str, Any]) -> str:
        with failures_named("S3"):
            url: str = self._client.generate_presigned_url(
                operation, Params={"Bucket": self.bucket_name, "Key": name, **asked}, ExpiresIn=seconds
            )
        return url

    def _parts(self, name: str, upload: str) -> list[dict[str, Any]] | None:
        """The parts of an upload, up to 1,000; None for an upload that was completed or aborted."""
        with failures_named("S3"):
            try:
                found = self._client.list_parts(Bucket=self.bucket_name, Key=name, UploadId=upload, MaxParts=PARTS_MOST)
            except ClientError as error:
                if error.response["Error"]["Code"] != _UPLOAD_IS_GONE:
                    raise
                return None
        return list(found.get("Parts", ()))


def _digest(part: Mapping[str, Any]) -> str:
    """A part's SHA-256 as S3 checked it, in hexadecimal digits."""
    return b64decode(part.get("ChecksumSHA256", "")).hex()
