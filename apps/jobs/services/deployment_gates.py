"""Deployments before they begin: a job that deploys waits until the gates of its environment are open.

`run_advance` calls `deployment_queue` when nothing else of the run keeps the job back. That may be at any time and any
number of times: each call decides from the records, and its transaction requires what it has decided by to be
unchanged. While the job waits, its row in the run is marked for the sweep, for the time at which a gate opens by
itself, and for a look at least every ten minutes. The start of the job by its agent asks the gates once more.
"""

import logging
from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import timedelta
from typing import Any

from apps.accounts.selectors import User
from apps.accounts.services import user_check_add
from apps.audit.actions import Action
from apps.audit.services import audit_add
from apps.jobs.models import DUE, SPACE, Deployment, Environment, Job, RunNode, WaitingDeployment
from apps.jobs.run_graph import GraphJob
from apps.jobs.selectors.deployments import deployment_find
from apps.jobs.selectors.environments import environment_find, environment_live
from apps.jobs.selectors.gates import (
    Gate,
    approvals_counted,
    closed,
    gate_people,
    gates,
    ref_is_allowed,
    refs_shown,
)
from apps.jobs.selectors.jobs import job_get
from apps.jobs.selectors.runs import RunView, waiting_record
from apps.jobs.services.check_changes import checks_changed_add
from apps.jobs.services.deployment_news import News, deployment_announce
from apps.jobs.services.environment_records import environment_make
from apps.jobs.services.groups import slot_return
from apps.jobs.services.run_endings import Freed, jobs_end
from apps.jobs.services.run_nodes import node_row
from apps.jobs.services.run_queueing import job_line_leave, job_queue_in_group, jobs_queue
from apps.jobs.services.transitions import Move, move_add
from apps.jobs.states import REASON_GATES, DeploymentStatus, Status
from controlplane.lib import clock
from controlplane.lib.actor import SYSTEM, Actor
from controlplane.lib.errors import Conflict
from controlplane.nosql.connection import ConditionFailed
from controlplane.nosql.transaction import Transaction, TransactionFailed

logger = logging.getLogger(__name__)

# A deployment that waits is looked at again after this time at the latest.
_LOOK_AGAIN = timedelta(minutes=10)


def deployment_queue(view: RunView, job: GraphJob, freed: Freed) -> bool:
    """Queue a waiting job that deploys if all gates of its environment are open; else it goes on waiting for them.

    An environment that nothing is known of is made without gates. False if the job has ended instead, since it may not
    deploy there. Raises TransactionFailed when something has changed since it was read.
    """
    name = str(job.node.environment)
    if view.run.deploys_alone and view.run.deploys_to != name:
        return _refused(view, job, f"this run deploys to {view.run.deploys_to} only", status=Status.SKIPPED)
    environment = environment_find(name)
    if environment is None:
        try:
            environment_make(name=name)
        except Conflict as error:
            return _refused(view, job, error.message, status=Status.FAILED)
        environment = environment_find(name)
    if environment is None:
        return True
    problem = _problem(environment, str(view.run.git_ref))
    if problem:
        return _refused(view, job, problem, status=Status.FAILED)
    node = view.nodes[job.name]
    deployment = deployment_find(str(node.job_id)) if node.environment else None
    if deployment is None:
        deployment = _begin(view, job, environment)
    people = gate_people(environment, deployment)
    shut = closed(gates(environment, deployment, people=people, now=clock.now()))
    if shut:
        if node.group_since:
            job_line_leave(view, job, freed)
        _look_again(node, shut)
        return True
    return _open(view, job, environment, deployment, people, freed)


def deployment_start_add(transaction: Transaction, job: Job, *, agent: Actor) -> bool:
    """Have the start of an assigned job that deploys require that the gates, which had opened for it, are still open.

    It also adds the event of the deployment, by which reports find it. False if a gate has closed since: the job then
    waits again, without having begun, and its run is to be advanced.
    """
    deployment = deployment_find(str(job.job_id)) if job.environment else None
    if deployment is None or deployment.status != DeploymentStatus.IN_PROGRESS:
        # From before deployments had gates.
        return _put_back(job, None, "it has to wait for its gates first")
    environment = environment_find(str(job.environment))
    if environment is None:
        return _put_back(job, deployment, "the environment is gone")
    people = gate_people(environment, deployment)
    shut = closed(gates(environment, deployment, people=people, now=clock.now()))
    problem = _problem(environment, str(deployment.git_ref))
    if shut or problem:
        return _put_back(job, deployment, problem or shut[0].message)
    transaction.check("environment", environment, Environment.revision == environment.revision)
    _approvers_check(transaction, environment, deployment, people)
    approved = [str(one["by"]) for one in approvals_counted(environment, deployment, people)]
    audit_add(
        transaction,
        actor=agent,
        action=Action.DEPLOYMENT_STARTED,
        target=f"environment:{environment.name}",
        detail={
            "pipeline": str(job.pipeline),
            "git_ref": str(job.git_ref),
            "commit": job.commit,
            "requested_by": str(job.requested_by),
            "approved_by": ", ".join(approved) or None,
            "job_id": str(job.job_id),
            "run_id": str(job.run_id),
            "attempt": int(job.attempt),
        },
        label="deployment",
    )
    return True


def _problem(environment: Environment, git_ref: str) -> str | None:
    """Why the ref can never be deployed to the environment as this is now, or None."""
    if environment.deleted_at:
        return f"The environment {environment.name} was deleted. Create it again to deploy to it."
    if not ref_is_allowed(environment, git_ref):
        return f"{git_ref} may not be deployed to {environment.name}, which allows: {refs_shown(environment)}."
    return None


def _refused(view: RunView, job: GraphJob, reason: str, *, status: Status) -> bool:
    jobs_end(view, [job], status, {job.name: reason}, refused_by=str(job.node.environment))
    return False


def _begin(view: RunView, job: GraphJob, environment: Environment) -> Deployment:
    """Record that a deployment waits for the gates. Raises TransactionFailed."""
    node, run = view.nodes[job.name], view.run
    record = job_get(str(node.job_id))
    now = clock.now()
    people = {run.requested_by_id, record.requested_by_id}
    deployment = Deployment(
        node.job_id,
        environment=environment.name,
        pipeline=run.pipeline,
        run_id=run.run_id,
        node=job.name,
        git_ref=run.git_ref,
        commit=run.commit,
        event=run.event,
        repeats=run.repeats,
        requested_by=run.requested_by,
        requester_ids=sorted(str(person) for person in people if person),
        status=DeploymentStatus.WAITING,
        created_at=clock.timestamp(now),
        created_month=f"{now:%Y-%m}",
    )
    transaction = Transaction()
    transaction.put("deployment", deployment)
    transaction.put("waiting", _waiting_row(deployment))
    if run.checks_key:
        checks_changed_add(transaction, key=run.checks_key, run_id=str(run.run_id))
    still_waits = (RunNode.state == Status.WAITING) & (RunNode.job_id == node.job_id)
    marks = [RunNode.environment.set(environment.name), *_due(now + _LOOK_AGAIN)]
    transaction.update("node", node_row(record), actions=marks, condition=still_waits)
    transaction.update(
        "job", record, actions=[Job.environment.set(environment.name)], condition=Job.status == Status.WAITING
    )
    transaction.check("environment", environment, Environment.revision == environment.revision)
    audit_add(
        transaction,
        actor=SYSTEM,
        action=Action.DEPLOYMENT_CREATED,
        target=f"environment:{environment.name}",
        detail={
            "deployment_id": str(node.job_id),
            "pipeline": str(run.pipeline),
            "git_ref": str(run.git_ref),
            "commit": run.commit,
            "requested_by": str(run.requested_by),
            "run_id": str(run.run_id),
        },
    )
    if environment.approvals:
        deployment_announce(transaction, deployment, News.WAITS)
    transaction.commit()
    # The view is as the transaction has left it.
    node.environment, node.due, node.due_at = environment.name, DUE, clock.timestamp(now + _LOOK_AGAIN)
    return deployment


def _due(moment: Any) -> list[Any]:
    return [RunNode.due.set(DUE), RunNode.due_at.set(clock.timestamp(moment))]


def _look_again(node: RunNode, shut: Sequence[Gate]) -> None:
    """Mark the row of the job for when the gates may be open, unless it is marked for that already.

    The last of the gates that open by themselves counts, and at most ten minutes.
    """
    now = clock.now()
    latest = clock.timestamp(now + _LOOK_AGAIN)
    times = [gate.until for gate in shut]
    wanted = latest if None in times else min(latest, max(str(time) for time in times))
    # A little after the time, so that the gate is open then.
    if node.due_at and clock.timestamp(now) < str(node.due_at) <= wanted:
        return
    still_waits = (RunNode.state == Status.WAITING) & (RunNode.job_id == node.job_id)
    with suppress(ConditionFailed):
        RunNode(node.run_id, node.part).update(
            actions=[RunNode.due.set(DUE), RunNode.due_at.set(wanted)], condition=still_waits
        )


def _open(
    view: RunView,
    job: GraphJob,
    environment: Environment,
    deployment: Deployment,
    people: Mapping[str, User],
    freed: Freed,
) -> bool:
    """Give the job the environment and queue it; or let it wait for its concurrency group. Raises TransactionFailed."""
    live = environment_live(environment.name, str(deployment.pipeline))
    turn = int(environment.turn or 0) + 1
    transaction = Transaction()
    transaction.update(
        "environment",
        environment,
        actions=[Environment.holders.add({str(deployment.deployment_id)}), Environment.turn.set(turn)],
        condition=(Environment.revision == environment.revision) & Environment.holders.does_not_exist(),
    )
    opened = [
        Deployment.status.set(DeploymentStatus.IN_PROGRESS),
        Deployment.opened_at.set(clock.timestamp(clock.now())),
        Deployment.turn.set(turn),
    ]
    if live is not None:
        opened.append(Deployment.before_id.set(live.deployment_id))
        opened += [Deployment.before_commit.set(live.commit)] if live.commit else []
    transaction.update(
        "deployment",
        deployment,
        actions=opened,
        condition=(Deployment.status == DeploymentStatus.WAITING) & (Deployment.revision == deployment.revision),
    )
    transaction.delete("waiting", _waiting_row(deployment), _any())
    _approvers_check(transaction, environment, deployment, people)
    audit_add(
        transaction,
        actor=SYSTEM,
        action=Action.DEPLOYMENT_OPENED,
        target=f"environment:{environment.name}",
        detail={"deployment_id": str(deployment.deployment_id), "commit": deployment.commit},
    )
    if job.node.group:
        return job_queue_in_group(view, job, freed, also=transaction)
    jobs_queue([waiting_record(view, job)], transaction=transaction)
    return True


def _approvers_check(
    transaction: Transaction, environment: Environment, deployment: Deployment, people: Mapping[str, User]
) -> None:
    """Require that those whose approvals have opened the gates may still approve."""
    needed = int(environment.approvals)
    for number, approval in enumerate(approvals_counted(environment, deployment, people)[:needed]):
        user_check_add(transaction, people[str(approval["by_id"])], label=f"approver {number}")


def _put_back(job: Job, deployment: Deployment | None, reason: str) -> bool:
    """Let an assigned job wait again. Always False."""
    transaction = Transaction()
    move_add(
        transaction,
        Move(
            job=job,
            before=Status.ASSIGNED,
            after=Status.WAITING,
            attempt=int(job.attempt),
            actor=SYSTEM,
            action=Action.JOB_REQUEUED,
            agent_id=str(job.agent_id),
            changes=[Job.group.remove(), Job.group_since.remove()] if job.group else [],
            detail={"attempt": int(job.attempt), "reason": f"{REASON_GATES}{reason}"},
        ),
    )
    transaction.update(
        "node",
        node_row(job),
        actions=[
            RunNode.state.set(Status.WAITING),
            RunNode.attempt.set(int(job.attempt)),
            RunNode.group.remove(),
            RunNode.group_since.remove(),
            *_due(clock.now()),
        ],
        condition=RunNode.job_id == job.job_id,
    )
    if job.group:
        slot_return(transaction, job)
    if deployment is not None:
        gone: list[Any] = [Deployment.opened_at, Deployment.turn, Deployment.before_id, Deployment.before_commit]
        transaction.update(
            "deployment",
            deployment,
            actions=[Deployment.status.set(DeploymentStatus.WAITING), *(one.remove() for one in gone)],
        )
        transaction.put("waiting", _waiting_row(deployment), _any())
        holders = Environment(SPACE, str(deployment.environment))
        transaction.update("holders", holders, actions=[Environment.holders.delete({str(deployment.deployment_id)})])
    try:
        transaction.commit()
    except TransactionFailed:
        # The job was cancelled, or the agent has lost it.
        return False
    logger.info("a deployment waits again: %s", reason, extra={"job_id": job.job_id, "run_id": job.run_id})
    return False


def _waiting_row(deployment: Deployment) -> WaitingDeployment:
    return WaitingDeployment.of(
        str(deployment.environment),
        str(deployment.deployment_id),
        run_id=deployment.run_id,
        node=deployment.node,
    )


def _any() -> Any:
    """A condition that each item meets, and also a missing one."""
    return WaitingDeployment.space.exists() | WaitingDeployment.space.does_not_exist()
