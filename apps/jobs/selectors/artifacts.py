"""Reading artifacts. All reads are consistent."""

import json
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from django.conf import settings
from django.core.files.storage import storages

from apps.jobs.models import Artifact, Job
from apps.jobs.selectors.job_origin import needed_jobs
from apps.jobs.selectors.jobs import job_get
from controlplane.lib import clock
from controlplane.lib.compression import gunzip
from controlplane.lib.error_codes import ErrorCode
from controlplane.lib.errors import Conflict, NotFound, Unavailable
from controlplane.lib.presigned import DOWNLOAD_SECONDS, LINK_SECONDS, Link
from controlplane.lib.zip_stream import ZipEntry
from controlplane.nosql.listing import Listing, place_decode

__all__ = [
    "Artifact",
    "ArtifactPage",
    "FetchedArtifact",
    "artifact_filename",
    "artifact_files",
    "artifact_get",
    "artifact_link",
    "artifacts_needed",
    "artifacts_of_job",
    "files_name",
    "job_artifacts",
    "run_artifacts",
    "run_artifacts_all",
    "zip_entries",
    "zip_fits",
    "zip_fits_response",
    "zip_too_large",
]

# The listing of an archive's files has at most so many bytes.
_FILES_BYTES = 2 * 1024 * 1024
_ENDINGS = {"application/x-tar+gzip": ".tar.gz", "application/x-tar+zstd": ".tar.zst"}
_UNSAFE = re.compile(r"[^A-Za-z0-9._()+-]+")
# Up to so many needed jobs are asked for one by one; of more, the whole run is read.
_ASKED_SINGLY = 8

# A gateway takes no larger response, and what each entry of a zip adds has room below it.
_ZIP_THROUGH_GATEWAY = 4_000_000
# A function makes no larger zip before the gateway's timeout, nor one of more archives: docs/operations.md.
_ZIP_IN_BUCKET, _ZIP_ARTIFACTS = 250_000_000, 200

_BY_RUN = Listing(Artifact, None)


@dataclass(frozen=True)
class ArtifactPage:
    """A page of a run's artifacts, by job and attempt. It may be shorter than its limit and still have a next one."""

    artifacts: list[Artifact]
    next_cursor: str | None


@dataclass(frozen=True)
class FetchedArtifact:
    """An artifact of a needed job, under the node's name in the run that takes it."""

    node: str
    artifact: Artifact

    def link(self, *, base: str) -> Link:
        """Where the agent fetches it."""
        return _link(self.artifact, seconds=DOWNLOAD_SECONDS, base=base)


def files_name(stored_name: str) -> str:
    """The name of the listing of an archive's files in object storage."""
    return f"{stored_name}-files"


def artifact_get(artifact_id: str, *, deleted: bool = False) -> Artifact:
    """The artifact; with `deleted` also one that is being deleted. Raises NotFound. One read."""
    run_id, _, entry = artifact_id.partition("-")
    artifact = Artifact.find(run_id, entry)
    if artifact is None or not (artifact.is_available or (deleted and artifact.deleted_at)):
        raise NotFound(
            "There is no such artifact, or it has expired or was deleted.", code=ErrorCode.ARTIFACT_NOT_FOUND
        )
    return artifact


def run_artifacts(run_id: str, *, limit: int = 50, cursor: str | None = None) -> ArtifactPage:
    """A page of the run's artifacts. Raises InvalidInput for a cursor that no page gave."""
    scope = f"artifacts:{run_id}"
    page = _BY_RUN.page(
        [run_id], limit=limit, keep=lambda row: row.is_available, start=place_decode(scope, cursor), look_at_most=2_000
    )
    return ArtifactPage(page.records, page.next_cursor(scope))


def run_artifacts_all(run_id: str) -> list[Artifact]:
    """All artifacts of the run. One query, of which DynamoDB may need several calls."""
    return _available(run_id, "")


def job_artifacts(job_id: str) -> list[Artifact]:
    """The artifacts of all attempts of the job, at most some dozens. Two reads. Raises NotFound."""
    return artifacts_of_job(job_get(job_id))


def artifacts_of_job(job: Job) -> list[Artifact]:
    """The artifacts of all attempts of the job. One read."""
    return _available(str(job.run_id), f"{job.job_id}-")


def artifact_files(artifact: Artifact) -> list[dict[str, Any]]:
    """The archive's files, up to 10,000: path, size and mode. Raises NotFound, and Unavailable. No record is read."""
    name = files_name(str(artifact.stored_name))
    try:
        data, _ = storages["artifacts"].read_range(name, 0, _FILES_BYTES)  # type: ignore[attr-defined]
    except FileNotFoundError:
        raise NotFound("The artifact has expired or was deleted.", code=ErrorCode.ARTIFACT_NOT_FOUND) from None
    files: list[dict[str, Any]] = json.loads(gunzip(data, limit=_FILES_BYTES))
    return files


def artifact_link(artifact: Artifact, *, base: str) -> Link:
    """Where a browser downloads it, for five minutes."""
    return _link(artifact, seconds=LINK_SECONDS, base=base, filename=artifact_filename(artifact))


def artifact_filename(artifact: Artifact) -> str:
    """A name for a file, of safe ASCII characters: node, name and the archive's kind."""
    ending = _ENDINGS.get(str(artifact.media), ".tar")
    texts = dict.fromkeys(_UNSAFE.sub("-", text).strip(".-") for text in (str(artifact.node), str(artifact.name)))
    return ("-".join(filter(None, texts)) or "artifact")[:150] + ending


def _blocks(artifact: Artifact, storage: Any) -> Iterator[bytes]:
    """The bytes of the archive. Raises NotFound, and Unavailable, also if storage has fewer of them."""
    left = int(artifact.size)
    try:
        for block in storage.blocks(artifact.stored_name, 0, left):
            left -= len(block)
            yield block
    except FileNotFoundError:
        raise NotFound("The artifact has expired or was deleted.", code=ErrorCode.ARTIFACT_NOT_FOUND) from None
    if left:
        raise Unavailable("Object storage does not have all bytes of an artifact. Download the others one by one.")


def zip_entries(artifacts: Iterable[Artifact], storage: Any = None) -> Iterator[ZipEntry]:
    """The archives as entries of a zip, each under a name of its own. `storage` is the one of STORAGES otherwise."""
    used: dict[str, int] = {}
    for artifact in artifacts:
        name = filename = artifact_filename(artifact)
        while name in used:
            used[filename] += 1
            name = f"{used[filename]}-{filename}"
        used[name] = 1
        blocks = _blocks(artifact, storage or storages["artifacts"])
        yield ZipEntry(name, clock.parse_timestamp(str(artifact.stored_at)), blocks)


def zip_fits_response(artifacts: Sequence[Artifact]) -> bool:
    """Whether a zip of the artifacts can be a response through a gateway."""
    return _size(artifacts) <= _ZIP_THROUGH_GATEWAY and len(artifacts) <= _ZIP_ARTIFACTS


def zip_fits(artifacts: Sequence[Artifact]) -> bool:
    """Whether behind a gateway there is a zip of the artifacts: as a response or, on AWS, in the bucket."""
    fits_bucket = _size(artifacts) <= _ZIP_IN_BUCKET and len(artifacts) <= _ZIP_ARTIFACTS
    return fits_bucket if settings.ARTIFACT_BUCKET else zip_fits_response(artifacts)


def zip_too_large(run_id: str) -> Conflict:
    """The error for a run whose artifacts cannot be one zip."""
    return Conflict(
        "The artifacts are too large, or too many, for one zip. Download each by its download_url in "
        f"GET /runs/{run_id}/artifacts.",
        code=ErrorCode.ZIP_TOO_LARGE,
    )


def artifacts_needed(job: Job, nodes: Iterable[str]) -> list[FetchedArtifact]:
    """The artifacts of these nodes that the job may take: those of the attempt with which each needed job has ended.

    One query for each node, or for their runs if there are many, and one read of the jobs. Raises InvalidInput.
    """
    needed = needed_jobs(job, nodes)
    attempts = {str(found.job_id): int(found.attempt) for found in Job.find_many({need.job_id for need in needed})}
    rows: dict[tuple[str, int], list[Artifact]] = {}
    if len(needed) <= _ASKED_SINGLY:
        asked = {(need.run_id, f"{need.job_id}-") for need in needed}
    else:
        asked = {(need.run_id, "") for need in needed}
    for run_id, prefix in sorted(asked):
        for row in _available(run_id, prefix):
            rows.setdefault((str(row.job_id), int(row.attempt)), []).append(row)
    return [
        FetchedArtifact(need.node, row)
        for need in needed
        for row in rows.get((need.job_id, attempts.get(need.job_id, 0)), ())
    ]


def _size(artifacts: Iterable[Artifact]) -> int:
    return sum(int(artifact.size) for artifact in artifacts)


def _available(run_id: str, prefix: str) -> list[Artifact]:
    condition = Artifact.entry.startswith(prefix) if prefix else None
    return [row for row in Artifact.query(run_id, condition, consistent_read=True) if row.is_available]


def _link(artifact: Artifact, *, seconds: int, base: str, filename: str | None = None) -> Link:
    link: Link = storages["artifacts"].download_link(  # type: ignore[attr-defined]
        artifact.stored_name, seconds=seconds, base=base, filename=filename
    )
    return link
