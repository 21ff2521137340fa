"""Results of jobs that later runs take: noted by the sweep, and taken in place of a queue entry."""

import logging
from collections.abc import Iterable, Mapping
from datetime import timedelta

from apps.jobs.models import Job, JobResult
from apps.jobs.run_graph import GraphJob
from apps.jobs.selectors.results import results_find
from apps.jobs.selectors.run_context import ref_branch
from apps.jobs.selectors.runs import RunView, node_jobs
from apps.jobs.services.transitions import Move, move_commit
from apps.jobs.states import Status
from controlplane.lib import clock
from controlplane.lib.actor import SYSTEM

logger = logging.getLogger(__name__)

# For how long a result is taken, unless its artifacts expire before.
KEPT = timedelta(days=30)


def results_note(view: RunView) -> None:
    """Note the results of the run's jobs that have just succeeded, as far as they have a digest of their work.

    Repeating it changes nothing. A result that is never noted costs a later run its time, and nothing else.
    """
    branch = ref_branch(str(view.run.git_ref))
    ended = {
        job.name: job
        for job in view.jobs
        if job.digest and view.nodes[job.name].due and view.nodes[job.name].state == Status.COMPLETED
    }
    if not ended or not branch:
        return
    for name, record in node_jobs(view, names=ended).items():
        if not record.reused_from:
            _note(view, ended[name], record, branch)


def _note(view: RunView, job: GraphJob, record: Job, branch: str) -> None:
    kept = (job.node.artifacts or {}).get("expire_in")
    lifetime = min(KEPT, timedelta(seconds=kept)) if kept else KEPT
    started, ended = record.started_at or record.completed_at, record.completed_at
    seconds = (clock.parse_timestamp(ended) - clock.parse_timestamp(started)).total_seconds()
    JobResult(
        f"{view.run.pipeline}#{job.digest}",
        branch,
        job_id=record.job_id,
        run_id=view.run.run_id,
        node=job.name,
        outputs=view.nodes[job.name].outputs,
        seconds=max(0, round(seconds)),
        expires_at=clock.parse_timestamp(ended) + lifetime,
    ).save()


def results_for(view: RunView, jobs: Iterable[GraphJob]) -> Mapping[str, JobResult]:
    """The results that the jobs may take, by their names. None for a job that was run again, or that has no digest."""
    if view.run.reuse is False:
        return {}
    asked = {job.name: job.digest for job in jobs if job.digest and view.nodes[job.name].job_id == job.first_id}
    branches = [ref_branch(str(view.run.git_ref)), ref_branch(str(view.run.default_ref or ""))]
    return results_find(str(view.run.pipeline), asked, branches=[branch for branch in branches if branch])


def result_take(record: Job, result: JobResult) -> None:
    """End the waiting job with the result of an earlier one. Raises TransactionFailed if it does not wait any more."""
    move_commit(
        Move(
            job=record,
            before=Status.WAITING,
            after=Status.COMPLETED,
            attempt=0,
            actor=SYSTEM,
            action=None,
            changes=[
                Job.reused_from.set(result.job_id),
                Job.saved_seconds.set(int(result.seconds)),
                Job.exit_code.set(0),
                Job.open.remove(),
            ],
            outputs=result.outputs,
        )
    )
