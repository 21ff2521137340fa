"""The records of jobs, the queue, logs and counters."""

from apps.jobs.models.counter import DayCounter
from apps.jobs.models.idempotency import IdempotencyKey
from apps.jobs.models.job import OPEN, Job
from apps.jobs.models.log import CHUNK_LIMIT, LogChunk
from apps.jobs.models.queue import EMPTY, LEASES, SETS, QueueEntry, QueueSet

__all__ = [
    "CHUNK_LIMIT",
    "EMPTY",
    "LEASES",
    "OPEN",
    "SETS",
    "DayCounter",
    "IdempotencyKey",
    "Job",
    "LogChunk",
    "QueueEntry",
    "QueueSet",
]
