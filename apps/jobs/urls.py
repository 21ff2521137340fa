"""The paths of jobs, pipelines and of what agents say of their attempts."""

from django.urls import path, register_converter

from apps.jobs.agent_api import attempts, heartbeat
from apps.jobs.api import jobs, pipelines
from controlplane.lib.ids import ID_PATTERN


class IdConverter:
    """An identifier as `controlplane.lib.ids` makes it, so that anything else is simply not found."""

    regex = ID_PATTERN

    def to_python(self, value: str) -> str:
        return value

    def to_url(self, value: str) -> str:
        return value


class NumberConverter:
    """A whole number that DynamoDB can hold."""

    regex = "[0-9]{1,9}"

    def to_python(self, value: str) -> int:
        return int(value)

    def to_url(self, value: int) -> str:
        return str(value)


register_converter(IdConverter, "id")
register_converter(NumberConverter, "number")

urlpatterns = [
    path("jobs", jobs.JobsView.as_view(), name="jobs"),
    path("jobs/<id:job_id>", jobs.JobView.as_view(), name="job"),
    path("jobs/<id:job_id>/log", jobs.JobLogView.as_view(), name="job-log"),
    path("jobs/<id:job_id>/cancel", jobs.JobCancelView.as_view(), name="job-cancel"),
    path("jobs/<id:job_id>/retry", jobs.JobRetryView.as_view(), name="job-retry"),
    path("pipelines", pipelines.PipelinesView.as_view(), name="pipelines"),
    path("pipelines/<str:name>", pipelines.PipelineView.as_view(), name="pipeline"),
    path("agents/<id:agent_id>/heartbeat", heartbeat.heartbeat, name="agent-heartbeat"),
    path("agents/<id:agent_id>/jobs/<id:job_id>/start", attempts.start, name="attempt-start"),
    path("agents/<id:agent_id>/jobs/<id:job_id>/definition", attempts.definition, name="attempt-definition"),
    path(
        "agents/<id:agent_id>/jobs/<id:job_id>/log/<number:attempt>/<number:sequence>", attempts.log, name="attempt-log"
    ),
    path("agents/<id:agent_id>/jobs/<id:job_id>/finish", attempts.finish, name="attempt-finish"),
]
