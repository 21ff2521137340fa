"""What the end of a job that deploys changes of its deployment and of the environment, in the job's own transaction."""

from collections.abc import Mapping
from typing import Any

from apps.audit.actions import Action
from apps.audit.services import audit_add
from apps.jobs.models import SPACE, Deployment, Environment, Job, LiveDeployment, WaitingDeployment
from apps.jobs.selectors.deployments import deployment_find
from apps.jobs.selectors.environments import environment_find
from apps.jobs.services.deployment_news import News, deployment_announce
from apps.jobs.states import FINAL, DeploymentStatus, Status, deployment_status_of
from controlplane.lib import clock
from controlplane.lib.actor import Actor
from controlplane.nosql.transaction import Transaction


def deployment_end_add(
    transaction: Transaction,
    job: Job,
    *,
    before: Status,
    after: Status,
    actor: Actor,
    reason: str | None,
    rejection: Mapping[str, Any] | None,
) -> None:
    """The deployment has ended with its job: it leaves its environment or the line before that. One read.

    If it has succeeded, it is what is live from now on. A late report of an agent that had lost it changes that only if
    no other deployment to the environment has begun since.
    """
    deployment = deployment_find(str(job.job_id))
    environment = Environment(SPACE, str(job.environment))
    if before == Status.WAITING:
        there_or_not = WaitingDeployment.space.exists() | WaitingDeployment.space.does_not_exist()
        transaction.delete("waiting", WaitingDeployment.of(str(job.environment), str(job.job_id)), there_or_not)
    elif before not in FINAL:
        transaction.update("environment", environment, actions=[Environment.holders.delete({str(job.job_id)})])
    if deployment is None:
        return
    status = DeploymentStatus.REJECTED if rejection else deployment_status_of(after)
    changes = [Deployment.status.set(status), Deployment.ended_at.set(clock.timestamp(clock.now()))]
    changes += [Deployment.reason.set(reason)] if reason else []
    changes += [Deployment.rejection.set(dict(rejection))] if rejection else []
    transaction.update("deployment", deployment, actions=changes)
    if status == DeploymentStatus.COMPLETED:
        _live_add(transaction, deployment, is_late=before in FINAL)
    audit_add(
        transaction,
        actor=actor,
        action=Action.DEPLOYMENT_REJECTED if rejection else Action.DEPLOYMENT_FINISHED,
        target=f"environment:{job.environment}",
        result=status,
        detail={
            "deployment_id": str(job.job_id),
            "pipeline": str(deployment.pipeline),
            "git_ref": str(deployment.git_ref),
            "commit": deployment.commit,
            "requested_by": str(deployment.requested_by),
            "comment": (rejection or {}).get("comment"),
        },
        label="deployment audit",
    )
    news = News.REJECTED if rejection else News.ENDED
    deployment_announce(transaction, deployment, news, status=status, by=(rejection or {}).get("by"))


def _live_add(transaction: Transaction, deployment: Deployment, *, is_late: bool) -> None:
    name = str(deployment.environment)
    if is_late:
        environment = environment_find(name)
        if environment is None or environment.turn != deployment.turn:
            return
        transaction.check("turn", environment, Environment.turn == deployment.turn)
    live = LiveDeployment.of(
        name,
        str(deployment.pipeline),
        deployment_id=deployment.deployment_id,
        run_id=deployment.run_id,
        commit=deployment.commit,
        git_ref=deployment.git_ref,
        requested_by=deployment.requested_by,
        before_id=deployment.before_id,
        before_commit=deployment.before_commit,
        since=clock.timestamp(clock.now()),
    )
    transaction.put("live", live, LiveDeployment.space.exists() | LiveDeployment.space.does_not_exist())
