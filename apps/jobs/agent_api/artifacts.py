"""``POST /agents/{agent_id}/jobs/{job_id}/artifacts/…``: what an attempt stores, and what it takes of other jobs."""

from collections.abc import Iterable, Mapping
from typing import Any

from django.http import HttpRequest
from django.urls import get_script_prefix

from apps.agents.authentication import SignedRequest
from apps.jobs.agent_api.requests import AGENT_BODY_LIMIT, agent_actor, agent_endpoint
from apps.jobs.serializers.agent_artifacts import ARTIFACT, COMPLETE, FETCH
from apps.jobs.services.artifacts import artifact_complete, artifact_store, artifacts_fetch
from apps.jobs.services.uploads import ArchiveReport, PartLink
from controlplane.http.body_limits import body_limit
from controlplane.http.documented import documented
from controlplane.http.json_body import json_body
from controlplane.lib.presigned import Link, Part


@documented("post", "apps.jobs.agent_api.archive_documentation.ARTIFACT")
@body_limit(AGENT_BODY_LIMIT)
@agent_endpoint
def artifact(request: HttpRequest, signed: SignedRequest, job_id: str, attempt: int) -> dict[str, Any]:
    """Begin or continue the upload of an artifact. The answer says where to send the parts that are not stored yet."""
    report = ARTIFACT.check(json_body(request))
    found, links = artifact_store(
        agent=agent_actor(signed),
        job_id=job_id,
        attempt=attempt,
        name=report["name"],
        report=archive_report(report),
        files=report["files"],
        files_total=report["files_total"],
        expire_in=report["expire_in"],
        base=base_url(request),
    )
    return {"artifact_id": found.artifact_id, "uploads": uploads(links)}


@documented("post", "apps.jobs.agent_api.archive_documentation.ARTIFACT_COMPLETE")
@body_limit(AGENT_BODY_LIMIT)
@agent_endpoint
def complete(
    request: HttpRequest, signed: SignedRequest, job_id: str, attempt: int, artifact_id: str
) -> dict[str, Any]:
    """End the upload of an artifact: it is listed from now on."""
    COMPLETE.check(json_body(request))
    artifact_complete(agent=agent_actor(signed), job_id=job_id, attempt=attempt, artifact_id=artifact_id)
    return {}


@documented("post", "apps.jobs.agent_api.archive_documentation.FETCH")
@body_limit(AGENT_BODY_LIMIT)
@agent_endpoint
def fetch(request: HttpRequest, signed: SignedRequest, job_id: str, attempt: int) -> dict[str, Any]:
    """Where to download the artifacts of jobs that this one needs."""
    nodes = FETCH.check(json_body(request))["jobs"]
    found = artifacts_fetch(agent=agent_actor(signed), job_id=job_id, attempt=attempt, nodes=nodes)
    base = base_url(request)
    return {
        "artifacts": [
            {"name": taken.artifact.name, "node": taken.node, **download(taken.artifact, taken.link(base=base))}
            for taken in found
        ]
    }


def base_url(request: HttpRequest) -> str:
    """The control plane's own URL, as the client has asked for it."""
    return request.build_absolute_uri(get_script_prefix())


def archive_report(report: Mapping[str, Any]) -> ArchiveReport:
    """The archive in a request that was checked."""
    parts = [Part(part["size"], part["sha256"]) for part in report["parts"]]
    return ArchiveReport(size=report["size"], sha256=report["sha256"], parts=parts, media=report["media"])


def uploads(links: Iterable[PartLink]) -> list[dict[str, Any]]:
    """The parts to send, as the answer has them."""
    return [
        {"part": part.part, "method": "PUT", "url": part.link.url, "headers": dict(part.link.headers)} for part in links
    ]


def download(archive: Any, link: Link) -> dict[str, Any]:
    """An archive to download, as the answer has it."""
    return {
        "size": int(archive.size),
        "sha256": archive.sha256,
        "media": archive.media,
        "url": link.url,
        "headers": dict(link.headers),
    }
