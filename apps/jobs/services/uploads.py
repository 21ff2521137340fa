"""Uploads of archives: what artifacts and caches have in common."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from django.conf import settings
from django.core.files.storage import storages

from apps.jobs.models import Archive
from controlplane.lib.error_codes import ErrorCode
from controlplane.lib.errors import Conflict, InvalidInput, TooLarge
from controlplane.lib.presigned import PART_LEAST, SINGLE_BELOW, Link, Part, Stored, checksum

# An answer names so many parts, so that their URLs are used before they expire.
_LINKS_AT_ONCE = 100
# How many artifacts, and how many caches, an attempt may store.
MOST_OF_AN_ATTEMPT = 20


@dataclass(frozen=True)
class ArchiveReport:
    """An archive as an agent announces it, in parts. `sha256` is that of the whole."""

    size: int
    sha256: str
    parts: Sequence[Part]
    media: str

    @property
    def checksum(self) -> str:
        """What object storage will say about its parts."""
        return checksum(self.parts)

    def is_that_of(self, archive: Archive) -> bool:
        """Whether the record is about the same bytes in the same parts."""
        return (archive.size, archive.sha256, archive.checksum) == (self.size, self.sha256, self.checksum)


@dataclass(frozen=True)
class PartLink:
    """Where to send a part."""

    part: int
    link: Link


def archive_check(report: ArchiveReport, *, limit: int) -> None:
    """Raises TooLarge above `limit` bytes, and InvalidInput if object storage could not take these parts."""
    if report.size > limit:
        raise TooLarge(
            f"The archive has {report.size:,} bytes, and {limit:,} are allowed. Store fewer files, or ask an operator.",
            code=ErrorCode.ARCHIVE_TOO_LARGE,
        )
    if sum(part.size for part in report.parts) != report.size:
        raise InvalidInput.field("parts", "must have as many bytes together as size says")
    if len(report.parts) == 1 and report.size >= SINGLE_BELOW:
        raise InvalidInput.field("parts", f"must be several from {SINGLE_BELOW:,} bytes on")
    if len(report.parts) == 1 and report.parts[0].sha256 != report.sha256:
        raise InvalidInput.field("parts[0].sha256", "must be the sha256 of the archive, since it is the only part")
    for number, part in enumerate(report.parts[:-1]):
        if part.size < PART_LEAST:
            raise InvalidInput.field(f"parts[{number}].size", f"must be at least {PART_LEAST:,}")


def archive_digest(*texts: object) -> str:
    """32 hexadecimal digits that differ for other texts."""
    return hashlib.sha256("\n".join(map(str, texts)).encode()).hexdigest()[:32]


def stored_name(folder: str, owner: str, report: ArchiveReport, *texts: object) -> str:
    """Where the bytes are stored. Other bytes, or other parts, have another name, so that no URL replaces anything."""
    return f"{folder}/{owner}/{archive_digest(*texts, report.sha256, report.checksum)}"


def upload_begin(report: ArchiveReport, name: str) -> str | None:
    """Begin an upload in parts; None for an archive that is sent at once."""
    upload: str | None = _storage().upload_begin(name) if len(report.parts) > 1 else None
    return upload


def upload_abort(archive: Archive) -> None:
    """Delete what is stored of an archive whose upload will not be completed."""
    if archive.upload:
        _storage().upload_abort(archive.stored_name, archive.upload)


def upload_links(report: ArchiveReport, archive: Archive, *, base: str) -> list[PartLink]:
    """Where to send the first of the parts that are not stored yet. `base` is the control plane's own URL."""
    name, upload = str(archive.stored_name), archive.upload
    there = _storage().upload_numbers(name, upload)
    missing = [(number, part) for number, part in enumerate(report.parts, 1) if number not in there]
    return [
        PartLink(number, _storage().upload_link(name, upload, number, part, base=base))
        for number, part in missing[:_LINKS_AT_ONCE]
    ]


def upload_finish(archive: Archive) -> None:
    """Make sure that all bytes are stored. Raises Conflict with the code ``upload_incomplete``."""
    expected = Stored(int(archive.size), str(archive.checksum))
    if not _storage().upload_finish(archive.stored_name, archive.upload, expected):
        raise Conflict(
            "Object storage does not have all parts of the archive. Ask which are missing, and send them.",
            code=ErrorCode.UPLOAD_INCOMPLETE,
        )


def stored_files_expire(*, seconds: float) -> int:
    """Delete expired files where no life cycle of a bucket does; returns their number."""
    return 0 if settings.ARTIFACT_BUCKET else int(_storage().expired_delete(seconds=seconds))


def archive_attributes(report: ArchiveReport) -> Mapping[str, Any]:
    """The attributes of a record that the report gives."""
    return {"size": report.size, "sha256": report.sha256, "checksum": report.checksum, "media": report.media}


def _storage() -> Any:
    return storages["artifacts"]
