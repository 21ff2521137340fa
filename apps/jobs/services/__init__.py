"""The services of jobs: the only writers of the app's records."""

from apps.jobs.models import CHUNK_LIMIT
from apps.jobs.services.attempts import (
    AttemptResult,
    attempt_define,
    attempt_finish,
    attempt_start,
)
from apps.jobs.services.claims import Assignment, jobs_claim
from apps.jobs.services.dispatch import Dispatch, next_dispatch, work_dispatch
from apps.jobs.services.gauges import gauges_measure
from apps.jobs.services.jobs import job_cancel, job_create, job_retry
from apps.jobs.services.leases import agents_mark, leases_expire
from apps.jobs.services.limits import time_limit
from apps.jobs.services.log_archives import log_archive, logs_archive
from apps.jobs.services.log_limits import log_limit
from apps.jobs.services.logs import log_append
from apps.jobs.services.losses import attempt_expire, attempt_release
from apps.jobs.services.queue import sets_prune
from apps.jobs.services.reconciliation import queue_reconcile

__all__ = [
    "CHUNK_LIMIT",
    "Assignment",
    "AttemptResult",
    "Dispatch",
    "agents_mark",
    "attempt_define",
    "attempt_expire",
    "attempt_finish",
    "attempt_release",
    "attempt_start",
    "gauges_measure",
    "job_cancel",
    "job_create",
    "job_retry",
    "jobs_claim",
    "leases_expire",
    "log_append",
    "log_archive",
    "log_limit",
    "logs_archive",
    "next_dispatch",
    "queue_reconcile",
    "sets_prune",
    "time_limit",
    "work_dispatch",
]
