"""The environment that a job deploys to."""

from apps.jobs.models import GRAPH, Job, RunGraph
from apps.jobs.run_graph import graph_unpack


def job_environment(job: Job) -> str | None:
    """What the pipeline file says that the job deploys to. One consistent query for a job of a graph, else no read.

    Everyone who may push to the repository can write it there. So it counts for nothing but what the agent may deploy
    to.
    """
    if not job.work:
        return None
    parts = RunGraph.query(str(job.run_id), RunGraph.part.startswith(GRAPH), consistent_read=True)
    jobs = (one for part in parts for one in graph_unpack(part.packed))
    return next((one.node.environment for one in jobs if one.name == job.node), None)
