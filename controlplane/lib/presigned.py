"""What the two storages with presigned URLs have in common: parts, links, checksums, and how long files are kept.

Such a storage takes and gives files without this process: it makes URLs that need no other credentials. A URL for an
upload binds the length and the SHA-256 of the content, so that it stores one content and no other.
"""

import base64
import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

# The header that S3 has for the SHA-256 of a body, in base 64. Our own endpoint takes the same.
CHECKSUM_HEADER = "x-amz-checksum-sha256"
# For how many seconds a URL can be used: for a part, and for a download by an agent or by a user.
UPLOAD_SECONDS, DOWNLOAD_SECONDS, LINK_SECONDS = 3600, 900, 300

# The sizes of parts, in bytes: S3 takes no smaller one but the last, and an archive below the second is sent at once.
PART_LEAST, SINGLE_BELOW, PART_MOST = 5 * 1024 * 1024, 64 * 1024 * 1024, 128 * 1024 * 1024
# S3 lists so many parts in an answer.
PARTS_MOST = 1_000

# After so many days in its folder a file is deleted: by the bucket's life cycle, or by the sweep.
KEPT_DAYS = (1, 3, 7, 14, 30, 90)
# An upload may take so many days, and its file counts from the beginning of the upload.
UPLOAD_DAYS = 2


class Part(NamedTuple):
    """The bytes of a part and their SHA-256, in hexadecimal digits."""

    size: int
    sha256: str


@dataclass(frozen=True)
class Link:
    """A request that anyone may make who knows its URL. Its text has no URL, so that none is in a log."""

    url: str = field(repr=False)
    headers: Mapping[str, str] = field(default_factory=dict)


class Stored(NamedTuple):
    """What a storage has under a name: how many bytes, and their `checksum`."""

    size: int
    checksum: str


def checksum(parts: Iterable[Part]) -> str:
    """S3's checksum of a file: of one part its SHA-256; of several that of the parts' digests, and their number."""
    digests = [bytes.fromhex(part.sha256) for part in parts]
    if len(digests) == 1:
        return base64_text(digests[0])
    return f"{base64_text(hashlib.sha256(b''.join(digests)).digest())}-{len(digests)}"


def base64_text(data: bytes) -> str:
    """The bytes in base 64, as S3's headers have them."""
    return base64.b64encode(data).decode()


def kept_folder(seconds: int) -> str:
    """The folder whose files are kept for at least so many seconds, up to 90 days."""
    days = next((days for days in KEPT_DAYS if days * 86_400 >= seconds), KEPT_DAYS[-1])
    return f"keep-{days}"
