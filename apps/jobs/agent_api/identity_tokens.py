"""``POST /agents/{agent_id}/jobs/{job_id}/token``: identity tokens for the steps of an attempt."""

from typing import Any

from django.http import HttpRequest

from apps.agents.authentication import SignedRequest
from apps.jobs.agent_api.requests import agent_actor, agent_endpoint
from apps.jobs.serializers.identity_tokens import TOKEN
from apps.jobs.services.identity_tokens import attempt_token_issue
from controlplane.http.documented import documented
from controlplane.http.json_body import json_body
from controlplane.http.public_url import public_url


@documented("post", "apps.jobs.agent_api.token_documentation.TOKEN")
@agent_endpoint
def token(request: HttpRequest, signed: SignedRequest, job_id: str) -> dict[str, Any]:
    """Get an identity token of an attempt that runs, for one audience. It lasts for 15 minutes at most."""
    asked = TOKEN.check(json_body(request))
    issued = attempt_token_issue(
        agent=agent_actor(signed),
        targets=signed.agent.deployment_targets,
        job_id=job_id,
        attempt=asked["attempt"],
        audience=asked["audience"],
        issuer=public_url(request),
    )
    return {"token": issued}
