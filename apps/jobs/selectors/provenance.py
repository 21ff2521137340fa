"""The provenance of an artifact: where it comes from, as SLSA describes it, signed by the control plane.

See docs/provenance.md for what each field is, and what it does not promise.
"""

import hashlib
import json
from dataclasses import dataclass
from typing import Any

from django.conf import settings

from apps.jobs.models import Artifact, Job, Run
from apps.jobs.selectors.artifacts import artifact_filename, artifact_get
from apps.jobs.selectors.jobs import job_get
from apps.jobs.selectors.runs import run_get
from apps.jobs.states import FINAL
from controlplane.lib.dsse import MOST_BYTES, envelope, pre_authentication
from controlplane.lib.error_codes import ErrorCode
from controlplane.lib.errors import Conflict
from controlplane.lib.signing_keys import Purpose, signing_key

PAYLOAD_TYPE = "application/vnd.in-toto+json"
STATEMENT_TYPE = "https://in-toto.io/Statement/v1"
PREDICATE_TYPE = "https://slsa.dev/provenance/v1"
# What the parameters of a build mean. docs/provenance.md describes it.
BUILD_TYPE = "urn:hybrid-ci:build:job:v1"
# How long a text may be, and what has many members, before it is cut or named by its digest. The first limit is taken
# with which KMS can sign the statement.
_LIMITS = (400, 150, 50)


def artifact_provenance(artifact_id: str, *, base: str) -> dict[str, Any]:
    """The provenance of the artifact, as a DSSE envelope of an in-toto statement. Three reads. `base` is our own URL.

    The same artifact always has the same statement. Raises NotFound, Unavailable, and Conflict ``job_not_finished``
    while the attempt that made it goes on, or if another attempt has ended the job.
    """
    artifact = artifact_get(artifact_id)
    job = job_get(str(artifact.job_id))
    if job.status not in FINAL:
        raise Conflict(
            "The job has not ended yet. An artifact has a provenance from its end on.", code=ErrorCode.JOB_NOT_FINISHED
        )
    if int(job.attempt) != int(artifact.attempt):
        raise Conflict(
            "The artifact is of an attempt that was lost, so it has no provenance. Take that of the last attempt.",
            code=ErrorCode.STALE_ATTEMPT,
        )
    run = run_get(str(job.run_id))
    payload = b""
    for limit in _LIMITS:
        statement = _statement(artifact, job, run, base, _Cut(limit))
        payload = json.dumps(statement, separators=(",", ":"), sort_keys=True).encode()
        if len(pre_authentication(payload, PAYLOAD_TYPE)) <= MOST_BYTES:
            break
    return envelope(payload, payload_type=PAYLOAD_TYPE, key=signing_key(Purpose.AUDIT))


@dataclass(frozen=True)
class _Cut:
    """How long what users wrote may be."""

    limit: int

    def text(self, value: Any) -> str:
        text = str(value or "")
        return text if len(text) <= self.limit else f"{text[: self.limit - 1]}…"

    def whole_or_digest(self, values: Any) -> Any:
        """The values; if they are long, the SHA-256 of their JSON with sorted names."""
        text = json.dumps(values, separators=(",", ":"), sort_keys=True)
        return values if len(text) <= 2 * self.limit else {"sha256": hashlib.sha256(text.encode()).hexdigest()}


def _statement(artifact: Artifact, job: Job, run: Run, base: str, cut: _Cut) -> dict[str, Any]:
    return {
        "_type": STATEMENT_TYPE,
        "subject": [{"name": artifact_filename(artifact), "digest": {"sha256": str(artifact.sha256)}}],
        "predicateType": PREDICATE_TYPE,
        "predicate": {
            "buildDefinition": {
                "buildType": BUILD_TYPE,
                "externalParameters": {
                    "repository": cut.text(job.repository),
                    "ref": cut.text(job.git_ref),
                    "pipeline": cut.text(job.pipeline),
                    "job": cut.text(job.node),
                    "event": str(run.event),
                    "requestedBy": cut.text(job.requested_by),
                    "parameters": cut.whole_or_digest(run.parameters or {}),
                    # Their values may be nothing for the public.
                    "variables": cut.whole_or_digest(sorted(job.env or {})),
                },
                "internalParameters": {
                    "attempt": int(job.attempt),
                    "labels": cut.whole_or_digest(sorted(map(str, job.labels))),
                },
                "resolvedDependencies": _dependencies(job, cut),
            },
            "runDetails": {
                "builder": {"id": base, "version": {"control-plane": settings.VERSION}},
                "metadata": {
                    "invocationId": f"{base}runs/{job.run_id}#{job.job_id}",
                    "startedOn": job.started_at,
                    "finishedOn": job.completed_at,
                },
                "byproducts": [
                    {
                        "name": "job",
                        "annotations": {
                            "status": str(job.status),
                            "exitCode": None if job.exit_code is None else int(job.exit_code),
                            "agent": str(job.agent_id or job.started_by),
                        },
                    }
                ],
            },
        },
    }


def _dependencies(job: Job, cut: _Cut) -> list[dict[str, Any]]:
    """The commit that was built, if its agent has reported it."""
    if not job.commit:
        return []
    return [
        {"uri": f"git+{cut.text(job.repository)}@{cut.text(job.git_ref)}", "digest": {"gitCommit": str(job.commit)}}
    ]
