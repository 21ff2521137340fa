"""The services of jobs: the only writers of the app's records."""

from typing import TYPE_CHECKING

from apps.jobs.models import CHUNK_LIMIT
from controlplane.lib.lazy_names import lazy_names

if TYPE_CHECKING:
    from apps.jobs.services.advance import run_advance, runs_advance
    from apps.jobs.services.announcements import outbox_work
    from apps.jobs.services.attempts import (
        AttemptResult,
        JobPlace,
        attempt_finish,
        attempt_start,
    )
    from apps.jobs.services.claims import Assignment, jobs_claim
    from apps.jobs.services.dispatch import Dispatch, next_dispatch, work_dispatch
    from apps.jobs.services.event_starts import event_work, events_work
    from apps.jobs.services.fetch_access import start_fetch_access
    from apps.jobs.services.file_reports import FileReport, attempt_define
    from apps.jobs.services.gauges import gauges_measure
    from apps.jobs.services.jobs import job_cancel, job_create, job_retry
    from apps.jobs.services.leases import agents_mark, leases_expire
    from apps.jobs.services.limits import time_limit
    from apps.jobs.services.log_archives import log_archive, logs_archive
    from apps.jobs.services.log_limits import log_limit
    from apps.jobs.services.logs import log_append
    from apps.jobs.services.losses import attempt_expire, attempt_release
    from apps.jobs.services.pauses import runs_resume
    from apps.jobs.services.queue import sets_prune
    from apps.jobs.services.reconciliation import queue_reconcile
    from apps.jobs.services.reports import report_add
    from apps.jobs.services.run_allowances import run_allow
    from apps.jobs.services.run_extension import run_extend
    from apps.jobs.services.runs import run_cancel, run_retry
    from apps.jobs.services.schedule_starts import schedules_start
    from apps.jobs.services.secret_deliveries import Channel, definition_secrets, start_secrets

__all__ = [
    "CHUNK_LIMIT",
    "Assignment",
    "AttemptResult",
    "Channel",
    "Dispatch",
    "FileReport",
    "JobPlace",
    "agents_mark",
    "attempt_define",
    "attempt_expire",
    "attempt_finish",
    "attempt_release",
    "attempt_start",
    "definition_secrets",
    "event_work",
    "events_work",
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
    "outbox_work",
    "queue_reconcile",
    "report_add",
    "run_advance",
    "run_allow",
    "run_cancel",
    "run_extend",
    "run_retry",
    "runs_advance",
    "runs_resume",
    "schedules_start",
    "sets_prune",
    "start_fetch_access",
    "start_secrets",
    "time_limit",
    "work_dispatch",
]

# A module is imported with the first use of one of its names: a cold start needs few of them.
__getattr__ = lazy_names(
    __name__,
    {
        "announcements": ["outbox_work"],
        "attempts": ["AttemptResult", "JobPlace", "attempt_finish", "attempt_start"],
        "claims": ["Assignment", "jobs_claim"],
        "dispatch": ["Dispatch", "next_dispatch", "work_dispatch"],
        "event_starts": ["event_work", "events_work"],
        "fetch_access": ["start_fetch_access"],
        "file_reports": ["FileReport", "attempt_define"],
        "gauges": ["gauges_measure"],
        "jobs": ["job_cancel", "job_create", "job_retry"],
        "leases": ["agents_mark", "leases_expire"],
        "limits": ["time_limit"],
        "log_archives": ["log_archive", "logs_archive"],
        "log_limits": ["log_limit"],
        "logs": ["log_append"],
        "losses": ["attempt_expire", "attempt_release"],
        "pauses": ["runs_resume"],
        "queue": ["sets_prune"],
        "reconciliation": ["queue_reconcile"],
        "reports": ["report_add"],
        "advance": ["run_advance", "runs_advance"],
        "run_allowances": ["run_allow"],
        "run_extension": ["run_extend"],
        "runs": ["run_cancel", "run_retry"],
        "schedule_starts": ["schedules_start"],
        "secret_deliveries": ["Channel", "definition_secrets", "start_secrets"],
    },
)
