"""What artifacts and caches need to know of a job's run: its event, its branch, its node, and what the node needs."""

import hashlib
import re
from collections.abc import Iterable
from dataclasses import dataclass

from apps.jobs.models import RUN, Job, Run
from apps.jobs.run_graph import jobs_before
from apps.jobs.selectors.runs import node_jobs, run_view
from apps.pipelines.selectors import pipeline_get
from controlplane.lib.error_codes import ErrorCode
from controlplane.lib.errors import InvalidInput, NotFound

# The node of a job that is alone in its run.
ONLY_NODE = "main"
# The event of a run for a change that others propose, perhaps strangers.
PULL_REQUEST = "pull_request"
# Why a job of a fork does not run.
FORK_DEPLOYS = "pull requests of forks deploy to no environment, unless an operator lets the run"

_BRANCHES = "refs/heads/"
_COMMIT = re.compile(r"[0-9a-f]{7,64}")

# A longer ref is part of a scope as its SHA-256, so that a key of DynamoDB has room for it.
_SCOPE_BYTES = 255


@dataclass(frozen=True)
class Origin:
    """What a run is for: the event that caused it, and its branch, tag, commit or other ref.

    `is_from_fork`: the commits may come from another repository, and no operator has let the run. `is_of_stranger`: it
    is known that they do.
    """

    event: str
    ref: str
    is_from_fork: bool = False
    is_of_stranger: bool = False

    @property
    def scope(self) -> str:
        """The caches that the run may write. No run for a pull request has the scope of a branch, whatever its ref.

        A ref has no colon.
        """
        ref = self.ref.removeprefix("refs/heads/")
        if len(ref.encode()) > _SCOPE_BYTES:
            ref = f"sha256:{hashlib.sha256(ref.encode()).hexdigest()}"
        return f"{'pull' if self.event == PULL_REQUEST else 'branch'}:{ref}:"

    @property
    def branch(self) -> str | None:
        """The branch; None for a tag, a commit, and any other ref that is certainly none."""
        if self.ref.startswith(_BRANCHES):
            return self.ref.removeprefix(_BRANCHES)
        is_other = self.ref.startswith("refs/") or self.ref == "HEAD" or _COMMIT.fullmatch(self.ref)
        return None if is_other else self.ref

    @property
    def is_proposed(self) -> bool:
        """Whether strangers may have written what the run runs."""
        return self.event == PULL_REQUEST


@dataclass(frozen=True)
class NeededJob:
    """The job whose artifacts a needed node has: its own, or that of the run from which it was reused."""

    node: str
    run_id: str
    job_id: str


def job_origin(job: Job) -> Origin:
    """What the job's run is for. No read, but one of the run for a pull request."""
    event, ref = str(job.event or "api"), str(job.git_ref)
    if event != PULL_REQUEST:
        return Origin(event, ref)
    # What is not known of the run counts against it.
    run = Run.find(str(job.run_id), RUN)
    apart = run is None or is_kept_apart(run)
    return Origin(event, ref, is_from_fork=apart, is_of_stranger=apart and run is not None and bool(run.is_fork))


def is_kept_apart(run: Run) -> bool:
    """Whether the run is for commits of another repository, and no operator has let it. It gets no secret then."""
    return run.event == PULL_REQUEST and run.is_fork is not False and not run.allowed_at


def job_node(job: Job) -> str:
    """The name of the job in its run. No read."""
    return ONLY_NODE if job.is_first or not job.node else str(job.node)


def default_scope(job: Job) -> str | None:
    """The scope of the pipeline's default branch, whose caches all runs may read; None for a deleted pipeline.

    One consistent read.
    """
    try:
        pipeline = pipeline_get(str(job.pipeline))
    except NotFound:
        return None
    return Origin(event="api", ref=str(pipeline.default_ref)).scope


def needed_jobs(job: Job, nodes: Iterable[str]) -> list[NeededJob]:
    """The jobs of these nodes of the job's run.

    Raises InvalidInput for a node that the job does not need, itself or through others.

    One query of the run, and a read for each 100 jobs; another for those that have the result of an earlier job.
    """
    view = run_view(str(job.run_id))
    needed = jobs_before(str(job.node), view.jobs)
    names = list(nodes)
    for number, node in enumerate(names):
        if node not in needed:
            message = f"must be a job that this one needs; {node[:100]} is none"
            raise InvalidInput.field(f"jobs[{number}]", message, code=ErrorCode.INVALID_INPUT)
    records = node_jobs(view, names=names)
    origins = {one.job_id: one for one in Job.find_many(_reused_from(records.values()))}
    return [_needed(node, origins.get(records[node].reused_from, records[node])) for node in names if node in records]


def _reused_from(records: Iterable[Job]) -> list[str]:
    return [str(record.reused_from) for record in records if record.reused_from]


def _needed(node: str, record: Job) -> NeededJob:
    return NeededJob(node, str(record.run_id), str(record.job_id))
