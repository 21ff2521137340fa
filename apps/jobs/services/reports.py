"""Storing the test results and the coverage that agents report."""

from dataclasses import dataclass
from datetime import timedelta
from hashlib import sha256
from typing import Any

from django.core.cache import cache

from apps.jobs.models import Job, JobReport, report_place, reports_stream
from apps.jobs.policies import attempt_require, is_lost_attempt_of
from apps.jobs.reports.packing import cases_pack, failures_pack
from apps.jobs.reports.results import MAX_FILE, MAX_REPORTS, REPORT_LIMIT, ReportKind, one_line
from controlplane.lib import clock
from controlplane.lib.error_codes import ErrorCode
from controlplane.lib.errors import Conflict, InvalidInput, TooLarge
from controlplane.nosql.connection import ConditionFailed

# How long test results and coverage are kept.
_LIFETIME = timedelta(days=90)

# How long a process caches what it knows of an attempt: a job may send hundreds of files one after another.
_GATE_SECONDS = 1
_GATE_ATTRIBUTES = ["job_id", "status", "attempt", "agent_id", "lost_agent_id", "run_id", "node", "pipeline", "git_ref"]


@dataclass(frozen=True)
class _Source:
    """What a report is about."""

    run_id: str
    node: str
    pipeline: str
    git_ref: str


def report_add(
    *,
    agent_id: str,
    job_id: str,
    attempt: int,
    number: int,
    kind: ReportKind,
    file: str,
    commit: str | None,
    data: bytes,
) -> JobReport:
    """Store what one report of an attempt says: test results or coverage. Returns it as it is stored.

    Agents number the reports of an attempt from 0. Repeating one does no harm. `file` is its path in the workspace,
    `commit` what was checked out.

    Raises TooLarge; InvalidInput; Unprocessable with code ``report_invalid``; NotFound; and Conflict with code
    ``stale_attempt``, or ``report_conflict`` when the report is stored already and has other content.
    """
    if len(data) > REPORT_LIMIT:
        raise TooLarge(f"The report has more than {REPORT_LIMIT:,} bytes.", code=ErrorCode.REPORT_TOO_LARGE)
    if not 0 <= number < MAX_REPORTS:
        raise InvalidInput.field("number", f"must be from 0 to {MAX_REPORTS - 1}")
    source = _source(agent_id, job_id, attempt)
    now = clock.now()
    report = JobReport(
        stream=reports_stream(kind, source.pipeline),
        place=report_place(source.run_id, job_id, attempt, number),
        run_id=source.run_id,
        job_id=job_id,
        attempt=attempt,
        number=number,
        node=source.node,
        git_ref=source.git_ref,
        commit=commit,
        file=one_line(file, MAX_FILE),
        digest=sha256(data).hexdigest(),
        reported_at=clock.timestamp(now),
        expires_at=now + _LIFETIME,
        **_content(kind, data),
    )
    try:
        report.save(condition=JobReport.stream.does_not_exist())
    except ConditionFailed:
        # The agent or DynamoDB's client sent the report again after a lost response.
        stored = JobReport.find(report.stream, report.place, attributes=["digest"])
        if stored is not None and stored.digest != report.digest:
            raise Conflict(
                f"Report {number} is stored with other content. Go on with the next report.",
                code=ErrorCode.REPORT_CONFLICT,
            ) from None
    return report


def _source(agent_id: str, job_id: str, attempt: int) -> _Source:
    gate = f"report-gate:{agent_id}:{job_id}:{attempt}"
    source: _Source | None = cache.get(gate)
    if source is None:
        job = Job.find(job_id, attributes=_GATE_ATTRIBUTES)
        if job is None or not is_lost_attempt_of(job, agent_id=agent_id, attempt=attempt):
            job = attempt_require(job, agent_id=agent_id, attempt=attempt)
        node = "" if job.node is None or job.is_first else str(job.node)
        source = _Source(job.run_id, node, job.pipeline, job.git_ref)
        cache.set(gate, source, _GATE_SECONDS)
    return source


def _content(kind: ReportKind, data: bytes) -> dict[str, Any]:
    """The attributes that the report itself decides. Raises Unprocessable."""
    if kind is ReportKind.COBERTURA:
        # No cold start shall load what reads XML.
        from apps.jobs.reports.cobertura import cobertura_read

        coverage = cobertura_read(data)
        return {
            "rate": round(coverage.rate, 6),
            "lines_covered": coverage.lines_covered,
            "lines_valid": coverage.lines_valid,
        }
    from apps.jobs.reports.junit import junit_read

    results = junit_read(data)
    cases, lacks_cases = cases_pack(results.cases)
    failures, lacks_failures = failures_pack(results.failures)
    return {
        "total": results.totals.total,
        "failed": results.totals.failed,
        "skipped": results.totals.skipped,
        "flaky": results.totals.flaky,
        "seconds": results.totals.seconds,
        "cases": cases,
        "failures": failures if results.failures else None,
        "cut": results.is_cut or lacks_cases or lacks_failures or len(results.failures) < results.totals.failed,
        "size": len(cases) + len(failures),
    }
