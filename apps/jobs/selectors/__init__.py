"""Reads of the app's records. Each docstring says how consistent the read is.

`log_search` is imported by its own name, because its patterns would delay every cold start.
"""

from typing import TYPE_CHECKING

from apps.jobs.models import Job
from controlplane.lib.lazy_names import lazy_names

if TYPE_CHECKING:
    from apps.jobs.selectors.counters import DayOutcomes, job_outcomes
    from apps.jobs.selectors.jobs import JobPage, job_get, job_list, job_steps, jobs_recent
    from apps.jobs.selectors.jobs_of_run import RunJob, first_waits, job_waits, run_jobs, run_waits
    from apps.jobs.selectors.log_lines import (
        AttemptLog,
        Line,
        attempt_log,
        log_attempt_newest,
        log_attempts,
        log_line_range,
    )
    from apps.jobs.selectors.log_parts import LogPart, log_part, part_blocks, part_lines, part_size, part_tail
    from apps.jobs.selectors.logs import LogSlice, job_log_link, job_log_problem, job_log_read
    from apps.jobs.selectors.overview import Overview, job_overview
    from apps.jobs.selectors.reports import (
        CoverageTrend,
        JobTests,
        PipelineTests,
        job_tests,
        pipeline_coverage,
        pipeline_tests,
        run_tests,
    )
    from apps.jobs.selectors.runs import RunPage, RunView, run_get, run_list, run_view, runs_recent
    from apps.jobs.selectors.story import JobAttempt, job_attempts, job_retries_left
    from apps.jobs.selectors.waiting import Waiting, WaitingCode

__all__ = [
    "AttemptLog",
    "CoverageTrend",
    "DayOutcomes",
    "Job",
    "JobAttempt",
    "JobPage",
    "JobTests",
    "Line",
    "LogPart",
    "LogSlice",
    "Overview",
    "PipelineTests",
    "RunJob",
    "RunPage",
    "RunView",
    "Waiting",
    "WaitingCode",
    "attempt_log",
    "first_waits",
    "job_attempts",
    "job_get",
    "job_list",
    "job_log_link",
    "job_log_problem",
    "job_log_read",
    "job_outcomes",
    "job_overview",
    "job_retries_left",
    "job_steps",
    "job_tests",
    "job_waits",
    "jobs_recent",
    "log_attempt_newest",
    "log_attempts",
    "log_line_range",
    "log_part",
    "part_blocks",
    "part_lines",
    "part_size",
    "part_tail",
    "pipeline_coverage",
    "pipeline_tests",
    "run_get",
    "run_jobs",
    "run_list",
    "run_tests",
    "run_view",
    "run_waits",
    "runs_recent",
]

# A module is imported with the first use of one of its names: a cold start needs few of them.
__getattr__ = lazy_names(
    __name__,
    {
        "counters": ["DayOutcomes", "job_outcomes"],
        "jobs": ["JobPage", "job_get", "job_list", "job_steps", "jobs_recent"],
        "log_lines": [
            "AttemptLog",
            "Line",
            "attempt_log",
            "log_attempt_newest",
            "log_attempts",
            "log_line_range",
        ],
        "log_parts": ["LogPart", "log_part", "part_blocks", "part_lines", "part_size", "part_tail"],
        "logs": ["LogSlice", "job_log_link", "job_log_problem", "job_log_read"],
        "overview": ["Overview", "job_overview"],
        "reports": [
            "CoverageTrend",
            "JobTests",
            "PipelineTests",
            "job_tests",
            "pipeline_coverage",
            "pipeline_tests",
            "run_tests",
        ],
        "jobs_of_run": ["RunJob", "first_waits", "job_waits", "run_jobs", "run_waits"],
        "runs": ["RunPage", "RunView", "run_get", "run_list", "run_view", "runs_recent"],
        "story": ["JobAttempt", "job_attempts", "job_retries_left"],
        "waiting": ["Waiting", "WaitingCode"],
    },
)
