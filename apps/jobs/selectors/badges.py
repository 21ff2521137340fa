"""Reading what the badge of a pipeline shows."""

from collections.abc import Iterable
from itertools import islice

from apps.jobs.models import RUN, Run
from apps.jobs.states import Event, RunStatus

# How many of the pipeline's newest runs are looked at.
_LOOK_AT_MOST = 500
# How many runs of the branch are read in one call: the newest ones may be going on.
_BATCH = 10

_BRANCH = "refs/heads/"


def branch_runs(pipeline: str) -> list[tuple[str, str]]:
    """The pipeline's last runs but those of pull requests, each with its ref, the newest first. It may lag by moments.

    A pull request is a proposal: it says nothing about the branch, also if its own branch has the same name.
    """
    rows = Run.by_pipeline.query(pipeline, scan_index_forward=False, limit=_LOOK_AT_MOST, page_size=_LOOK_AT_MOST)
    return [(str(row.run_id), str(row.git_ref)) for row in rows if row.event != Event.PULL_REQUEST]


def branch_result(runs: Iterable[tuple[str, str]], branch: str) -> RunStatus | None:
    """How the branch's newest run ended that completed or failed; None if none of `runs` is one.

    No call if the branch has no runs, else one for each ten.
    """
    names = {branch, f"{_BRANCH}{branch}", branch.removeprefix(_BRANCH)}
    ids = (run_id for run_id, git_ref in runs if git_ref in names)
    while batch := list(islice(ids, _BATCH)):
        found = Run.find_many((run_id, RUN) for run_id in batch)
        ended = [run for run in found if run.status in (RunStatus.COMPLETED, RunStatus.FAILED)]
        if ended:
            return RunStatus(max(ended, key=lambda run: str(run.created_at)).status)
    return None
