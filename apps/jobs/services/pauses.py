"""The first jobs of runs that were started while their pipeline was paused: they wait until it is resumed.

A claim knows nothing of pauses, since these jobs have no entry in the queue. A resume queues some of them at once. The
sweep queues the others, and also a job whose request had read the pipeline just before it was resumed.
"""

from collections.abc import Iterable, Sequence

from apps.jobs.models import Job
from apps.jobs.selectors.runs import first_jobs_since
from apps.jobs.services.run_queueing import BATCH, jobs_queue
from apps.jobs.states import Status
from apps.pipelines.selectors import Pipeline, pipelines_paused
from apps.pipelines.services import pipeline_resume
from controlplane.lib.actor import Actor
from controlplane.lib.batches import batched
from controlplane.nosql.transaction import TransactionFailed

# How many runs a resume starts at once: the request must not take long.
_AT_ONCE = 96


def runs_resume(*, actor: Actor, pipeline: str) -> Pipeline:
    """End the pause of the pipeline and queue the oldest jobs that waited for that; the sweep queues the others.

    Resuming again only queues those that still wait. Raises Forbidden, NotFound.
    """
    resumed = pipeline_resume(actor=actor, name=pipeline)
    since = resumed.pause_at
    if since and not resumed.paused_at:
        _queue([job for job in first_jobs_since(pipeline, since, limit=_AT_ONCE) if _waits(job)])
    return resumed


def first_jobs_release(jobs: Iterable[Job]) -> None:
    """Queue those of the jobs that wait for a pause that has ended. No call if none of them waits for a pause."""
    waiting = [job for job in jobs if _waits(job)]
    if waiting:
        paused = pipelines_paused(str(job.pipeline) for job in waiting)
        _queue([job for job in waiting if job.pipeline not in paused])


def _waits(job: Job) -> bool:
    return job.is_first and job.status == Status.WAITING


def _queue(jobs: Sequence[Job]) -> None:
    for batch in batched(jobs, BATCH):
        if not _queued(batch):
            # One of them was cancelled or queued meanwhile.
            for job in batch:
                _queued([job])


def _queued(jobs: Sequence[Job]) -> bool:
    try:
        jobs_queue(jobs)
    except TransactionFailed:
        return False
    return True
