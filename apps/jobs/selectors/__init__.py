"""Reads of the app's records; each says its consistency."""

from apps.jobs.selectors.jobs import JobPage, job_get, job_list, job_steps, jobs_recent
from apps.jobs.selectors.logs import LogSlice, job_log_read
from apps.jobs.selectors.overview import DayOutcomes, Overview, job_outcomes, job_overview

__all__ = [
    "DayOutcomes",
    "JobPage",
    "LogSlice",
    "Overview",
    "job_get",
    "job_list",
    "job_log_read",
    "job_outcomes",
    "job_overview",
    "job_steps",
    "jobs_recent",
]
