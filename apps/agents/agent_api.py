"""``GET /agent.pyz``, the agent program, and ``GET /agents/{agent_id}/config``, an agent's configuration."""

import base64
import hashlib
from functools import cache

from django.conf import settings
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import condition, require_GET, require_safe

from agent.bundle import agent_bundle
from apps.agents.authentication import signed_agent
from apps.agents.selectors import agent_get, keys_alive
from controlplane.http.documented import documented


@documented("get", "apps.agents.documentation.CONFIG")
@csrf_exempt
@require_GET
def config(request: HttpRequest, agent_id: str) -> HttpResponse:
    """An agent's configuration, with the key that it shall sign with from now on."""
    # A request for the key does not prove that the agent has it: the answer may be lost.
    signed = signed_agent(request, agent_id, marks_key_used=False)
    agent = agent_get(signed.agent_id)
    newest = keys_alive(agent)[0]
    base = request.path.removesuffix("/config")
    job = f"{base}/jobs/{{job_id}}"
    return JsonResponse(
        {
            "agent_id": agent_id,
            "key_id": newest.key_id,
            "workload_identity_secret": None if newest.used else base64.b64encode(newest.secret).decode(),
            "deployment_targets": list(agent.deployment_targets),
            "schedule_interval_seconds": settings.AGENT_CHECK_SECONDS,
            "config_version": int(agent.config_version),
            "slots": int(agent.slots),
            "labels": list(agent.labels),
            "endpoints": {
                "heartbeat": f"{base}/heartbeat",
                "start": f"{job}/start",
                "definition": f"{job}/definition",
                "log": f"{job}/log/{{attempt}}/{{sequence}}",
                "report": f"{job}/reports/{{attempt}}/{{number}}",
                "finish": f"{job}/finish",
            },
        },
        headers={"Cache-Control": "no-store"},
    )


@cache
def _bundle() -> tuple[bytes, str]:
    """The agent program as one file, and its entity tag."""
    bundle = agent_bundle()
    return bundle, f'"{hashlib.sha256(bundle).hexdigest()[:32]}"'


@documented("get", "apps.agents.documentation.PROGRAM")
@csrf_exempt
@require_safe
@condition(etag_func=lambda _: _bundle()[1])
def program(_: HttpRequest) -> HttpResponse:
    """The agent program for new machines: ``python3 agent.pyz --url … --token …``."""
    return HttpResponse(
        _bundle()[0],
        content_type="application/zip",
        headers={"Content-Disposition": 'attachment; filename="agent.pyz"', "Cache-Control": "no-cache"},
    )
