"""Giving a job's attempt a token by which it shows other systems which job it is."""

from collections.abc import Sequence
from datetime import timedelta

from apps.jobs.models import Job
from apps.jobs.policies import attempt_require
from apps.jobs.selectors.job_environment import job_environment
from apps.jobs.selectors.job_origin import job_origin
from apps.jobs.services.dispatch import OBEY_WITHIN
from apps.jobs.services.limits import time_limit
from apps.jobs.services.transitions import attempt_fence
from apps.jobs.states import Status
from apps.secrets.services.identity_tokens import (
    JobIdentity,
    identity_token_issue,
    identity_token_refused,
    identity_tokens_used_up,
)
from controlplane.lib import clock
from controlplane.lib.actor import Actor
from controlplane.lib.error_codes import ErrorCode
from controlplane.lib.errors import Conflict, Forbidden, TooManyRequests
from controlplane.nosql.transaction import Transaction, TransactionFailed


def attempt_token_issue(
    *, agent: Actor, targets: Sequence[str], job_id: str, attempt: int, audience: str, issuer: str
) -> str:
    """An identity token of the attempt, which runs, for the audience. `targets` are what the agent may deploy to.

    The token lasts 15 minutes, and no longer than the attempt can. Asking again gives another one. Both a token and a
    refusal are in the audit trail.

    Raises NotFound; Conflict with code ``stale_attempt``; Forbidden with code ``environment_forbidden`` if the job's
    environment is none of the targets; TooManyRequests; InvalidInput for the audience; Unprocessable; Unavailable.
    """
    try:
        return _issue(agent, targets, job_id, attempt, audience=audience, issuer=issuer)
    except (Conflict, Forbidden, TooManyRequests) as refusal:
        identity_token_refused(agent=agent, job_id=job_id, attempt=attempt, audience=audience, code=refusal.code)
        raise


def _issue(agent: Actor, targets: Sequence[str], job_id: str, attempt: int, *, audience: str, issuer: str) -> str:
    job = attempt_require(Job.find(job_id), agent_id=agent.id, attempt=attempt)
    if job.status != Status.RUNNING:
        raise _stale()
    identity = _identity(job, agent=agent, targets=targets)
    tx = Transaction()
    tx.check("job", job, attempt_fence(agent.id, attempt) & (Job.status == Status.RUNNING))
    token = identity_token_issue(tx, agent=agent, identity=identity, audience=audience, issuer=issuer)
    try:
        tx.commit()
    except TransactionFailed as failure:
        if "job" in failure.failed:
            raise _stale() from None
        raise identity_tokens_used_up(identity) from None
    return token


def _identity(job: Job, *, agent: Actor, targets: Sequence[str]) -> JobIdentity:
    origin = job_origin(job)
    # A stranger's pipeline file can name any environment.
    environment = None if origin.is_proposed else job_environment(job)
    if environment and environment not in targets:
        raise Forbidden(
            f"The job's environment is {environment}, to which this agent may not deploy. Run the job on an agent with "
            f"the deployment target {environment}.",
            code=ErrorCode.ENVIRONMENT_FORBIDDEN,
        )
    began = clock.parse_timestamp(job.started_at)
    ends_at = began + timedelta(seconds=time_limit(job.timeout)) + OBEY_WITHIN
    if ends_at <= clock.now():
        raise _stale()
    return JobIdentity(
        job_id=str(job.job_id),
        attempt=int(job.attempt),
        run_id=str(job.run_id),
        pipeline=str(job.pipeline),
        repository=str(job.repository),
        git_ref=origin.ref,
        event=origin.event,
        environment=environment,
        commit=job.commit,
        agent_id=agent.id,
        agent_name=agent.name,
        targets=targets,
        ends_at=ends_at,
        is_from_fork=origin.is_of_stranger,
    )


def _stale() -> Conflict:
    return Conflict("This attempt of the job is not running. Stop it.", code=ErrorCode.STALE_ATTEMPT)
