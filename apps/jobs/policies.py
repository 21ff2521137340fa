"""Who may do what to a job: users by their permissions, an agent only to the attempt that it has a lease on."""

from apps.accounts.policies import Permission, permission_require
from apps.jobs.models import Job
from apps.jobs.states import LEASED, LOST
from controlplane.lib.actor import Actor
from controlplane.lib.error_codes import ErrorCode
from controlplane.lib.errors import Conflict, Forbidden, NotFound


def job_create_require(actor: Actor) -> None:
    """Raises Forbidden unless the actor may queue jobs."""
    permission_require(actor, Permission.JOBS_CREATE)


def job_cancel_require(actor: Actor) -> None:
    """Raises Forbidden unless the actor may cancel jobs."""
    permission_require(actor, Permission.JOBS_CANCEL)


def job_retry_require(actor: Actor) -> None:
    """Raises Forbidden unless the actor may run jobs again."""
    permission_require(actor, Permission.JOBS_RETRY)


def environment_manage_require(actor: Actor) -> None:
    """Raises Forbidden unless the actor may make, change and delete environments: who does decides about gates."""
    permission_require(actor, Permission.ENVIRONMENTS_MANAGE)


def deployment_approve_require(actor: Actor) -> str:
    """The id of the user who acts. Raises Forbidden unless it is a user, or a token of one with the permission.

    Whether that user may approve deployments to the environment, `apps.jobs.selectors.gates` says.
    """
    permission_require(actor, Permission.DEPLOYMENTS_APPROVE)
    if actor.person_id is None:
        raise Forbidden("Only a person may approve or reject a deployment.")
    return actor.person_id


def run_allow_require(actor: Actor) -> None:
    """Raises Forbidden unless the actor may let a fork's run have secrets and deploy."""
    permission_require(actor, Permission.JOBS_CREATE)
    permission_require(actor, Permission.SECRETS_MANAGE)


def is_attempt_of(job: Job, *, agent_id: str, attempt: int) -> bool:
    """Whether `attempt` is the job's latest and this agent's, ended or not."""
    return job.agent_id == agent_id and job.attempt == attempt


def is_lost_attempt_of(job: Job, *, agent_id: str, attempt: int) -> bool:
    """Whether the agent has lost this attempt and no newer one has begun: its late report still counts."""
    return job.status in LOST and job.lost_agent_id == agent_id and job.attempt == attempt


def attempt_require(job: Job | None, *, agent_id: str, attempt: int) -> Job:
    """The job, if the agent has a lease on this attempt of it now.

    Raises NotFound for an unknown job, Conflict with code ``stale_attempt`` for an attempt that has ended, was
    given to another agent, or never was.
    """
    if job is None:
        raise NotFound("There is no such job.", code=ErrorCode.JOB_NOT_FOUND)
    if not (is_attempt_of(job, agent_id=agent_id, attempt=attempt) and job.status in LEASED):
        raise Conflict("This attempt is no longer the agent's. Stop it.", code=ErrorCode.STALE_ATTEMPT)
    return job
