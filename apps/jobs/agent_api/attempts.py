"""``POST /agents/{agent_id}/jobs/{job_id}/…``: an agent's reports about an attempt."""

from typing import Any

from django.http import HttpRequest

from apps.agents.authentication import SignedRequest
from apps.jobs.agent_api.requests import AGENT_BODY_LIMIT, agent_actor, agent_endpoint, decoded_body, log_times
from apps.jobs.serializers.agent_protocol import FINISH, START, attempt_result
from apps.jobs.services import (
    CHUNK_LIMIT,
    attempt_finish,
    attempt_start,
    log_append,
    log_limit,
    next_dispatch,
    time_limit,
)
from apps.jobs.states import SOURCE_EVENTS
from apps.pipelines.definitions import DEFINITION_PATH
from controlplane.http.body_limits import body_limit
from controlplane.http.documented import documented
from controlplane.http.json_body import json_body
from controlplane.lib.labels import targets_required


@documented("post", "apps.jobs.agent_api.documentation.START")
@agent_endpoint
def start(request: HttpRequest, signed: SignedRequest, job_id: str) -> dict[str, Any]:
    """Acknowledge an attempt. The answer contains all data that the agent needs to run it."""
    # A cold start loads nothing of secrets.
    from apps.jobs.services import Channel, start_fetch_access, start_secrets

    asked = START.check(json_body(request))
    agent, attempt = agent_actor(signed), asked["attempt"]
    job = attempt_start(agent=agent, job_id=job_id, attempt=attempt)
    channel = Channel(asked["secrets_key"], signed.agent.deployment_targets)
    # A provider that does not answer delays the start: until then the attempt has got nothing.
    access = start_fetch_access(agent=agent, job=job, attempt=attempt, channel=channel) if job.fetch_with else None
    secrets = start_secrets(agent=agent, job=job, attempt=attempt, channel=channel)
    return {
        "job_id": job.job_id,
        "attempt": attempt,
        "run_id": job.run_id,
        "name": job.node,
        "group": job.group,
        "pipeline": job.pipeline,
        "repository": job.repository,
        # All jobs of a run build the same commit, also when the ref has moved since; a deployment again that of then.
        "git_ref": (job.commit if job.work or job.is_commit_given or job.event in SOURCE_EVENTS else None)
        or job.git_ref,
        "ref": job.git_ref,
        "env": job.env or {},
        # The repository's own file says how long the job may run, if there is no definition yet.
        "timeout": time_limit(job.timeout) if job.definition else None,
        "definition": job.definition,
        "definition_path": None if job.is_defined_on_server else DEFINITION_PATH,
        "log_limit": log_limit(),
        "deployment_targets": targets_required(job.labels),
        "sealed_secrets": secrets,
        **({"sealed_fetch": access} if access else {}),
    }


@documented("post", "apps.jobs.agent_api.documentation.LOG")
@body_limit(AGENT_BODY_LIMIT)
@agent_endpoint
def log(request: HttpRequest, signed: SignedRequest, job_id: str, attempt: int, sequence: int) -> dict[str, Any]:
    """Store one chunk of the attempt's log."""
    data, packed = decoded_body(request, limit=CHUNK_LIMIT)
    age, times = log_times(request)
    command = log_append(
        agent_id=signed.agent_id,
        job_id=job_id,
        attempt=attempt,
        sequence=sequence,
        data=data,
        packed=packed,
        age=age,
        times=times,
    )
    return {"wish": command}


@documented("post", "apps.jobs.agent_api.documentation.FINISH")
@body_limit(AGENT_BODY_LIMIT)
@agent_endpoint
def finish(request: HttpRequest, signed: SignedRequest, job_id: str) -> dict[str, Any]:
    """Report the end of an attempt. The answer is the next attempt for the free slot, if a job is queued."""
    report = FINISH.check(json_body(request))
    agent = agent_actor(signed)
    first = attempt_finish(agent=agent, job_id=job_id, attempt=report["attempt"], result=attempt_result(report))
    following = next_dispatch(
        agent=agent,
        labels=signed.agent.labels_offered,
        slots=signed.agent.slots,
        is_repeated=not first,
        # The next heartbeat decides whether a machine that has just failed is fit for more.
        wants_next=report["wants_next"] and not report["agent_fault"],
    )
    return {"next": following.as_dict() if following else None}
