"""The services for runs: cancel one, and run its jobs again. `jobs.job_create` starts one."""

from apps.audit.actions import Action
from apps.audit.services import audit_add
from apps.jobs import policies
from apps.jobs.models import DUE, Run
from apps.jobs.selectors.runs import run_get, run_view
from apps.jobs.services.advance import run_advance
from apps.jobs.services.jobs import job_cancel, job_retry
from apps.jobs.services.run_retries import run_take_back
from apps.jobs.states import RUN_FINAL
from controlplane.lib import clock
from controlplane.lib.actor import Actor
from controlplane.lib.error_codes import ErrorCode
from controlplane.lib.errors import Conflict
from controlplane.nosql.transaction import Transaction, TransactionFailed


def run_cancel(*, actor: Actor, run_id: str) -> None:
    """Cancel all jobs of the run that have not ended: those that wait at once, the others by their agents.

    Cancelling again changes nothing. Raises NotFound, or Conflict with code ``run_finished``.
    """
    policies.job_cancel_require(actor)
    run = run_get(run_id)
    if not run.jobs:
        # It still has one job alone, unless that one reads a graph meanwhile, and may have ended with that.
        ended = None
        try:
            job_cancel(actor=actor, job_id=run.job_id)
        except Conflict as error:
            ended = error
        run = run_get(run_id)
        if ended is not None and not run.jobs:
            raise ended
        if not run.jobs or run.cancel_requested:
            return
    if run.status in RUN_FINAL:
        raise Conflict(f"The run has ended already: it is {run.status}.", code=ErrorCode.RUN_FINISHED)
    transaction = Transaction()
    transaction.update(
        "run",
        run,
        actions=[
            Run.cancel_requested.set(True),
            Run.due.set(DUE),
            Run.due_at.set(clock.timestamp(clock.now())),
        ],
        condition=Run.open.exists() & Run.cancel_requested.does_not_exist(),
    )
    audit_add(transaction, actor=actor, action=Action.RUN_CANCELLED, target=f"run:{run_id}")
    try:
        transaction.commit()
    except TransactionFailed:
        # It has ended meanwhile, or was cancelled already.
        return
    run_advance(run_id=run_id)


def run_retry(*, actor: Actor, run_id: str, everything: bool = False) -> None:
    """Run the failed and cancelled jobs of the run again, or all that have ended. What succeeded is kept.

    Raises NotFound, Conflict with code ``run_nothing_to_retry``, and what `job_retry` raises.
    """
    policies.job_retry_require(actor)
    view = run_view(run_id)
    if not view.run.jobs:
        job_retry(actor=actor, job_id=view.run.job_id)
    else:
        run_take_back(actor=actor, view=view, everything=everything)
