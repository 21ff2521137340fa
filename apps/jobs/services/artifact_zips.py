"""Zips of artifacts in the bucket, for what is too large for a response through a gateway."""

import time
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from django.core.files.storage import storages

from apps.accounts.policies import Permission, permission_require
from apps.jobs.models import Artifact
from apps.jobs.selectors.artifacts import artifact_filename, run_artifacts_all, zip_entries, zip_too_large
from apps.jobs.services.artifacts import artifacts_reveal, zips_folder
from apps.jobs.services.uploads import archive_digest
from controlplane.lib import clock
from controlplane.lib.actor import Actor
from controlplane.lib.error_codes import ErrorCode
from controlplane.lib.errors import NotFound
from controlplane.lib.presigned import LINK_SECONDS, Link
from controlplane.lib.zip_stream import zip_blocks, zip_size

# The gateway waits for 29 s. After the last block, S3 may take 4 s for a call, and 4 s more to abort the upload.
_SECONDS = 17


def artifacts_zip(*, actor: Actor, run_id: str, artifacts: Sequence[Artifact], base: str) -> Link:
    """Where the actor downloads these artifacts of the run as one zip, for five minutes. It is recorded.

    The zip is made if the bucket does not have it. Several requests at once may make it; they make the same bytes.

    Raises Forbidden; Conflict with the code ``zip_too_large`` if it takes too long; NotFound if one of the artifacts
    has expired or was deleted meanwhile; and Unavailable.
    """
    permission_require(actor, Permission.JOBS_READ)
    deadline = time.monotonic() + _SECONDS
    storage: Any = storages["artifacts"].hurried  # type: ignore[attr-defined]
    entries = list(zip_entries(artifacts, storage))
    name = _name(run_id, artifacts)
    there = storage.stored(name)
    sizes = {entry.name: int(artifact.size) for entry, artifact in zip(entries, artifacts, strict=True)}
    if there is None or there.size != zip_size(sizes):
        storage.save_stream(name, _until(deadline, run_id, zip_blocks(entries)), content_type="application/zip")
        # A deletion deletes the zips of the run. This one may have come later than that.
        if not {each.artifact_id for each in artifacts} <= {each.artifact_id for each in run_artifacts_all(run_id)}:
            storage.delete(name)
            raise NotFound(
                "An artifact has expired or was deleted while the zip was made. Ask again for a zip of the others.",
                code=ErrorCode.ARTIFACT_NOT_FOUND,
            )
    artifacts_reveal(actor=actor, artifacts=artifacts, target=f"run:{run_id}")
    link: Link = storage.download_link(name, seconds=LINK_SECONDS, base=base, filename=f"artifacts-{run_id}.zip")
    return link


def _name(run_id: str, artifacts: Iterable[Artifact]) -> str:
    """Where the zip is. Other content has another name, and so has the next day, before the life cycle deletes it."""
    content = (f"{artifact_filename(each)} {each.stored_name} {each.stored_at}" for each in artifacts)
    return f"{zips_folder(run_id)}/{archive_digest(clock.timestamp(clock.now())[:10], *content)}"


def _until(deadline: float, run_id: str, blocks: Iterable[bytes]) -> Iterator[bytes]:
    """The blocks. Raises Conflict when the deadline has passed."""
    for block in blocks:
        if time.monotonic() > deadline:
            raise zip_too_large(run_id)
        yield block
