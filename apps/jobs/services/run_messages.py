"""What is said of the end of a run: a short message, from the run and the jobs that failed in it."""

from collections.abc import Mapping, Sequence
from typing import Any

from django.conf import settings

from apps.jobs.models import Job, Run
from apps.jobs.selectors.job_errors import job_error
from apps.jobs.selectors.runs import RunView, node_jobs, run_view
from apps.jobs.states import RunStatus, Status
from apps.notifications.services import Message
from apps.notifications.states import Occasion
from controlplane.lib import clock

# So many failed jobs are named.
_JOBS_NAMED = 3
_ERROR_CHARACTERS = 200
_FAILED = frozenset({Status.FAILED, Status.TIMED_OUT})
_HEADLINES = {
    Occasion.FAILED: "Failed",
    Occasion.FAILED_AFTER_SUCCESS: "Failed after success",
    Occasion.FIXED: "Fixed",
    Occasion.SUCCEEDED: "Succeeded",
    Occasion.CANCELLED: "Cancelled",
}
_TYPES = {RunStatus.COMPLETED: "run.succeeded", RunStatus.FAILED: "run.failed", RunStatus.CANCELLED: "run.cancelled"}


def run_message(run_id: str, *, occasion: Occasion, result: RunStatus, ended_at: str) -> Message:
    """The message about the end of a run: one query, and one read of up to three failed jobs.

    The run may have been started again since: `result` and `ended_at` are what is announced.

    Raises NotFound, Unavailable.
    """
    view = run_view(run_id)
    run = view.run
    failed = _failed_jobs(view) if result == RunStatus.FAILED else []
    seconds = (clock.parse_timestamp(ended_at) - clock.parse_timestamp(run.created_at)).total_seconds()
    url = f"{settings.PUBLIC_URL}/dashboard/runs/{run_id}" if settings.PUBLIC_URL else None
    return Message(
        type=_TYPES[result],
        headline=_HEADLINES[occasion],
        subject=f"{run.pipeline} on {run.git_ref}",
        facts=_facts(run, failed, seconds),
        url=url,
        link="Open the run",
        at=ended_at,
        data={
            "occasion": occasion,
            "run_id": run_id,
            "pipeline": run.pipeline,
            "git_ref": run.git_ref,
            "commit": run.commit,
            "repository": run.repository,
            "event": run.event,
            "requested_by": run.requested_by,
            "result": _TYPES[result].removeprefix("run."),
            "created_at": run.created_at,
            "ended_at": ended_at,
            "seconds": round(seconds),
            "failed_jobs": failed,
        },
        is_good={RunStatus.COMPLETED: True, RunStatus.FAILED: False}.get(result),
    )


def _facts(run: Run, failed: Sequence[Mapping[str, Any]], seconds: float) -> list[tuple[str, str]]:
    facts = [("Failed job", f"{job['name']}: {job['error']}" if job["error"] else job["name"]) for job in failed]
    facts += [("Commit", str(run.commit)[:12])] if run.commit else []
    facts += [("Started by", str(run.requested_by)), ("Took", clock.duration_text(seconds))]
    return facts


def _failed_jobs(view: RunView) -> list[dict[str, Any]]:
    """The first jobs of the run that failed, with the first line of what went wrong."""
    if not view.run.jobs:
        job = Job.find(str(view.run.job_id))
        return [_described(job, name=str(view.run.pipeline))] if job else []
    names = [job.name for job in view.jobs if view.states.get(job.name) in _FAILED][:_JOBS_NAMED]
    records = node_jobs(view, names=names)
    return [_described(records[name], name=name) for name in names if name in records]


def _described(job: Job, *, name: str) -> dict[str, Any]:
    return {"name": name, "job_id": str(job.job_id), "error": job_error(job)[:_ERROR_CHARACTERS]}
