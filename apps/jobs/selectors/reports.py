"""Reading test results and coverage: of a job, of a run, and of a pipeline's last runs."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

from apps.jobs.models import Job, JobReport, report_place, reports_stream
from apps.jobs.reports.history import CaseHistory, Histories, Sample
from apps.jobs.reports.packing import cases_unpack, failures_unpack
from apps.jobs.reports.results import Coverage, Failure, ReportKind, Totals
from controlplane.lib import clock

# The lists of a pipeline are about so many of its newest runs with reports.
LAST_RUNS = 50
# How many tests a list of a pipeline has.
LISTED_TESTS = 100
# How many failures of a job, or of a run, are shown with their messages.
SHOWN_FAILURES = 200

# One request reads at most so many reports, with so many bytes of names and messages.
_REPORTS_AT_MOST = 5_000
_BYTES_AT_MOST = 10_000_000

# How many reports one call reads at most.
_PAGE = 250

_ATTRIBUTES = [attribute.attr_name for attribute in JobReport.get_attributes().values()]
_WITHOUT_CASES = [name for name in _ATTRIBUTES if name != "cases"]
_WITHOUT_FAILURES = [name for name in _ATTRIBUTES if name != "failures"]


@dataclass(frozen=True)
class FileResults:
    """What one report file says."""

    number: int
    file: str
    totals: Totals


@dataclass(frozen=True)
class FailedTest:
    """A failure, and which report has it."""

    file: str
    failure: Failure


@dataclass(frozen=True)
class JobTests:
    """The reports of the newest attempt of a job that has some; `attempt` is 0 if none has.

    `cut` says that some failures are only counted, or that not all reports were read. `coverage` is None without
    coverage.
    """

    job_id: str
    node: str
    attempt: int
    totals: Totals
    files: list[FileResults]
    failures: list[FailedTest]
    coverage: Coverage | None
    cut: bool

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing to show."""
        return not self.files and self.coverage is None


@dataclass(frozen=True)
class PipelineTests:
    """The slowest and the flaky tests of a pipeline, the worst first.

    `runs` is how many of its newest runs with test reports this is about. `cut` says that some tests or runs were left
    out, since they are too many.
    """

    slowest: list[CaseHistory]
    flaky: list[CaseHistory]
    runs: int
    cut: bool


@dataclass(frozen=True)
class CoveragePoint:
    """The coverage of one run."""

    run_id: str
    job_id: str
    git_ref: str
    commit: str | None
    at: str
    coverage: Coverage


@dataclass(frozen=True)
class CoverageTrend:
    """The coverage of the last runs that reported it, the oldest first."""

    points: list[CoveragePoint]

    @property
    def latest(self) -> CoveragePoint | None:
        return self.points[-1] if self.points else None

    @property
    def change(self) -> float | None:
        """By how much the newest rate is above that of the run before."""
        if len(self.points) < 2:
            return None
        return self.points[-1].coverage.rate - self.points[-2].coverage.rate

    @property
    def change_points(self) -> float | None:
        """The same in percentage points, with one decimal."""
        return None if self.change is None else round(self.change * 100, 1)


def job_tests(job: Job) -> JobTests:
    """The test results and the coverage of a job (two calls, more if it has very many failures). Consistent."""
    found = [_reports(kind, job.pipeline, report_place(job.run_id, job.job_id)) for kind in ReportKind]
    return _job_tests(job.job_id, [*found[0][0], *found[1][0]], is_cut=found[0][1])


def run_tests(*, pipeline: str, run_id: str) -> list[JobTests]:
    """The test results and the coverage of each job of a run that reported some, by the jobs' names. Consistent.

    Of jobs that were run again within the run, the newest one counts.
    """
    found = [_reports(kind, pipeline, report_place(run_id)) for kind in ReportKind]
    by_job: dict[str, list[JobReport]] = {}
    for report in [*found[0][0], *found[1][0]]:
        by_job.setdefault(str(report.job_id), []).append(report)
    # A later job of the same name takes the place of an earlier one.
    jobs = [_job_tests(job_id, reports, is_cut=found[0][1]) for job_id, reports in sorted(by_job.items())]
    newest = {job.node: job for job in jobs}
    return [newest[node] for node in sorted(newest)]


def pipeline_tests(pipeline: str, *, git_ref: str | None = None, limit: int = LISTED_TESTS) -> PipelineTests:
    """The slowest and the flaky tests over the last runs, of a ref or of all. Reads at most some MB, the newest first.

    Reads may lag by moments.
    """
    histories, bounds = Histories(), _Bounds()
    runs = 0
    for run in _last_runs(ReportKind.JUNIT, pipeline, git_ref, bounds):
        runs += 1
        for report in run:
            cases = cases_unpack(report.cases)
            histories.add(Sample(report.run_id, report.job_id, report.node, report.commit, cases))
    return PipelineTests(
        slowest=histories.slowest(limit),
        flaky=histories.flakiest(limit),
        runs=runs,
        cut=histories.is_cut or bounds.is_reached,
    )


def pipeline_coverage(pipeline: str, *, git_ref: str | None = None) -> CoverageTrend:
    """The coverage of the last runs, of a ref or of all. Reads may lag by moments."""
    points = []
    for run in _last_runs(ReportKind.COBERTURA, pipeline, git_ref, _Bounds()):
        reports = _of_newest_jobs(run)
        newest = max(reports, key=lambda report: report.reported_at)
        points.append(
            CoveragePoint(
                newest.run_id,
                newest.job_id,
                newest.git_ref,
                newest.commit,
                newest.reported_at,
                Coverage.together([_coverage(report) for report in reports]),
            )
        )
    return CoverageTrend(points[::-1])


class _Bounds:
    """How much one request has read."""

    def __init__(self) -> None:
        self.is_reached = False
        self._reports = self._bytes = 0

    def count(self, report: JobReport) -> bool:
        """Count a report. Returns whether it is one too many."""
        self._reports += 1
        self._bytes += int(report.size)
        self.is_reached = self._reports > _REPORTS_AT_MOST or self._bytes > _BYTES_AT_MOST
        return self.is_reached


def _last_runs(kind: ReportKind, pipeline: str, git_ref: str | None, bounds: _Bounds) -> Iterator[list[JobReport]]:
    """The reports of each of the last runs that have some of the kind, the newest run first.

    This is the one place that knows which runs are the last ones: the partition has them in the order of their ids.
    Once `bounds` are reached, the run that was not read to its end is left out, unless it is the newest.
    """

    def read() -> Iterator[JobReport]:
        for report in JobReport.query(
            reports_stream(kind, pipeline),
            scan_index_forward=False,
            attributes_to_get=_WITHOUT_FAILURES,
            page_size=_PAGE,
        ):
            if bounds.count(report):
                return
            if report.expires_at > clock.now() and (git_ref is None or report.git_ref == git_ref):
                yield report

    for count, (_, reports) in enumerate(groupby(read(), key=lambda report: str(report.run_id))):
        if count == LAST_RUNS:
            return
        run = list(reports)
        if bounds.is_reached and count:
            return
        yield run


def _reports(kind: ReportKind, pipeline: str, beginning: str) -> tuple[list[JobReport], bool]:
    """The reports whose place begins so, in their order, and whether some were left out."""
    bounds = _Bounds()
    found = []
    for report in JobReport.query(
        reports_stream(kind, pipeline),
        JobReport.place.startswith(beginning),
        consistent_read=True,
        attributes_to_get=_WITHOUT_CASES,
    ):
        if bounds.count(report):
            break
        if report.expires_at > clock.now():
            found.append(report)
    return found, bounds.is_reached


def _job_tests(job_id: str, reports: Sequence[JobReport], *, is_cut: bool) -> JobTests:
    attempt = max((int(report.attempt) for report in reports), default=0)
    reports = [report for report in reports if report.attempt == attempt]
    tests = [report for report in reports if report.total is not None]
    coverage = [_coverage(report) for report in reports if report.rate is not None]
    failures = [
        FailedTest(str(report.file), failure)
        for report in tests
        if report.failures
        for failure in failures_unpack(report.failures)
    ]
    files = [FileResults(int(report.number), str(report.file), _totals(report)) for report in tests]
    totals = sum((file.totals for file in files), Totals())
    shown = failures[:SHOWN_FAILURES]
    return JobTests(
        job_id=job_id,
        node=str(reports[0].node) if reports else "",
        attempt=attempt,
        totals=totals,
        files=files,
        failures=shown,
        coverage=Coverage.together(coverage) if coverage else None,
        cut=is_cut or len(shown) < totals.failed,
    )


def _totals(report: JobReport) -> Totals:
    return Totals(
        int(report.total or 0),
        int(report.failed or 0),
        int(report.skipped or 0),
        int(report.flaky or 0),
        float(report.seconds or 0),
    )


def _coverage(report: JobReport) -> Coverage:
    covered, valid = report.lines_covered, report.lines_valid
    return Coverage(
        float(report.rate or 0), None if covered is None else int(covered), None if valid is None else int(valid)
    )


def _of_newest_jobs(run: Sequence[JobReport]) -> list[JobReport]:
    """Of each name in the run, the reports of the newest job's newest attempt that has some."""
    newest = {str(report.node): (report.job_id, report.attempt) for report in sorted(run, key=_age)}
    return [report for report in run if (report.job_id, report.attempt) == newest[str(report.node)]]


def _age(report: JobReport) -> tuple[str, int]:
    return str(report.job_id), int(report.attempt)
