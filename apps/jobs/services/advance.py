"""Advancing a run: queue the jobs that may start, skip those that will not, and end the run after its last job.

`run_advance` computes from the run's rows what is to happen, so it may be called at any time, by several processes, and
be interrupted anywhere. It is called after each end of a job (`run_following`). The end has marked the job's row in its
own transaction, and the sweep advances the runs of marked rows again, in case the call was lost.
"""

import logging
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import timedelta

from apps.jobs.models import DUE, FILE_NODE, Run
from apps.jobs.run_graph import GraphJob
from apps.jobs.run_plan import Plan, run_plan
from apps.jobs.selectors.groups import group_front
from apps.jobs.selectors.job_origin import FORK_DEPLOYS, is_kept_apart
from apps.jobs.selectors.run_context import decider
from apps.jobs.selectors.runs import RunView, node_jobs, run_view, waiting_record
from apps.jobs.services.results import result_take, results_for, results_note
from apps.jobs.services.run_endings import Freed, job_end, jobs_end, run_end
from apps.jobs.services.run_queueing import BATCH, job_line_leave, job_queue_in_group, jobs_queue, run_queue_in_group
from apps.jobs.states import FINAL, RUN_FINAL, Event, Status
from controlplane.lib import clock
from controlplane.lib.batches import batched
from controlplane.lib.errors import NotFound
from controlplane.lib.labels import targets_required
from controlplane.nosql.connection import ConditionFailed
from controlplane.nosql.transaction import TransactionFailed

logger = logging.getLogger(__name__)

# How often a run is advanced anew when its rows have changed since they were read, or when an end that needs no agent
# lets others start: a chain of jobs may be as long as this.
_TRIES = 50

# A mark is left to the request that made it for this long, and the sweep looks at no more marks at once.
_SETTLED_AFTER = timedelta(seconds=2)
_MARKS_AT_ONCE = 1_000

# How many deployments that wait are looked at when their environment is free or has changed; the sweep finds others.
_OFFERED = 50


def run_advance(*, run_id: str) -> None:
    """Do what is to happen to the run's jobs now. One query, and one transaction for up to 24 jobs.

    Raises NotFound, Unavailable. In the last case some may be done.
    """
    freed = Freed()
    for _ in range(_TRIES):
        view = run_view(run_id)
        if not view.is_complete or view.run.status in RUN_FINAL:
            return
        plan = run_plan(
            view.jobs,
            view.states,
            decide=decider(view.run, view.jobs, view.nodes),
            cancelled=bool(view.run.cancel_requested),
            barred=_barred(view),
            in_line=_in_line(view),
        )
        try:
            if _apply(view, plan, freed):
                break
        except TransactionFailed:
            # Another process has advanced it since it was read.
            continue
    else:
        logger.info("a run keeps changing; the sweep advances it", extra={"run_id": run_id})
    for group in freed.groups:
        group_advance(group=group)
    for other in freed.runs - {run_id}:
        run_advance(run_id=other)
    for environment in freed.environments:
        environment_advance(name=environment)


def _barred(view: RunView) -> Mapping[str, str]:
    """The jobs that do not run for a fork: those that deploy, by their environment or by a label."""
    if view.run.event != Event.PULL_REQUEST or not is_kept_apart(view.run):
        return {}
    return {
        job.name: FORK_DEPLOYS
        for job in view.jobs
        if job.name != FILE_NODE and (job.node.environment or targets_required(job.node.labels))
    }


def _in_line(view: RunView) -> Mapping[str, str]:
    """The jobs that wait in the line of their concurrency group, with the time since when."""
    return {
        name: str(node.group_since)
        for name, node in view.nodes.items()
        if node.group_since and node.state == Status.WAITING
    }


def group_advance(*, group: str) -> None:
    """Offer a slot that may be free to the first in the group's line."""
    first = group_front(group).first
    if first is not None:
        run_advance(run_id=str(first.run_id))


def environment_advance(*, name: str) -> None:
    """Offer a free environment to its deployments that wait, the oldest first, until one of them has it."""
    from apps.jobs.selectors.environments import environment_find, environment_view

    seen = environment_view(name)
    for waiting in seen.waiting[:_OFFERED] if seen else ():
        environment = environment_find(name)
        if environment is None or environment.holders:
            return
        run_advance(run_id=str(waiting.run_id))


def environment_runs_advance(*, name: str) -> None:
    """Look at the gates of the deployments that wait for the environment, whose settings have changed."""
    from apps.jobs.selectors.environments import environment_view

    seen = environment_view(name)
    for run_id in dict.fromkeys(str(waiting.run_id) for waiting in (seen.waiting[:_OFFERED] if seen else ())):
        run_advance(run_id=run_id)


def _apply(view: RunView, plan: Plan, freed: Freed) -> bool:
    """Do what the plan says. True if nothing is left to do now. Raises TransactionFailed."""
    named = {job.name: job for job in view.jobs}
    for name in _in_line(view).keys() - {*plan.queue, *plan.skip, *plan.fail, *plan.cancel}:
        job_line_leave(view, named[name], freed)
    if plan.queue and view.run.group and not view.run.has_slot and not run_queue_in_group(view, freed):
        plan.queue.clear()
    if _results_take(view, [named[name] for name in plan.queue]):
        # What needs these jobs may start, too.
        return False
    deploying = [named[name] for name in plan.queue if named[name].node.environment]
    others = [named[name] for name in plan.queue if not named[name].node.environment]
    for batch in batched((job for job in others if not job.node.group), BATCH):
        jobs_queue([waiting_record(view, job) for job in batch])
    still = [job_queue_in_group(view, job, freed) for job in others if job.node.group]
    still += _deploying_queue(view, deploying, freed)
    _end_waiting(view, plan, named, freed)
    if not all(still):
        # What needs a job that has just ended may start.
        return False
    stopped = [
        job_end(view.nodes[name].job_id, reason)
        for name, reason in plan.cancel.items()
        if view.states[name] != Status.WAITING
    ]
    freed.groups.update(str(job.group) for job in stopped if job.status in FINAL and job.group)
    freed.environments.update(str(job.environment) for job in stopped if job.status in FINAL and job.environment)
    if any(job.status in FINAL for job in stopped):
        # Nothing else acts on these ends.
        return False
    return plan.result is None or run_end(view, plan.result, freed)


def _deploying_queue(view: RunView, jobs: Sequence[GraphJob], freed: Freed) -> list[bool]:
    """Queue those of the jobs that deploy whose gates are open. False for each that has ended instead."""
    if not jobs:
        return []
    # Few jobs deploy, and no cold start shall load what these need.
    from apps.jobs.services.deployment_gates import deployment_queue

    return [deployment_queue(view, job, freed) for job in jobs]


def _results_take(view: RunView, jobs: Sequence[GraphJob]) -> bool:
    """End those of the jobs with the results of earlier ones that have such. Returns whether there were any."""
    results = results_for(view, jobs)
    for job in jobs:
        if job.name in results:
            result_take(waiting_record(view, job), results[job.name])
    return bool(results)


def _end_waiting(view: RunView, plan: Plan, named: Mapping[str, GraphJob], freed: Freed) -> None:
    """End the waiting jobs that the plan skips, fails or cancels."""
    waiting = {name: reason for name, reason in plan.cancel.items() if view.states[name] == Status.WAITING}
    ends = {Status.SKIPPED: plan.skip, Status.FAILED: plan.fail, Status.CANCELLED: waiting}
    for status, reasons in ends.items():
        # Two jobs of one group change the same row, which a transaction may do once. A deployment changes more rows.
        single = {name for name in reasons if named[name].node.group or view.nodes[name].environment}
        for job in (named[name] for name in reasons if name in single):
            jobs_end(view, [job], status, reasons)
            freed.groups.update(filter(None, [view.nodes[job.name].group]))
        for batch in batched((named[name] for name in reasons if name not in single), BATCH):
            jobs_end(view, batch, status, reasons)


def runs_advance(*, seconds: float) -> int:
    """Advance the runs whose rows are marked, and remove the marks. Returns the number of runs.

    After so many seconds it stops; the next call goes on with the oldest marks.
    """
    until = time.monotonic() + seconds
    settled = clock.timestamp(clock.now() - _SETTLED_AFTER)
    marked: dict[str, list[Run]] = {}
    for row in Run.by_due.query(DUE, Run.due_at < settled, limit=_MARKS_AT_ONCE):
        marked.setdefault(str(row.run_id), []).append(row)
    advanced = 0
    for run_id, rows in marked.items():
        _advance_marked(run_id, rows)
        advanced += 1
        if time.monotonic() >= until:
            break
    return advanced


def _advance_marked(run_id: str, rows: Sequence[Run]) -> None:
    """Advance the run and what waits for slots of its ended jobs, then remove the marks that have not changed since."""
    try:
        view = run_view(run_id)
        run_advance(run_id=run_id)
    except NotFound:
        # The rows of a run whose own row is missing, as after a restore of tables from different moments.
        view = None
    if view:
        results_note(view)
    for group in _groups_of_ended(view) if view else ():
        group_advance(group=group)
    for environment in _environments_of_ended(view) if view else ():
        environment_advance(name=environment)
    for row in rows:
        unmarked = [Run.due.remove(), Run.due_at.remove()]
        with suppress(ConditionFailed):
            Run(run_id, row.part).update(actions=[*unmarked], condition=Run.due_at == row.due_at)


def _groups_of_ended(view: RunView) -> set[str]:
    """The concurrency groups of the run's marked jobs, whose slots may be free."""
    grouped = {job.name for job in view.jobs if job.node.group}
    marked = [name for name, node in view.nodes.items() if node.due and name in grouped]
    return {str(job.group) for job in node_jobs(view, names=marked).values() if job.group} if marked else set()


def _environments_of_ended(view: RunView) -> set[str]:
    """The environments of the run's marked jobs that have ended, which may be free."""
    ended = (node for node in view.nodes.values() if node.due and node.state in FINAL)
    return {str(node.environment) for node in ended if node.environment}
