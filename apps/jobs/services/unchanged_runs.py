"""Runs of schedules that build only if something has changed, and how they end if nothing has.

The control plane learns a commit from an agent. So such a run is started at its time; when its first job has fetched
the ref, its commit is compared with that of the schedule's last finished run. If it is the same, the job ends, and the
run with it, before any step of the pipeline.
"""

import hashlib
from collections.abc import Mapping
from typing import Any

from apps.jobs.models import RUN, Job, Run
from apps.jobs.selectors.runs import run_get
from apps.jobs.states import RunStatus
from apps.pipelines.definitions import Definition, Step
from apps.pipelines.selectors import Pipeline
from controlplane.nosql.record import compact_json

# A run that was cancelled has built nothing to rely on.
_FINISHED = (RunStatus.COMPLETED, RunStatus.FAILED)


def run_basis(*, source: Pipeline, git_ref: str, parameters: Mapping[str, Any] | None) -> str:
    """A digest of what a run of the pipeline builds besides the commit. Each saving of the pipeline changes it."""
    facts = {"pipeline": int(source.revision), "git_ref": git_ref, "parameters": dict(parameters or {})}
    return hashlib.sha256(compact_json(dict(sorted(facts.items()))).encode()).hexdigest()[:32]


def unchanged_find(job: Job, *, commit: str | None) -> str | None:
    """The id of the run that has built the same as this first job of a run would; None if there is none or none counts.

    Once an attempt was let go, or was stopped, the same holds for those after it. A user who runs the job again wants
    it to build.
    """
    if job.retry_of:
        return None
    run = run_get(job.run_id)
    if run.unchanged_since:
        return str(run.unchanged_since)
    if not run.changed_since or not commit or run.commit or job.defined_attempt:
        return None
    earlier = {str(one.run_id): one for one in Run.find_many((run_id, RUN) for run_id in run.changed_since)}
    for run_id in run.changed_since:
        last = earlier.get(run_id)
        if last is not None and last.status in _FINISHED:
            is_same = last.commit == commit and last.basis == run.basis
            return str(last.unchanged_since or run_id) if is_same else None
    return None


def unchanged_definition(job: Job, *, since: str) -> Mapping[str, Any]:
    """What the first job does instead of the pipeline's steps. Any agent can run it."""
    says = f"echo 'Nothing has changed since run {since}, so there is nothing to build.'"
    return Definition(steps=[Step(name="nothing has changed", run=says)], labels=list(job.labels)).as_dict()
