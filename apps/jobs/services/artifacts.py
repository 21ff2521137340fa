"""Artifacts: an attempt stores them, the jobs that need its job fetch them, and users download and delete them."""

import gzip
import json
import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import timedelta
from typing import Any

from django.conf import settings
from django.core.files.storage import storages

from apps.accounts.policies import Permission, permission_require
from apps.audit.actions import Action
from apps.audit.services import audit_add
from apps.jobs.models import Artifact, Job
from apps.jobs.policies import attempt_require
from apps.jobs.selectors.artifacts import FetchedArtifact, artifact_get, artifacts_needed, files_name
from apps.jobs.selectors.job_origin import job_node
from apps.jobs.services.uploads import (
    MOST_OF_AN_ATTEMPT,
    ArchiveReport,
    PartLink,
    archive_attributes,
    archive_check,
    archive_digest,
    stored_name,
    upload_abort,
    upload_begin,
    upload_finish,
    upload_links,
)
from controlplane.lib import clock
from controlplane.lib.actor import Actor
from controlplane.lib.error_codes import ErrorCode
from controlplane.lib.errors import Conflict, InvalidInput, NotFound, Unprocessable
from controlplane.lib.presigned import UPLOAD_DAYS, kept_folder
from controlplane.nosql.connection import ConditionFailed
from controlplane.nosql.transaction import Transaction, TransactionFailed

_CONTROL = re.compile(r"[\x00-\x1f\x7f]")


def artifact_store(
    *,
    agent: Actor,
    job_id: str,
    attempt: int,
    name: str,
    report: ArchiveReport,
    files: Sequence[Mapping[str, Any]],
    files_total: int | None,
    expire_in: int,
    base: str,
) -> tuple[Artifact, list[PartLink]]:
    """Begin or continue the upload of an artifact; returns it with the parts to send, none if all are stored.

    Repeating it changes nothing. Other content under the same name takes the place of an upload that is not complete.

    Raises NotFound, Conflict with the code ``stale_attempt`` or ``artifact_exists``, TooLarge, Unprocessable, and
    InvalidInput that names the field.
    """
    job = attempt_require(Job.find(job_id), agent_id=agent.id, attempt=attempt)
    archive_check(report, limit=settings.ARTIFACT_LIMIT_MB * 1_000_000)
    _files_check(files)
    prefix = f"{job_id}-{attempt}-"
    entry = f"{prefix}{archive_digest(name)}"
    there = {
        row.entry: row for row in Artifact.query(job.run_id, Artifact.entry.startswith(prefix), consistent_read=True)
    }
    artifact = there.get(entry)
    if artifact is None or not report.is_that_of(artifact):
        if artifact is not None and artifact.stored_at:
            raise _exists(name)
        if artifact is None and len(there) >= MOST_OF_AN_ATTEMPT:
            raise Unprocessable(
                f"The attempt has {len(there)} artifacts already, and more are not allowed.",
                code=ErrorCode.TOO_MANY_ARTIFACTS,
            )
        total = max(files_total or 0, len(files))
        artifact = _begin(job, entry, name, report, files, total, expire_in, earlier=artifact)
    return artifact, [] if artifact.stored_at else upload_links(report, artifact, base=base)


def _begin(
    job: Job,
    entry: str,
    name: str,
    report: ArchiveReport,
    files: Sequence[Mapping[str, Any]],
    files_total: int,
    expire_in: int,
    *,
    earlier: Artifact | None,
) -> Artifact:
    """Write the artifact, in place of an earlier one that was not completed."""
    now = clock.now()
    where = stored_name(f"{kept_folder(expire_in)}/artifacts", str(job.run_id), report, entry)
    listing = json.dumps(list(files), separators=(",", ":"), ensure_ascii=False)
    # Without the time, the same request that arrives twice at once writes the same bytes, as S3's checksum must show.
    data = gzip.compress(listing.encode(), compresslevel=6, mtime=0)
    storages["artifacts"].save_stream(files_name(where), [data])  # type: ignore[attr-defined]
    artifact = Artifact(
        owner=job.run_id,
        entry=entry,
        job_id=job.job_id,
        attempt=job.attempt,
        name=name,
        node=job_node(job),
        pipeline=job.pipeline,
        files=files_total,
        expire_in=expire_in,
        stored_name=where,
        upload=upload_begin(report, where),
        created_at=clock.timestamp(now),
        expires_at=now + timedelta(days=UPLOAD_DAYS),
        **archive_attributes(report),
    )
    if earlier is None:
        unchanged = Artifact.owner.does_not_exist()
    else:
        unchanged = (Artifact.stored_name == earlier.stored_name) & Artifact.stored_at.does_not_exist()
    try:
        artifact.save(condition=unchanged)
    except ConditionFailed:
        # The same request arrived twice at the same time, or its first answer was lost.
        current = Artifact.find(job.run_id, entry)
        if current is None or current.upload != artifact.upload:
            upload_abort(artifact)
        if current is None or not report.is_that_of(current):
            raise _exists(name) from None
        return current
    if earlier is not None:
        upload_abort(earlier)
    return artifact


def artifact_complete(*, agent: Actor, job_id: str, attempt: int, artifact_id: str) -> None:
    """Check that all bytes of the artifact are stored. From then on it is listed. Repeating it changes nothing.

    Raises NotFound, or Conflict with the code ``stale_attempt`` or ``upload_incomplete``.
    """
    job = attempt_require(Job.find(job_id), agent_id=agent.id, attempt=attempt)
    run_id, _, entry = artifact_id.partition("-")
    is_own = run_id == job.run_id and entry.startswith(f"{job_id}-{attempt}-")
    artifact = Artifact.find(run_id, entry) if is_own else None
    if artifact is None:
        raise NotFound("This attempt has no such artifact.", code=ErrorCode.ARTIFACT_NOT_FOUND)
    if artifact.stored_at:
        return
    upload_finish(artifact)
    now = clock.now()
    with suppress(ConditionFailed):
        # If it fails, the same request was answered at the same time, or other content has taken its place.
        artifact.update(
            actions=[
                Artifact.stored_at.set(clock.timestamp(now)),
                Artifact.expires_at.set(now + timedelta(seconds=int(artifact.expire_in))),
                Artifact.upload.remove(),
            ],
            condition=(Artifact.stored_name == artifact.stored_name) & Artifact.stored_at.does_not_exist(),
        )
        return
    current = Artifact.find(run_id, entry)
    if current is None or current.stored_name != artifact.stored_name:
        raise _exists(str(artifact.name))


def artifacts_fetch(*, agent: Actor, job_id: str, attempt: int, nodes: Sequence[str]) -> list[FetchedArtifact]:
    """The artifacts of these nodes of the job's run.

    Raises NotFound, Conflict with the code ``stale_attempt``, and InvalidInput for a node that the job does not need.
    """
    job = attempt_require(Job.find(job_id), agent_id=agent.id, attempt=attempt)
    return artifacts_needed(job, list(dict.fromkeys(nodes))) if nodes else []


def artifacts_reveal(*, actor: Actor, artifacts: Sequence[Artifact], target: str) -> None:
    """Record that the actor gets these artifacts of one run. Raises Forbidden, and Unavailable: then it must not."""
    permission_require(actor, Permission.JOBS_READ)
    first = artifacts[0]
    transaction = Transaction()
    audit_add(
        transaction,
        actor=actor,
        action=Action.ARTIFACTS_DOWNLOADED,
        target=target,
        detail={
            "job": str(first.job_id) if len(artifacts) == 1 else None,
            "artifacts": ", ".join(str(artifact.name) for artifact in artifacts),
            "sha256": str(first.sha256) if len(artifacts) == 1 else None,
        },
    )
    transaction.commit()


def artifact_delete(*, actor: Actor, artifact_id: str) -> None:
    """Delete the artifact and its bytes. URLs of before lead to nothing then.

    Raises Forbidden, NotFound, and Unavailable when its bytes could not be deleted: repeat it then.
    """
    permission_require(actor, Permission.ARTIFACTS_DELETE)
    artifact = artifact_get(artifact_id, deleted=True)
    if not artifact.deleted_at:
        transaction = Transaction()
        transaction.update(
            "artifact",
            artifact,
            actions=[Artifact.deleted_at.set(clock.timestamp(clock.now()))],
            condition=Artifact.stored_at.exists() & Artifact.deleted_at.does_not_exist(),
        )
        detail: dict[str, str | int | None] = {
            "artifact": str(artifact.name),
            "size": int(artifact.size),
            "sha256": str(artifact.sha256),
        }
        audit_add(
            transaction, actor=actor, action=Action.ARTIFACT_DELETED, target=f"job:{artifact.job_id}", detail=detail
        )
        # If it fails, another request has deleted it at the same time.
        with suppress(TransactionFailed):
            transaction.commit()
    storage: Any = storages["artifacts"]
    names = [str(artifact.stored_name), files_name(str(artifact.stored_name))]
    if settings.ARTIFACT_BUCKET:
        # The artifact is in them. The zip of the others will have another name.
        names += storage.names(zips_folder(str(artifact.owner)))
    for name in names:
        storage.delete(name)
    artifact.delete()


def zips_folder(run_id: str) -> str:
    """Where the zips of the run's artifacts are, in a folder whose files are kept for a day."""
    return f"{kept_folder(86_400)}/zips/{run_id}"


def _files_check(files: Sequence[Mapping[str, Any]]) -> None:
    """Raises InvalidInput for a path that leaves the workspace or cannot be shown."""
    for number, file in enumerate(files):
        path = file["path"]
        if _CONTROL.search(path) or {"", ".", ".."}.intersection(path.split("/")):
            raise InvalidInput.field(
                f"files[{number}].path", "must be a path in the workspace, without . and .. and control characters"
            )


def _exists(name: str) -> Conflict:
    return Conflict(
        f"The attempt has stored other content as “{name[:100]}” already. Choose another name.",
        code=ErrorCode.ARTIFACT_EXISTS,
    )
