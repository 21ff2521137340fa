"""Test results: those of a job on its page, and the page with the tests and the coverage of a pipeline."""

from typing import Any

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render

from apps.accounts.policies import Permission
from apps.dashboard.chart import share_chart
from apps.dashboard.pages import page, shared_context
from apps.jobs.selectors import CoverageTrend, JobTests, job_tests, pipeline_coverage, pipeline_tests
from apps.jobs.states import FINAL
from apps.pipelines.selectors import Pipeline, pipeline_get


def tests_of_ended(job: Any) -> JobTests | None:
    """The job's test results for ``dashboard/tests.html``. None before the job has ended, since agents report last."""
    return job_tests(job) if job.status in FINAL and job.attempt else None


@page(Permission.JOBS_READ)
def pipeline_tests_page(request: HttpRequest, name: str) -> HttpResponse:
    """The coverage, and the flaky and slowest tests of a pipeline over its last runs."""
    pipeline = pipeline_get(name)
    trend = _trend(pipeline)
    context = {
        "section": "pipelines",
        "pipeline": pipeline,
        "tests": pipeline_tests(pipeline.name),
        "trend": trend,
        "chart": share_chart([point.coverage.rate for point in trend.points]),
    }
    return render(request, "dashboard/pipeline_tests.html", {**shared_context(request), **context})


def _trend(pipeline: Pipeline) -> CoverageTrend:
    """The coverage of the default ref, or of all refs while that has none: a trend over branches jumps up and down."""
    trend = pipeline_coverage(pipeline.name, git_ref=pipeline.default_ref)
    return trend if trend.points else pipeline_coverage(pipeline.name)
