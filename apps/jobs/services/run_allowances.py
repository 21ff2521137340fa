"""Letting the run of a fork have what a run of the repository itself has: an operator has looked at its commit."""

from contextlib import suppress

from apps.audit.actions import Action
from apps.audit.services import audit_add
from apps.jobs import policies
from apps.jobs.models import RUN, Run
from apps.jobs.selectors.job_origin import PULL_REQUEST
from apps.jobs.selectors.runs import run_get
from controlplane.lib import clock
from controlplane.lib.actor import Actor
from controlplane.lib.error_codes import ErrorCode
from controlplane.lib.errors import Conflict
from controlplane.nosql.transaction import Transaction, TransactionFailed


def run_allow(*, actor: Actor, run_id: str) -> Run:
    """Let this run of a fork's pull request have secrets, write caches and deploy, as far as any pull request may.

    The run builds one commit, and the next push to the pull request is another run, which is not let. What it has
    skipped or failed to do, it does when it is run again. Letting it again changes nothing.

    Raises Forbidden, NotFound, and Conflict with the code ``run_not_of_fork``.
    """
    policies.run_allow_require(actor)
    run = run_get(run_id)
    if run.event != PULL_REQUEST or run.is_fork is False:
        raise Conflict(
            "The run is not for a pull request of a fork, so there is nothing to let.", code=ErrorCode.RUN_NOT_OF_FORK
        )
    if run.allowed_at:
        return run
    transaction = Transaction()
    transaction.update(
        "run",
        Run(run_id, RUN),
        actions=[Run.allowed_at.set(clock.timestamp(clock.now())), Run.allowed_by.set(actor.name)],
        condition=Run.pipeline.exists() & Run.allowed_at.does_not_exist(),
    )
    audit_add(
        transaction,
        actor=actor,
        action=Action.RUN_ALLOWED,
        target=f"run:{run_id}",
        detail={
            "pipeline": str(run.pipeline),
            "pull_request": int(run.pull_request) if run.pull_request else None,
            "from": (run.trigger or {}).get("head_repository"),
            "commit": run.commit,
        },
    )
    # Otherwise another request has let it at the same moment.
    with suppress(TransactionFailed):
        transaction.commit()
    return run_get(run_id)
