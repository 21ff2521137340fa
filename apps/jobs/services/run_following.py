"""Acting on the ends of jobs: the runs of those that belong to a graph are advanced."""

import logging

from apps.jobs.models import Job
from controlplane.lib.errors import NotFound, Unavailable

logger = logging.getLogger(__name__)


def run_follow(job: Job) -> None:
    """Act on the end of a job, which has just been committed. What this cannot do now, the sweep does.

    For a job that has not ended, and for the only job of a run, nothing happens.
    """
    if not job.node or job.is_first:
        return
    # No cold start shall load what advances runs: the end of an only job needs none of it.
    from apps.jobs.services.advance import environment_advance, group_advance, run_advance

    try:
        run_advance(run_id=job.run_id)
        if job.group:
            group_advance(group=job.group)
        if job.environment:
            environment_advance(name=job.environment)
    except (Unavailable, NotFound) as error:
        logger.warning("a run was not advanced, the sweep does it: %s", error.message, extra={"run_id": job.run_id})
