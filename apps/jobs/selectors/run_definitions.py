"""What a job of a graph runs: its steps and settings from the run's rows, filled in with what the run knows by now."""

from collections.abc import Mapping
from typing import Any

from apps.jobs.models import GRAPH, RUN, Job, Run, RunGraph
from apps.jobs.run_graph import GraphJob, graph_unpack
from apps.jobs.run_plan import result_of
from apps.jobs.selectors.run_context import job_context, run_context
from apps.jobs.selectors.runs import nodes_get, run_work
from apps.jobs.states import Status
from apps.pipelines.definitions import secret_uses
from apps.pipelines.parsing import node_finish
from controlplane.lib.errors import InvalidInput

# The members of a node that its agent needs, beside the steps.
_SETTINGS = (
    "timeout",
    "container",
    "submodules",
    "artifacts",
    "take",
    "caches",
    "reports",
    "outputs",
    "environment",
)


def graph_definition(job: Job) -> Mapping[str, Any]:
    """What an attempt of a job of a graph runs. Three reads, and one more for up to 100 jobs that it needs.

    Raises InvalidInput if a text of it cannot be filled in.
    """
    run = Run.find(job.run_id, RUN)
    jobs = _graph(str(job.run_id))
    named = {one.name: one for one in jobs}
    work = run_work(str(job.run_id), str(job.work))
    if run is None or work is None or job.node not in named:
        raise InvalidInput("The definition of this job is missing from its run. Start the run again.")
    own = named[str(job.node)]
    nodes = {node.name: node for node in nodes_get(str(job.run_id), (name for name, _ in own.needs))}
    if not {name for name, _ in own.needs} <= nodes.keys():
        raise InvalidInput("Rows of jobs that this one needs are missing from its run. Start the run again.")
    results = {
        name: result_of(Status(node.state), allow_failure=named[name].allow_failure) for name, node in nodes.items()
    }
    context = job_context(run_context(run), own, named=named, nodes=nodes, results=results)
    finished = node_finish(own.node, context)
    members = finished.as_dict()
    return {
        "steps": work["steps"],
        "labels": list(own.node.labels),
        "retries": int(job.retries),
        "timeout": None,
        "container": None,
        "submodules": False,
        "env": finished.env,
        **{name: members[name] for name in _SETTINGS if name in members},
        "secrets": secret_uses(finished.secrets),
        "take": _taken(own, named),
    }


def _graph(run_id: str) -> list[GraphJob]:
    parts = RunGraph.query(run_id, RunGraph.part.startswith(GRAPH), consistent_read=True)
    return [job for part in parts for job in graph_unpack(part.packed)]


def _taken(job: GraphJob, named: Mapping[str, GraphJob]) -> list[str]:
    """The names of the jobs in the run whose artifacts the job gets: all cells of those that its file names."""
    return [name for name, other in named.items() if other.job in job.node.take]
