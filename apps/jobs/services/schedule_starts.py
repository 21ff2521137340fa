"""What the sweep does for schedules: it starts the runs that are due.

The time at which a schedule is due is used up in the transaction that creates the run, so that two sweeps, a lost
answer or a crash make one run. The next time is counted from now, so that times that were missed make one run together.
"""

import logging
import time
from datetime import datetime

from apps.accounts.policies import Permission
from apps.audit.actions import Action
from apps.jobs.label_sets import DEFAULT_PRIORITY
from apps.jobs.services.new_jobs import job_enqueue, job_of, run_of
from apps.jobs.services.unchanged_runs import run_basis
from apps.jobs.states import Event
from apps.pipelines.parsing import parameters_check
from apps.pipelines.selectors import (
    Pipeline,
    Schedule,
    pipeline_get,
    pipeline_parsed,
    schedule_cron,
    schedule_find,
    schedules_due,
)
from apps.pipelines.services import schedule_claim_add, schedule_pass
from controlplane.lib import clock
from controlplane.lib.actor import Actor
from controlplane.lib.errors import ApplicationError, Unavailable
from controlplane.nosql.transaction import Transaction, TransactionFailed

logger = logging.getLogger(__name__)

PIPELINE_PAUSED = "The pipeline was paused."


def schedules_start(*, seconds: float) -> int:
    """Start the runs that are due, for at most so many seconds and one run. Returns how many it started.

    What cannot be started is noted in its schedule. While the database does not answer, it stays due.
    """
    until = time.monotonic() + seconds
    count = 0
    for schedule_id in schedules_due(clock.now()):
        try:
            count += schedule_start(schedule_id)
        except Unavailable as error:
            logger.warning("The schedule %s stays due: %s", schedule_id, error.message)
        except Exception:
            # One that we cannot handle must not keep the others back.
            logger.exception("The schedule %s fails", schedule_id)
        if time.monotonic() >= until:
            break
    return count


def schedule_start(schedule_id: str) -> bool:
    """Start the run of a schedule if it is due. Returns whether this call did. Raises Unavailable."""
    schedule, now = schedule_find(schedule_id), clock.now()
    if schedule is None or not schedule.due_at or schedule.due_at > clock.timestamp(now):
        # The index lags, or another sweep was faster.
        return False
    following = None
    try:
        following = schedule_cron(schedule).after(now)
        pipeline = pipeline_get(str(schedule.pipeline))
        if not pipeline.paused_at:
            return _run_start(schedule, pipeline, following=following)
        problem = PIPELINE_PAUSED
    except Unavailable:
        raise
    except ApplicationError as error:
        problem = error.message
    schedule_pass(schedule, problem=problem, following=following)
    logger.info("The schedule %s starts no run: %s", schedule_id, problem)
    return False


def _run_start(schedule: Schedule, source: Pipeline, *, following: datetime | None) -> bool:
    """Start a run. Returns False if another process was faster. Raises ApplicationError."""
    schedule_id = str(schedule.schedule_id)
    actor = Actor("schedule", schedule_id, f"schedule {schedule_id}", frozenset({Permission.JOBS_CREATE.value}))
    parsed = pipeline_parsed(source)
    parameters = parameters_check(parsed, schedule.parameters or {}) if parsed else schedule.parameters
    git_ref = str(schedule.git_ref or source.default_ref)
    job = job_of(source, actor=actor, git_ref=git_ref, env={}, priority=DEFAULT_PRIORITY, labels=sorted(source.labels))
    job.event = Event.SCHEDULE
    run = run_of(job, source=source, event=Event.SCHEDULE, parameters=parameters)
    run.schedule_id = schedule_id
    run.basis = run_basis(source=source, git_ref=git_ref, parameters=parameters)
    if schedule.only_if_changed:
        run.changed_since = list(schedule.run_ids)
        if parsed and not parsed.is_graph:
            # Its agent asks for the steps when it knows the commit.
            job.definition, job.steps, job.is_defined_on_server = None, None, True
    transaction = Transaction()
    transaction.put("run", run)
    schedule_claim_add(transaction, schedule, run_id=str(job.run_id), following=following)
    try:
        job_enqueue(job, actor=actor, action=Action.JOB_CREATED, idempotency=None, transaction=transaction)
    except TransactionFailed as failure:
        if "schedule" not in failure.failed:
            raise
        return False
    return True
