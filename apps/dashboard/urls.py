"""The pages, all under ``/dashboard/`` and behind sign-in."""

from django.urls import path

from apps.dashboard.views import agents, jobs, log, overview, pipelines

app_name = "dashboard"

urlpatterns = [
    path("", overview.overview, name="overview"),
    path("recent", overview.recent, name="recent"),
    path("jobs", jobs.job_list_page, name="jobs"),
    path("jobs/new", jobs.job_new, name="job_new"),
    path("jobs/<str:job_id>", jobs.job_page, name="job"),
    path("jobs/<str:job_id>/live", log.job_live, name="job_live"),
    path("jobs/<str:job_id>/cancel", jobs.job_cancel_action, name="job_cancel"),
    path("jobs/<str:job_id>/retry", jobs.job_retry_action, name="job_retry"),
    path("agents", agents.agent_list_page, name="agents"),
    path("agents/<str:agent_id>", agents.agent_page, name="agent"),
    path("pipelines", pipelines.pipeline_list_page, name="pipelines"),
]
