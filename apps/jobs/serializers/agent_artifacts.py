"""What agents send about artifacts and caches, and what they are answered. The bytes never pass through these requests.

An upload, of an artifact or of a cache, goes like this, and each request may be repeated at any time:

1. The agent describes the archive. The answer names up to 100 parts that are not stored yet, each with a presigned
   URL.
2. The agent sends each of these parts by `method` to `url` with exactly the `headers`, in any order and in parallel.
   Any status from 200 to 299 means that the part is stored. 403: the URL has expired; go on with 1.
3. The agent goes back to 1 until `uploads` is empty, and then completes the upload. That checks the size and the
   SHA-256 of each part. A 409 with the code ``upload_incomplete`` means that parts are missing: go on with 1.

An agent that was restarted begins at 1 with the same archive, and sends only what is missing. A URL is a secret: it
must not be in a log or in a message. It is absolute, and its host may be another than the control plane's; requests to
it are not signed by the agent and follow no redirect.
"""

import re

from controlplane.http.fields import Choice, Flag, ListOf, MapOf, Object, Text, WholeNumber, nullable, optional
from controlplane.lib.presigned import PART_MOST, PARTS_MOST

# The most files of an archive that its listing names.
FILES_MOST = 10_000
# The most needed jobs whose artifacts one request asks for.
JOBS_MOST = 1_000
RESTORE_KEYS_MOST = 20

MEDIA = ("application/x-tar+gzip", "application/x-tar+zstd")
# An artifact lasts for 30 days unless the job says otherwise.
EXPIRE_SECONDS, EXPIRE_LEAST, EXPIRE_MOST = 30 * 86_400, 3_600, 90 * 86_400

_DIGEST = Text(64, pattern=re.compile("[0-9a-f]{64}"), form="a SHA-256 of 64 hexadecimal digits")
_PLAIN = re.compile(r"[^\x00-\x1f\x7f]+")
_NAME = Text(200, pattern=_PLAIN, form="a text without control characters")
_KEY = Text(500, pattern=_PLAIN, form="a text without control characters")
_MEDIA = Choice(MEDIA)
_SIZE = WholeNumber(1)

PART = Object(
    "ArchivePart", "A part of an archive.", {"size": WholeNumber(1, PART_MOST, about="Bytes."), "sha256": _DIGEST}
)

FILE = Object(
    "ArchiveFile",
    "A file of an archive.",
    {
        "path": Text(1024, empty=False, about="Relative to the workspace, with / between its parts."),
        "size": WholeNumber(),
        "mode": WholeNumber(0, 0o7777, about="The permission bits, as a decimal number."),
    },
)

_ARCHIVE = {
    "size": WholeNumber(1, about="The bytes of the whole archive."),
    "sha256": _DIGEST,
    "parts": ListOf(PART, PARTS_MOST, about="In their order: one below 64 MiB, else parts of at least 5 MiB."),
    "media": _MEDIA,
}

ARTIFACT = Object(
    "ArtifactReport",
    "An artifact that the attempt stores.",
    {
        "name": _NAME,
        **_ARCHIVE,
        "files": ListOf(FILE, FILES_MOST, about="For the listing. The whole request may have 1 MiB."),
        "files_total": optional(WholeNumber(about="How many files the archive has."), null=True),
        "expire_in": optional(
            WholeNumber(EXPIRE_LEAST, EXPIRE_MOST, about="For how many seconds the artifact is kept."),
            default=EXPIRE_SECONDS,
        ),
    },
)

UPLOAD = Object(
    "Upload",
    "Where to send a part, and with which headers.",
    {"part": WholeNumber(1, PARTS_MOST), "method": Choice(("PUT",)), "url": Text(), "headers": MapOf(Text())},
)

_UPLOADS = ListOf(UPLOAD, about="Parts that are not stored yet, at most 100. If it is empty, complete the upload.")

ARTIFACT_ANSWER = Object("ArtifactAnswer", "Where the artifact is sent.", {"artifact_id": Text(), "uploads": _UPLOADS})

# The storage itself says which parts it has, so the agent's list of them is ignored.
COMPLETE = Object("UploadEnd", "All parts are sent.", {})
COMPLETE_ANSWER = Object("UploadEndAnswer", "The upload is complete.", {})

FETCH = Object(
    "ArtifactFetch",
    "The jobs of the same run whose artifacts this job takes. It must need them.",
    {"jobs": ListOf(_NAME, JOBS_MOST, about="Names of nodes.")},
)

_DOWNLOAD = {
    "size": _SIZE,
    "sha256": _DIGEST,
    "media": _MEDIA,
    "url": Text(about="For 15 minutes. It takes Range. Ask again when it answers 403."),
    "headers": MapOf(Text(), about="To be sent with the request."),
}

FETCHED = Object("ArtifactDownload", "An artifact to download.", {"name": Text(), "node": Text(), **_DOWNLOAD})
FETCH_ANSWER = Object("ArtifactFetchAnswer", "The artifacts of these jobs.", {"artifacts": ListOf(FETCHED)})

RESTORE = Object(
    "CacheRestore",
    "The cache with exactly this key, else the newest whose key begins with the longest restore key.",
    {"key": _KEY, "restore_keys": optional(ListOf(_KEY, RESTORE_KEYS_MOST), default=[])},
)

RESTORE_ANSWER = Object(
    "CacheRestoreAnswer",
    "The cache that was found. Without one, `hit` is none and the other members are null.",
    {
        "hit": Choice(("exact", "partial", "none")),
        "key": nullable(Text(about="The key of the cache that was found.")),
        **{name: nullable(field) for name, field in _DOWNLOAD.items() if name != "headers"},
        "headers": _DOWNLOAD["headers"],
    },
)

SAVE = Object(
    "CacheReport", "A cache that the attempt stores, if there is none with this key.", {"key": _KEY, **_ARCHIVE}
)

SAVE_ANSWER = Object(
    "CacheAnswer",
    "Where the cache is sent. If `exists`, there is one with this key already: nothing is to be sent.",
    {"exists": Flag(), "cache_id": nullable(Text()), "uploads": _UPLOADS},
)
