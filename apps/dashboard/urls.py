"""The pages, all under ``/dashboard/``. All require a signed-in user."""

from django.urls import path, re_path

from apps.dashboard.views import agents, jobs, log, overview, pipelines
from controlplane.lib.ids import ID_PATTERN

app_name = "dashboard"

# A path without a valid identifier is not found.
_JOB = rf"^jobs/(?P<job_id>{ID_PATTERN})"
_AGENT = rf"^agents/(?P<agent_id>{ID_PATTERN})"

urlpatterns = [
    path("", overview.overview, name="overview"),
    path("recent", overview.recent, name="recent"),
    path("jobs", jobs.job_list_page, name="jobs"),
    path("jobs/new", jobs.job_new, name="job_new"),
    re_path(_JOB + r"$", jobs.job_page, name="job"),
    re_path(_JOB + "/live$", log.job_live, name="job_live"),
    re_path(_JOB + "/cancel$", jobs.job_cancel_action, name="job_cancel"),
    re_path(_JOB + "/retry$", jobs.job_retry_action, name="job_retry"),
    path("agents", agents.agent_list_page, name="agents"),
    re_path(_AGENT + "$", agents.agent_page, name="agent"),
    path("pipelines", pipelines.pipeline_list_page, name="pipelines"),
]
