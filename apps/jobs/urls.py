"""The paths of jobs. The paths for agents are in `agent_urls`."""

from django.urls import path

from apps.jobs.api import (
    artifacts,
    badges,
    demand,
    deployments,
    environments,
    jobs,
    logs,
    metrics,
    overview,
    pauses,
    reports,
    runs,
    schedules,
    source_events,
    status,
)
from apps.jobs.api.log_page import page_for_browsers
from controlplane.http import converters  # noqa: F401 — registers them

urlpatterns = [
    path("agents/demand", demand.AgentDemandView.as_view(), name="agent-demand"),
    path("jobs", jobs.JobsView.as_view(), name="jobs"),
    path("jobs/<id:job_id>", jobs.JobView.as_view(), name="job"),
    path("jobs/<id:job_id>/log", page_for_browsers(logs.JobLogView.as_view()), name="job-log"),
    path("jobs/<id:job_id>/log/search", logs.JobLogSearchView.as_view(), name="job-log-search"),
    path("jobs/<id:job_id>/cancel", jobs.JobCancelView.as_view(), name="job-cancel"),
    path("jobs/<id:job_id>/retry", jobs.JobRetryView.as_view(), name="job-retry"),
    path("runs", runs.RunsView.as_view(), name="runs"),
    path("runs/<id:run_id>", runs.RunView.as_view(), name="run"),
    path("runs/<id:run_id>/allow", runs.RunAllowView.as_view(), name="run-allow"),
    path("runs/<id:run_id>/cancel", runs.RunCancelView.as_view(), name="run-cancel"),
    path("runs/<id:run_id>/retry", runs.RunRetryView.as_view(), name="run-retry"),
    path("jobs/<id:job_id>/artifacts", artifacts.JobArtifactsView.as_view(), name="job-artifacts"),
    path("runs/<id:run_id>/artifacts", artifacts.RunArtifactsView.as_view(), name="run-artifacts"),
    path("runs/<id:run_id>/artifacts.zip", artifacts.RunArtifactsZipView.as_view(), name="run-artifacts-zip"),
    path("artifacts/<artifact:artifact_id>", artifacts.ArtifactView.as_view(), name="artifact"),
    path(
        "artifacts/<artifact:artifact_id>/download", artifacts.ArtifactDownloadView.as_view(), name="artifact-download"
    ),
    path("artifacts/<artifact:artifact_id>/files", artifacts.ArtifactFilesView.as_view(), name="artifact-files"),
    path(
        "artifacts/<artifact:artifact_id>/provenance",
        artifacts.ArtifactProvenanceView.as_view(),
        name="artifact-provenance",
    ),
    path("pipelines/<str:name>/caches", artifacts.PipelineCachesView.as_view(), name="pipeline-caches"),
    path("jobs/<id:job_id>/tests", reports.JobTestsView.as_view(), name="job-tests"),
    path("pipelines/<str:name>/pause", pauses.PipelinePauseView.as_view(), name="pipeline-pause"),
    path("pipelines/<str:name>/resume", pauses.PipelineResumeView.as_view(), name="pipeline-resume"),
    path("pipelines/<str:name>/schedules", schedules.PipelineSchedulesView.as_view(), name="pipeline-schedules"),
    path("schedules/<str:schedule_id>", schedules.ScheduleView.as_view(), name="schedule"),
    path("schedules/<str:schedule_id>/pause", schedules.SchedulePauseView.as_view(), name="schedule-pause"),
    path("schedules/<str:schedule_id>/resume", schedules.ScheduleResumeView.as_view(), name="schedule-resume"),
    path("environments", environments.EnvironmentsView.as_view(), name="environments"),
    path("environments/<str:name>", environments.EnvironmentView.as_view(), name="environment"),
    path("deployments", deployments.DeploymentsView.as_view(), name="deployments"),
    path("deployments/<id:deployment_id>", deployments.DeploymentView.as_view(), name="deployment"),
    path(
        "deployments/<id:deployment_id>/approve", deployments.DeploymentApproveView.as_view(), name="deployment-approve"
    ),
    path(
        "deployments/<id:deployment_id>/changes", deployments.DeploymentChangesView.as_view(), name="deployment-changes"
    ),
    path("deployments/<id:deployment_id>/reject", deployments.DeploymentRejectView.as_view(), name="deployment-reject"),
    path(
        "deployments/<id:deployment_id>/rollback",
        deployments.DeploymentRollbackView.as_view(),
        name="deployment-rollback",
    ),
    path(
        "deployments/<id:deployment_id>/redeploy",
        deployments.DeploymentRedeployView.as_view(),
        name="deployment-redeploy",
    ),
    path("pipelines/<str:name>/tests", reports.PipelineTestsView.as_view(), name="pipeline-tests"),
    path("pipelines/<str:name>/coverage", reports.PipelineCoverageView.as_view(), name="pipeline-coverage"),
    path("badges/<str:name>.svg", badges.BadgeView.as_view(), name="badge"),
    path(
        "connections/<str:connection_id>/events/<str:event_id>/redeliver",
        source_events.ConnectionEventRedeliverView.as_view(),
        name="connection-event-redeliver",
    ),
    path("metrics", metrics.MetricsView.as_view(), name="metrics"),
    path("status", status.StatusView.as_view(), name="status"),
    path("overview", overview.OverviewView.as_view(), name="overview"),
]
