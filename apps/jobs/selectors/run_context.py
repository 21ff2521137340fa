"""What expressions in a pipeline file can name, of a run and of the jobs that a job needs.

Conditions are evaluated when all that a job needs has ended, and texts are filled in when the job starts.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from apps.jobs.models import FILE_NODE, Run, RunNode
from apps.jobs.run_graph import GraphJob
from apps.jobs.run_plan import CANCELLED, FAILURE, SKIPPED, SUCCESS, Before, ConditionFailed, result_of
from apps.jobs.states import Status
from apps.pipelines.definitions import Node, Pipeline
from apps.pipelines.parsing import node_finish, node_runs
from controlplane.lib.errors import InvalidInput

_TAGS = "refs/tags/"
_BRANCHES = "refs/heads/"
_COMMIT_LENGTHS = (40, 64)


def run_context(run: Run) -> dict[str, Any]:
    """The members of `agent.pipeline.expressions.Context` that are the same for all jobs of the run."""
    ref = str(run.git_ref)
    return {
        "ref": ref,
        "branch": ref_branch(ref),
        "tag": ref.removeprefix(_TAGS) if ref.startswith(_TAGS) else "",
        "event": str(run.event_before or run.event),
        "commit": str(run.commit or ""),
        "pipeline": str(run.pipeline),
        "default_branch": ref_branch(str(run.default_ref or "")),
        "parameters": dict(run.parameters or {}),
        "changed_paths": list(run.changed_paths) if run.changed_paths is not None else None,
    }


def ref_branch(ref: str) -> str:
    """The branch that a ref names, or "" for a tag or a commit. A plain name is taken for a branch."""
    if ref.startswith("refs/") and not ref.startswith(_BRANCHES):
        return ""
    is_commit = len(ref) in _COMMIT_LENGTHS and all(digit in "0123456789abcdef" for digit in ref)
    return "" if is_commit else ref.removeprefix(_BRANCHES)


def job_context(
    common: Mapping[str, Any],
    job: GraphJob,
    *,
    named: Mapping[str, GraphJob],
    nodes: Mapping[str, RunNode],
    results: Mapping[str, str],
) -> dict[str, Any]:
    """The members of a `Context` for one job: those of its run, and how what it needs has ended.

    Of a matrix that it needs, the worst result of all cells counts, and the outputs of all cells together.
    """
    needs: dict[str, dict[str, Any]] = {}
    for name, _ in job.needs:
        need = needs.setdefault(named[name].job, {"result": SUCCESS, "outputs": {}})
        need["result"] = max(need["result"], results[name], key=_BY_BADNESS.index)
        need["outputs"].update(nodes[name].outputs or {})
    return {**common, "needs": needs}


_BY_BADNESS = (SUCCESS, SKIPPED, CANCELLED, FAILURE)


def group_name(run: Run, job: GraphJob, jobs: Iterable[GraphJob], nodes: Mapping[str, RunNode]) -> str:
    """The name of the job's concurrency group, when all that it needs has ended. Raises InvalidInput."""
    named = {one.name: one for one in jobs}
    results = {
        name: result_of(Status(nodes[name].state), allow_failure=named[name].allow_failure) for name, _ in job.needs
    }
    context = job_context(run_context(run), job, named=named, nodes=nodes, results=results)
    return str((node_finish(job.node, context).group or {})["name"])


def run_group(pipeline: Pipeline, context: Mapping[str, Any]) -> dict[str, Any] | None:
    """The concurrency group of a whole run, with its name filled in, or None. Raises InvalidInput."""
    if pipeline.concurrency is None:
        return None
    group = {
        "name": pipeline.concurrency.group,
        "limit": pipeline.concurrency.limit,
        "cancel_in_progress": pipeline.concurrency.cancel_in_progress,
    }
    return node_finish(Node(FILE_NODE, FILE_NODE, group=group), {**context, "needs": {}}).group


def decider(run: Run, jobs: Iterable[GraphJob], nodes: Mapping[str, RunNode]) -> Callable[[Any, Before], bool]:
    """The function that evaluates conditions for `run_plan`. It computes what all of them share once."""
    named = {job.name: job for job in jobs}
    common: dict[str, Any] = {}

    def decide(job: GraphJob, before: Before) -> bool:
        if not common:
            common.update(run_context(run))
        context = job_context(common, job, named=named, nodes=nodes, results=before.results)
        context |= {"needs_met": before.is_met, "failed_before": before.failed, "cancelled": before.cancelled}
        try:
            return node_runs(job.node, context)
        except InvalidInput as error:
            raise ConditionFailed(error.message) from error

    return decide
