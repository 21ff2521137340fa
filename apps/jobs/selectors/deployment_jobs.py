"""How far the jobs of deployments are: what one waits for after its gates have opened, and why one has failed."""

from collections.abc import Iterable

from apps.jobs.models import Deployment, Job
from apps.jobs.selectors.job_errors import job_error
from apps.jobs.selectors.jobs_of_run import job_waits
from apps.jobs.selectors.waiting import Waiting
from apps.jobs.states import DeploymentStatus, Status
from controlplane.lib.frozen import frozen

# An agent has not started the job yet.
_NOT_BEGUN = frozenset({Status.WAITING, Status.QUEUED, Status.ASSIGNED})


@frozen
class DeploymentJob:
    """The job of a deployment that is in progress or has failed.

    `waiting` is what the job waits for. `error` says in a sentence why it has failed; None if the deployment says it.
    """

    status: Status
    waiting: Waiting | None = None
    error: str | None = None

    @property
    def is_queued(self) -> bool:
        """Whether no agent has started the job yet."""
        return self.status in _NOT_BEGUN


def deployment_job(deployment: Deployment) -> DeploymentJob | None:
    """The job of the deployment; None if the deployment is neither in progress nor has failed, or if the job is gone.

    One read, and the calls of `job_waits` for a job that waits. None for other deployments.
    """
    if deployment.status not in (DeploymentStatus.IN_PROGRESS, DeploymentStatus.FAILED):
        return None
    job = Job.find(str(deployment.deployment_id))
    if job is None:
        return None
    status = Status(job.status)
    if deployment.status == DeploymentStatus.IN_PROGRESS:
        return DeploymentJob(status, job_waits(job))
    problem = "" if deployment.reason else job_error(job).removesuffix(".")
    return DeploymentJob(status, error=f"{problem[0].upper()}{problem[1:]}." if problem else None)


def deployment_job_statuses(deployments: Iterable[Deployment]) -> dict[str, Status]:
    """The statuses of the jobs of those deployments that are in progress, by id. As `job_statuses`."""
    return job_statuses(str(one.deployment_id) for one in deployments if one.status == DeploymentStatus.IN_PROGRESS)


def job_statuses(job_ids: Iterable[str]) -> dict[str, Status]:
    """The statuses of these jobs, by id. A call for each 100 of them, and none for none."""
    return {str(job.job_id): Status(job.status) for job in Job.find_many(job_ids)}


def is_queued(status: Status | None) -> bool:
    """Whether a job with this status has not been started by an agent yet. False if the status is not known."""
    return status in _NOT_BEGUN
