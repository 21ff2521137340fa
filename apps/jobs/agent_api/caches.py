"""``POST /agents/{agent_id}/jobs/{job_id}/caches/…``: restoring and saving caches."""

from typing import Any

from django.http import HttpRequest

from apps.agents.authentication import SignedRequest
from apps.jobs.agent_api.artifacts import archive_report, base_url, download, uploads
from apps.jobs.agent_api.requests import AGENT_BODY_LIMIT, agent_actor, agent_endpoint
from apps.jobs.selectors.caches import cache_link
from apps.jobs.serializers.agent_artifacts import COMPLETE, RESTORE, SAVE
from apps.jobs.services.caches import cache_complete, cache_restore, cache_save
from controlplane.http.body_limits import body_limit
from controlplane.http.documented import documented
from controlplane.http.json_body import json_body

_NOTHING: dict[str, Any] = {
    "hit": "none",
    "key": None,
    "size": None,
    "sha256": None,
    "media": None,
    "url": None,
    "headers": {},
}


@documented("post", "apps.jobs.agent_api.archive_documentation.RESTORE")
@body_limit(AGENT_BODY_LIMIT)
@agent_endpoint
def restore(request: HttpRequest, signed: SignedRequest, job_id: str, attempt: int) -> dict[str, Any]:
    """Where to download the cache for these keys, if there is one."""
    asked = RESTORE.check(json_body(request))
    found, exact = cache_restore(agent=agent_actor(signed), job_id=job_id, attempt=attempt, **asked)
    if found is None:
        return dict(_NOTHING)
    link = cache_link(found, base=base_url(request))
    return {"hit": "exact" if exact else "partial", "key": found.key, **download(found, link)}


@documented("post", "apps.jobs.agent_api.archive_documentation.SAVE")
@body_limit(AGENT_BODY_LIMIT)
@agent_endpoint
def save(request: HttpRequest, signed: SignedRequest, job_id: str, attempt: int) -> dict[str, Any]:
    """Begin or continue the upload of a cache. The answer says where to send the parts that are not stored yet."""
    report = SAVE.check(json_body(request))
    found, links = cache_save(
        agent=agent_actor(signed),
        job_id=job_id,
        attempt=attempt,
        key=report["key"],
        report=archive_report(report),
        base=base_url(request),
    )
    return {"exists": found is None, "cache_id": found.entry if found else None, "uploads": uploads(links)}


@documented("post", "apps.jobs.agent_api.archive_documentation.CACHE_COMPLETE")
@body_limit(AGENT_BODY_LIMIT)
@agent_endpoint
def complete(request: HttpRequest, signed: SignedRequest, job_id: str, attempt: int, cache_id: str) -> dict[str, Any]:
    """End the upload of a cache: it can be restored from now on."""
    COMPLETE.check(json_body(request))
    cache_complete(agent=agent_actor(signed), job_id=job_id, attempt=attempt, cache_id=cache_id)
    return {}
