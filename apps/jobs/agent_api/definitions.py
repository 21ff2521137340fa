"""``POST /agents/{agent_id}/jobs/{job_id}/…``: the pipeline files that agents read for the control plane."""

from typing import Any

from django.http import HttpRequest

from apps.agents.authentication import SignedRequest
from apps.jobs.agent_api.requests import AGENT_BODY_LIMIT, agent_actor, agent_endpoint
from apps.jobs.serializers.agent_protocol import DEFINITION_REPORT, UPLOAD
from apps.jobs.services import Channel, FileReport, attempt_define, definition_secrets, run_extend, time_limit
from controlplane.http.body_limits import body_limit
from controlplane.http.documented import documented
from controlplane.http.json_body import json_body


@documented("post", "apps.jobs.agent_api.documentation.DEFINITION")
@body_limit(AGENT_BODY_LIMIT)
@agent_endpoint
def definition(request: HttpRequest, signed: SignedRequest, job_id: str) -> dict[str, Any]:
    """Report the repository's own pipeline file. The answer is the parsed definition to run."""
    report = DEFINITION_REPORT.check(json_body(request))
    agent = agent_actor(signed)
    parsed = attempt_define(
        agent=agent,
        agent_labels=signed.agent.labels_offered,
        job_id=job_id,
        attempt=report["attempt"],
        report=FileReport(
            commit=report["commit"],
            text=report["text"],
            trees=report["trees"],
            changed_paths=report["changed_paths"],
            answers_wants=report["answers"],
        ),
    )
    if "wants" in parsed:
        return dict(parsed)
    secrets = definition_secrets(
        agent=agent,
        job_id=job_id,
        attempt=report["attempt"],
        definition=parsed,
        channel=Channel(report["secrets_key"], signed.agent.deployment_targets),
    )
    work = {name: value for name, value in parsed.items() if name not in ("labels", "retries")}
    return {**work, "timeout": time_limit(parsed["timeout"]), "sealed_secrets": secrets}


@documented("post", "apps.jobs.agent_api.documentation.UPLOAD")
@body_limit(AGENT_BODY_LIMIT)
@agent_endpoint
def upload(request: HttpRequest, signed: SignedRequest, job_id: str, attempt: int) -> dict[str, Any]:
    """Add the jobs of a pipeline file to the run of the job. The answer names them."""
    text = UPLOAD.check(json_body(request))["text"]
    return {"jobs": run_extend(agent=agent_actor(signed), job_id=job_id, attempt=attempt, text=text)}
