"""``POST /agents/{agent_id}/jobs/{job_id}/…``: an agent's reports about an attempt."""

from typing import Any

from django.http import HttpRequest

from apps.agents.authentication import SignedRequest
from apps.jobs.agent_api.requests import agent_actor, agent_endpoint, decoded_body
from apps.jobs.serializers.agent_protocol import DEFINITION_REPORT, FINISH, START, attempt_result
from apps.jobs.services import (
    CHUNK_LIMIT,
    attempt_define,
    attempt_finish,
    attempt_start,
    log_append,
    log_limit,
    next_dispatch,
    time_limit,
)
from apps.pipelines.definitions import DEFINITION_PATH
from controlplane.http.documented import documented
from controlplane.http.json_body import json_body


@documented("post", "apps.jobs.agent_api.documentation.START")
@agent_endpoint
def start(request: HttpRequest, signed: SignedRequest, job_id: str) -> dict[str, Any]:
    """Acknowledge an attempt. The answer contains all data that the agent needs to run it."""
    attempt = START.check(json_body(request))["attempt"]
    job = attempt_start(agent=agent_actor(signed), job_id=job_id, attempt=attempt)
    return {
        "job_id": job.job_id,
        "attempt": attempt,
        "run_id": job.run_id,
        "pipeline": job.pipeline,
        "repository": job.repository,
        "git_ref": job.git_ref,
        "env": job.env or {},
        # The repository's own file says how long the job may run, if there is no definition yet.
        "timeout": time_limit(job.timeout) if job.definition else None,
        "definition": job.definition,
        "definition_path": DEFINITION_PATH,
        "log_limit": log_limit(),
    }


@documented("post", "apps.jobs.agent_api.documentation.DEFINITION")
@agent_endpoint
def definition(request: HttpRequest, signed: SignedRequest, job_id: str) -> dict[str, Any]:
    """Report the repository's own pipeline file. The answer is the parsed definition to run."""
    report = DEFINITION_REPORT.check(json_body(request))
    parsed = attempt_define(
        agent=agent_actor(signed),
        agent_labels=signed.agent.labels,
        job_id=job_id,
        attempt=report["attempt"],
        commit=report["commit"],
        text=report["text"],
    )
    # A definition that an earlier version stored lacks the newer members.
    work = {name: parsed[name] for name in ("steps", "env", "timeout", "container", "submodules") if name in parsed}
    return {**work, "timeout": time_limit(parsed["timeout"])}


@documented("post", "apps.jobs.agent_api.documentation.LOG")
@agent_endpoint
def log(request: HttpRequest, signed: SignedRequest, job_id: str, attempt: int, sequence: int) -> dict[str, Any]:
    """Store one chunk of the attempt's log."""
    data, packed = decoded_body(request, limit=CHUNK_LIMIT)
    command = log_append(
        agent_id=signed.agent_id,
        job_id=job_id,
        attempt=attempt,
        sequence=sequence,
        data=data,
        packed=packed,
    )
    return {"wish": command}


@documented("post", "apps.jobs.agent_api.documentation.FINISH")
@agent_endpoint
def finish(request: HttpRequest, signed: SignedRequest, job_id: str) -> dict[str, Any]:
    """Report the end of an attempt. The answer is the next attempt for the free slot, if a job is queued."""
    report = FINISH.check(json_body(request))
    agent = agent_actor(signed)
    first = attempt_finish(agent=agent, job_id=job_id, attempt=report["attempt"], result=attempt_result(report))
    following = next_dispatch(
        agent=agent,
        labels=signed.agent.labels,
        slots=signed.agent.slots,
        is_repeated=not first,
        # The next heartbeat decides whether a machine that has just failed is fit for more.
        wants_next=report["wants_next"] and not report["agent_fault"],
    )
    return {"next": following.as_dict() if following else None}
