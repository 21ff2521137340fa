"""The paths of jobs. The paths for agents are in `agent_urls`."""

from django.urls import path

from apps.jobs.api import jobs, metrics
from controlplane.http import converters  # noqa: F401 — registers them

urlpatterns = [
    path("jobs", jobs.JobsView.as_view(), name="jobs"),
    path("jobs/<id:job_id>", jobs.JobView.as_view(), name="job"),
    path("jobs/<id:job_id>/log", jobs.JobLogView.as_view(), name="job-log"),
    path("jobs/<id:job_id>/cancel", jobs.JobCancelView.as_view(), name="job-cancel"),
    path("jobs/<id:job_id>/retry", jobs.JobRetryView.as_view(), name="job-retry"),
    path("metrics", metrics.MetricsView.as_view(), name="metrics"),
]
