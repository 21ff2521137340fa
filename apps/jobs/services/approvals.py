"""People decide about deployments that wait: they approve or reject them."""

from contextlib import suppress
from typing import Any

from apps.accounts.selectors import User, user_get
from apps.accounts.services import user_check_add
from apps.audit.actions import Action
from apps.audit.services import audit_add
from apps.jobs import policies
from apps.jobs.models import Deployment, Environment, Job
from apps.jobs.selectors.deployments import deployment_get
from apps.jobs.selectors.environments import environment_get
from apps.jobs.selectors.gates import approvals_counted, approver_problem, gate_people
from apps.jobs.selectors.jobs import job_get
from apps.jobs.services.deployment_news import News, deployment_announce
from apps.jobs.services.run_following import run_follow
from apps.jobs.services.run_nodes import node_mark
from apps.jobs.services.transitions import Move, move_commit
from apps.jobs.states import DeploymentStatus, Status
from controlplane.lib import clock
from controlplane.lib.actor import Actor
from controlplane.lib.error_codes import ErrorCode
from controlplane.lib.errors import Conflict, Forbidden, InvalidInput
from controlplane.nosql.transaction import Transaction, TransactionFailed

MAX_COMMENT = 1000
# How much of it the row of the job in its run has.
_REASON = 200
# How often a decision is tried when another one, or a change of the environment, comes at the same moment.
_TRIES = 5


def deployment_approve(*, actor: Actor, deployment_id: str, comment: str | None = None) -> Deployment:
    """Approve a deployment that waits: this commit by this definition, once, and nothing after it.

    Approving again changes nothing. When it has the approvals that it needs and nothing else keeps it back, it begins.

    Raises Forbidden, NotFound, InvalidInput, and Conflict with the code ``deployment_state``, ``approvals_complete`` or
    ``no_approval_needed``.
    """
    user_id = policies.deployment_approve_require(actor)
    comment = _comment_check(comment)
    for _ in range(_TRIES):
        deployment, environment, user = _decided(deployment_id, user_id)
        given = approvals_counted(environment, deployment, gate_people(environment, deployment))
        if user_id in [one["by_id"] for one in given]:
            return deployment
        if len(given) >= int(environment.approvals):
            by = ", ".join(str(one["by"]) for one in given)
            raise Conflict(f"The deployment is approved already, by {by}.", code=ErrorCode.APPROVALS_COMPLETE)
        transaction = Transaction()
        _decision_add(transaction, environment, user)
        approval = _decision(actor, user, comment)
        transaction.update(
            "deployment",
            deployment,
            actions=[
                Deployment.approvals.set([*(deployment.approvals or ()), approval]),
                Deployment.revision.add(1),
            ],
            condition=_unchanged(deployment),
        )
        node_mark(transaction, run_id=str(deployment.run_id), node=str(deployment.node))
        audit_add(
            transaction,
            actor=actor,
            action=Action.DEPLOYMENT_APPROVED,
            target=f"environment:{environment.name}",
            detail={
                "deployment_id": deployment_id,
                "pipeline": str(deployment.pipeline),
                "commit": deployment.commit,
                "comment": comment,
            },
        )
        deployment_announce(transaction, deployment, News.APPROVED, by=str(user.name))
        with suppress(TransactionFailed):
            transaction.commit()
            run_follow(job_get(deployment_id))
            return deployment_get(deployment_id)
    raise Conflict("The deployment keeps changing. Try again.", code=ErrorCode.CONFLICT)


def deployment_reject(*, actor: Actor, deployment_id: str, comment: str | None = None) -> Deployment:
    """Reject a deployment that waits for approval: its job fails. Rejecting again changes nothing.

    Raises as `deployment_approve`.
    """
    user_id = policies.deployment_approve_require(actor)
    comment = _comment_check(comment)
    for _ in range(_TRIES):
        deployment = deployment_get(deployment_id)
        if deployment.status == DeploymentStatus.REJECTED and (deployment.rejection or {}).get("by_id") == user_id:
            return deployment
        deployment, environment, user = _decided(deployment_id, user_id, is_rejection=True)
        job = job_get(deployment_id)
        because = f": {comment}" if comment else ""
        reason = f"{user.name} rejected the deployment to {environment.name}{because}"
        transaction = Transaction()
        _decision_add(transaction, environment, user)
        move = Move(
            job=job,
            before=Status.WAITING,
            after=Status.FAILED,
            attempt=int(job.attempt),
            actor=actor,
            action=Action.JOB_FINISHED,
            changes=[Job.error_message.set(f"{reason}."), Job.open.remove()],
            reason=reason[:_REASON],
            rejection=_decision(actor, user, comment),
            detail={"reason": reason[:_REASON]},
        )
        with suppress(TransactionFailed):
            move_commit(move, transaction=transaction)
            run_follow(job)
            return deployment_get(deployment_id)
    raise Conflict("The deployment keeps changing. Try again.", code=ErrorCode.CONFLICT)


def _decided(deployment_id: str, user_id: str, *, is_rejection: bool = False) -> tuple[Deployment, Environment, User]:
    """The deployment, which waits, its environment, and the user, who may decide about it. Raises as the services."""
    deployment = deployment_get(deployment_id)
    environment = environment_get(str(deployment.environment))
    if deployment.status != DeploymentStatus.WAITING:
        raise Conflict(
            f"The deployment does not wait any more: it is {str(deployment.status).replace('_', ' ')}.",
            code=ErrorCode.DEPLOYMENT_STATE,
        )
    if not environment.approvals:
        raise Conflict(
            f"{environment.name} asks for no approvals. To stop the deployment, cancel its job.",
            code=ErrorCode.NO_APPROVAL_NEEDED,
        )
    user = user_get(user_id)
    problem = approver_problem(environment, deployment, user, is_rejection=is_rejection)
    if user is None or problem:
        raise Forbidden(problem or "")
    return deployment, environment, user


def _decision_add(transaction: Transaction, environment: Environment, user: User) -> None:
    """Require that the user may still decide: neither their account nor the environment has changed."""
    still_same = (Environment.revision == environment.revision) & Environment.deleted_at.does_not_exist()
    transaction.check("environment", environment, still_same)
    user_check_add(transaction, user, label="approver")


def _decision(actor: Actor, user: User, comment: str | None) -> dict[str, Any]:
    now = clock.timestamp(clock.now())
    return {"by_id": str(user.user_id), "by": str(user.name), "at": now, "comment": comment, "as": actor.kind}


def _unchanged(deployment: Deployment) -> Any:
    return (Deployment.status == DeploymentStatus.WAITING) & (Deployment.revision == deployment.revision)


def _comment_check(comment: str | None) -> str | None:
    comment = (comment or "").strip()
    if len(comment) > MAX_COMMENT:
        raise InvalidInput.field("comment", f"must be at most {MAX_COMMENT:,} characters")
    return comment or None
