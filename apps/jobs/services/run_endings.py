"""Ending jobs of a run that will not run, stopping others, and ending the run itself."""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

from apps.audit.actions import Action
from apps.audit.services import audit_add
from apps.jobs.models import DUE, RUN, Job, Run
from apps.jobs.run_graph import GraphJob
from apps.jobs.selectors.jobs import job_get
from apps.jobs.selectors.runs import RunView, waiting_record
from apps.jobs.services.cancellation import job_stop
from apps.jobs.services.check_changes import checks_changed_add
from apps.jobs.services.counters import counter_add
from apps.jobs.services.groups import line_leave, run_member, slot_return
from apps.jobs.services.run_nodes import run_end_add
from apps.jobs.services.transitions import Move, move_add
from apps.jobs.states import RunStatus, Status
from controlplane.lib import clock
from controlplane.lib.actor import SYSTEM
from controlplane.lib.errors import Conflict
from controlplane.nosql.connection import ConditionFailed
from controlplane.nosql.transaction import Transaction


@dataclass
class Freed:
    """What is to be advanced next: groups and environments that may be free, and runs that had to give way."""

    groups: set[str] = field(default_factory=set)
    environments: set[str] = field(default_factory=set)
    runs: set[str] = field(default_factory=set)


def jobs_end(
    view: RunView,
    jobs: Sequence[GraphJob],
    status: Status,
    reasons: Mapping[str, str],
    *,
    refused_by: str | None = None,
) -> None:
    """End waiting jobs, by one transaction. Raises TransactionFailed if one of them does not wait any more.

    `refused_by` is the environment to which the only job may not deploy.
    """
    transaction = Transaction()
    if refused_by:
        detail = {
            "job_id": view.nodes[jobs[0].name].job_id,
            "git_ref": view.run.git_ref,
            "reason": reasons[jobs[0].name],
        }
        audit_add(
            transaction,
            actor=SYSTEM,
            action=Action.DEPLOYMENT_REFUSED,
            target=f"environment:{refused_by}",
            detail=detail,
        )
    for job in jobs:
        reason, record = reasons[job.name], waiting_record(view, job)
        move_add(
            transaction,
            Move(
                job=record,
                before=Status.WAITING,
                after=status,
                attempt=int(record.attempt),
                actor=SYSTEM,
                action=None,
                changes=[Job.error_message.set(_sentence(status, reason)), Job.open.remove()],
                reason=reason,
                counted=False,
            ),
        )
    counter_add(transaction, status=status, number=len(jobs))
    transaction.commit()


def _sentence(status: Status, reason: str) -> str:
    return reason if status == Status.FAILED else f"The job was {status.value}: {reason}."


def job_end(job_id: str, reason: str) -> Job:
    """Cancel the job, or have its agent do it. Returns it as it is then: it may also have ended otherwise."""
    try:
        return job_stop(actor=SYSTEM, job_id=job_id, reason=reason)
    except Conflict:
        return job_get(job_id)


def run_give_way(run_id: str) -> None:
    """Cancel a run whose place a newer one takes. It ends with its running jobs."""
    marks = [Run.cancel_requested.set(True), Run.due.set(DUE), Run.due_at.set(clock.timestamp(clock.now()))]
    with suppress(ConditionFailed):
        Run(run_id, RUN).update(actions=[*marks], condition=Run.open.exists() & Run.cancel_requested.does_not_exist())


def run_end(view: RunView, result: RunStatus, freed: Freed) -> bool:
    """End the run, and give its slot back.

    False if another process has ended it, a job of it was run again, or one was added, since it was read.
    """
    run = view.run
    now = clock.timestamp(clock.now())
    ended = [Run.status.set(result), Run.completed_at.set(now), Run.open.remove()]
    unchanged = (Run.revision == run.revision) & Run.open.exists()
    if not (run.has_slot or run.group_since or run.checks_key or run.announced):
        try:
            Run(run.run_id, RUN).update(actions=[*ended], condition=unchanged)
        except ConditionFailed:
            return False
        return True
    transaction = Transaction()
    given_back = Run.has_slot.exists() if run.has_slot else Run.has_slot.does_not_exist()
    ended += [Run.has_slot.remove(), Run.group_since.remove()]
    transaction.update("run", Run(run.run_id, RUN), actions=ended, condition=unchanged & given_back)
    if run.checks_key:
        checks_changed_add(transaction, key=run.checks_key, run_id=str(run.run_id))
    if run.announced:
        run_end_add(transaction, run, result=result, ended_at=now)
    if run.has_slot or run.group_since:
        (slot_return if run.has_slot else line_leave)(transaction, run_member(run))
        freed.groups.add(str(run.group))
    transaction.commit()
    return True
