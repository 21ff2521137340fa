"""Reads of the app's records. Each docstring says how consistent the read is."""

from apps.jobs.selectors.counters import DayOutcomes, job_outcomes
from apps.jobs.selectors.jobs import JobPage, job_get, job_list, job_steps, jobs_recent
from apps.jobs.selectors.logs import LogSlice, job_log_problem, job_log_read
from apps.jobs.selectors.overview import Overview, job_overview

__all__ = [
    "DayOutcomes",
    "JobPage",
    "LogSlice",
    "Overview",
    "job_get",
    "job_list",
    "job_log_problem",
    "job_log_read",
    "job_outcomes",
    "job_overview",
    "job_steps",
    "jobs_recent",
]
