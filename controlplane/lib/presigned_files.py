"""A directory whose files agents and users send and fetch by URLs like those of S3, which this control plane serves.

A file is a folder of its parts, each named by its number and SHA-256, so that nothing is copied when an upload is
complete. `controlplane.http.stored_files` takes the requests.
"""

import hashlib
import os
import re
import shutil
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import datetime, timedelta
from pathlib import Path
from typing import BinaryIO
from urllib.parse import urlencode

from django.core import signing
from django.http import UnreadablePostError

from controlplane.lib import clock
from controlplane.lib.errors import Forbidden, InvalidInput, Unavailable
from controlplane.lib.file_storage import FileStorage
from controlplane.lib.ids import id_beginning
from controlplane.lib.presigned import (
    CHECKSUM_HEADER,
    KEPT_DAYS,
    UPLOAD_DAYS,
    UPLOAD_SECONDS,
    Link,
    Part,
    Stored,
    base64_text,
    checksum,
)

# The path of the endpoint, below the control plane's own.
PREFIX = "files/"
_PART = re.compile(r"([0-9]{4})-([0-9a-f]{64})")
_BLOCK = 256 * 1024


class PresignedFiles(FileStorage):
    """Has the methods of `PresignedObjects`. They raise Unavailable when the file system fails.

    `base` is the absolute URL of the control plane, with a slash at its end.
    """

    def save_stream(self, name: str, chunks: Iterable[bytes]) -> None:
        """Write the file whose content are the chunks, as `FileStorage` does."""
        with _failures_named():
            super().save_stream(name, chunks)

    def upload_begin(self, name: str) -> str:  # noqa: ARG002
        """Begin an upload in parts: there is nothing to do."""
        return "parts"

    def upload_abort(self, name: str, upload: str) -> None:  # noqa: ARG002
        """Delete the parts of an upload that will not be completed."""
        self.delete(name)

    def upload_numbers(self, name: str, upload: str | None) -> set[int]:  # noqa: ARG002
        """The numbers of the parts that are stored."""
        return {number for number, _, _ in self._parts(name)}

    def upload_link(self, name: str, upload: str | None, number: int, part: Part, *, base: str) -> Link:  # noqa: ARG002
        """Where to PUT a part. Any other length and content is refused."""
        digest = base64_text(bytes.fromhex(part.sha256))
        query = {"part": str(number), "expires": str(clock.epoch() + UPLOAD_SECONDS)}
        signed = _Signed("PUT", name, query, size=str(part.size), digest=digest)
        return Link(signed.url(base), {"Content-Length": str(part.size), CHECKSUM_HEADER: digest})

    def upload_finish(self, name: str, upload: str | None, expected: Stored) -> bool:  # noqa: ARG002
        """Whether all parts are there, with the expected size and checksum."""
        return self.stored(name) == expected

    def stored(self, name: str) -> Stored | None:
        """What the directory has under this name; None for nothing."""
        with _failures_named():
            parts = [Part(path.stat().st_size, digest) for _, digest, path in self._parts(name)]
        return Stored(sum(part.size for part in parts), checksum(parts)) if parts else None

    def download_link(self, name: str, *, seconds: int, base: str, filename: str | None = None) -> Link:
        """Where to GET the file; as an attachment with `filename`, of ASCII, for a browser."""
        query = {"expires": str(clock.epoch() + seconds), **({"filename": filename} if filename else {})}
        return Link(_Signed("GET", name, query).url(base))

    def delete(self, name: str) -> None:
        """Delete the file if it exists."""
        path = Path(self.path(name))
        with _failures_named(), suppress(FileNotFoundError):
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink()

    def request_check(
        self, method: str, name: str, query: Mapping[str, str], *, size: str = "", digest: str = ""
    ) -> None:
        """Raises Forbidden unless `upload_link` or `download_link` made the URL of this request, and it is still valid.

        `size` and `digest` are the headers Content-Length and x-amz-checksum-sha256 of an upload.
        """
        given = dict(query)
        signature = given.pop("signature", "")
        if not _Signed(method, name, given, size=size, digest=digest).has(signature):
            raise Forbidden("The URL, its headers or the length of the body are not those that were signed.")
        # Only a signed time is read, so it is a number.
        if int(given["expires"]) < clock.epoch():
            raise Forbidden("The URL has expired. Ask for a new one.")

    def part_write(self, name: str, number: int, part: Part, source: BinaryIO) -> None:
        """Store the part whose bytes `source` has. It appears as a whole, or not at all.

        Raises InvalidInput if the bytes are not those that were announced, and Unavailable if they cannot be stored.
        """
        folder = Path(self.path(name))
        target = folder / f"{number:04d}-{part.sha256}"
        with _failures_named():
            folder.mkdir(parents=True, exist_ok=True)
            descriptor, unfinished = tempfile.mkstemp(dir=folder, prefix=".")
            try:
                with os.fdopen(descriptor, "wb") as file:
                    if _copied(source, file, part.size) != part.sha256:
                        raise InvalidInput.field(CHECKSUM_HEADER, "must be the SHA-256 of the body, in base 64")
                    file.flush()
                    os.fsync(file.fileno())
                Path(unfinished).replace(target)
            except BaseException:
                Path(unfinished).unlink()
                raise

    def blocks(self, name: str, first: int, end: int) -> Iterator[bytes]:
        """The bytes of the file from `first` up to, but not including `end`, in blocks. Raises FileNotFoundError."""
        at = 0
        for _, _, path in self._parts(name):
            size = path.stat().st_size
            if at + size > first and at < end:
                with path.open("rb") as file:
                    file.seek(max(0, first - at))
                    left = min(end, at + size) - max(first, at)
                    while left and (block := file.read(min(_BLOCK, left))):
                        left -= len(block)
                        yield block
                    if left:
                        raise FileNotFoundError(f"a part of {name} is shorter than it was")
            at += size

    def expired_delete(self, *, seconds: float) -> int:
        """Delete the files that have been in their folder for longer than its name says. Returns their number.

        It takes no longer than `seconds`, and the next call goes on.
        """
        deadline = time.monotonic() + seconds
        deleted = 0
        for days in KEPT_DAYS:
            until = clock.now() - timedelta(days=days + UPLOAD_DAYS)
            for path in self._files(Path(self.path(f"keep-{days}")), until):
                if time.monotonic() > deadline:
                    return deleted
                with suppress(FileNotFoundError):
                    if path.stat().st_mtime < until.timestamp():
                        self.delete(str(path.relative_to(self.location)))
                        deleted += 1
        return deleted

    def _files(self, folder: Path, until: datetime) -> Iterator[Path]:
        """The files in the folder of one of `KEPT_DAYS` that may be as old. Empty folders are removed.

        They are two folders deeper. The name of the inner one is the id of a run or a job, which is older than its
        files; so only the oldest are looked at.
        """
        for kind in _entries(folder):
            for owner in _entries(kind):
                if owner.name > id_beginning(until):
                    break
                yield from _entries(owner)
                with suppress(OSError):
                    owner.rmdir()

    def _parts(self, name: str) -> list[tuple[int, str, Path]]:
        """Number, SHA-256 and path of each stored part, in their order."""
        found = [(_PART.fullmatch(path.name), path) for path in _entries(Path(self.path(name)))]
        return sorted((int(match[1]), match[2], path) for match, path in found if match)


class _Signed:
    """A request and its signature."""

    def __init__(self, method: str, name: str, query: Mapping[str, str], *, size: str = "", digest: str = "") -> None:
        self._path = f"{PREFIX}{name}"
        self._query = dict(sorted(query.items()))
        self._text = "\n".join([method, self._path, urlencode(self._query), size, digest])
        self._signer = signing.Signer(salt="presigned URL of a stored file")

    def url(self, base: str) -> str:
        return f"{base}{self._path}?{urlencode({**self._query, 'signature': self._signer.signature(self._text)})}"

    def has(self, signature: str) -> bool:
        """Whether it is this request's, by one of the secret keys. The comparison takes constant time."""
        try:
            self._signer.unsign(f"{self._text}:{signature}")
        except signing.BadSignature:
            return False
        return True


@contextmanager
def _failures_named() -> Iterator[None]:
    """Raise Unavailable when the file system fails in this block, and not when a client's connection does."""
    try:
        yield
    except (FileNotFoundError, UnreadablePostError):
        raise
    except OSError as error:
        raise Unavailable(
            f"The directory of artifacts cannot be used: {error.strerror or type(error).__name__}. Try again."
        ) from error


def _entries(folder: Path) -> list[Path]:
    """What is in the folder, in the order of names; nothing if it does not exist or is no folder."""
    try:
        return sorted(folder.iterdir())
    except (FileNotFoundError, NotADirectoryError):
        return []


def _copied(source: BinaryIO, file: BinaryIO, size: int) -> str:
    """Copy `size` bytes and return their SHA-256. Raises InvalidInput if there are fewer."""
    digest = hashlib.sha256()
    left = size
    while left:
        block = source.read(min(_BLOCK, left))
        if not block:
            raise InvalidInput("The body is shorter than its Content-Length.")
        digest.update(block)
        file.write(block)
        left -= len(block)
    return digest.hexdigest()
