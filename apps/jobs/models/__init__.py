"""The records of runs, jobs, the queue, logs, artifacts, caches, deployments, reports and counters."""

from typing import TYPE_CHECKING

from apps.jobs.models.counter import DayCounter
from apps.jobs.models.group import LINE, SLOT, STATE, GroupRow
from apps.jobs.models.job import FILE_NODE, FIRST_NODE, OPEN, Job
from apps.jobs.models.log import CHUNK_LIMIT, LogChunk
from apps.jobs.models.queue import EMPTY, LEASES, SETS, QueueEntry, QueueSet
from apps.jobs.models.run import (
    DUE,
    GRAPH,
    HEADS,
    NODE,
    OPEN_RUNS,
    RUN,
    Run,
    RunGraph,
    RunHeads,
    RunNode,
    RunWork,
    heads_key,
)
from controlplane.lib.lazy_names import lazy_names

if TYPE_CHECKING:
    from apps.jobs.models.artifact import Archive, Artifact, Cache
    from apps.jobs.models.deployment import Deployment
    from apps.jobs.models.environment import LIVE, SPACE, WAITS, Environment, LiveDeployment, WaitingDeployment
    from apps.jobs.models.idempotency import IdempotencyKey
    from apps.jobs.models.report import JobReport, report_place, reports_stream
    from apps.jobs.models.result import JobResult

__all__ = [
    "CHUNK_LIMIT",
    "DUE",
    "EMPTY",
    "FILE_NODE",
    "FIRST_NODE",
    "GRAPH",
    "HEADS",
    "LEASES",
    "LINE",
    "LIVE",
    "NODE",
    "OPEN",
    "OPEN_RUNS",
    "RUN",
    "SETS",
    "SLOT",
    "SPACE",
    "STATE",
    "WAITS",
    "Archive",
    "Artifact",
    "Cache",
    "DayCounter",
    "Deployment",
    "Environment",
    "GroupRow",
    "IdempotencyKey",
    "Job",
    "JobReport",
    "JobResult",
    "LiveDeployment",
    "LogChunk",
    "QueueEntry",
    "QueueSet",
    "Run",
    "RunGraph",
    "RunHeads",
    "RunNode",
    "RunWork",
    "WaitingDeployment",
    "heads_key",
    "report_place",
    "reports_stream",
]

# A cold start loads none of these.
__getattr__ = lazy_names(
    __name__,
    {
        "artifact": ["Archive", "Artifact", "Cache"],
        "deployment": ["Deployment"],
        "environment": ["LIVE", "SPACE", "WAITS", "Environment", "LiveDeployment", "WaitingDeployment"],
        "idempotency": ["IdempotencyKey"],
        "report": ["JobReport", "report_place", "reports_stream"],
        "result": ["JobResult"],
    },
)
