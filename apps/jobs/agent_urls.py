"""The paths at which agents send heartbeats and reports of their attempts, without those of `agent_file_urls`."""

from django.urls import path

from apps.jobs.agent_api import attempts, heartbeat
from controlplane.http import converters  # noqa: F401 — registers them

urlpatterns = [
    path("agents/<id:agent_id>/heartbeat", heartbeat.heartbeat, name="agent-heartbeat"),
    path("agents/<id:agent_id>/jobs/<id:job_id>/start", attempts.start, name="attempt-start"),
    path(
        "agents/<id:agent_id>/jobs/<id:job_id>/log/<number:attempt>/<number:sequence>", attempts.log, name="attempt-log"
    ),
    path("agents/<id:agent_id>/jobs/<id:job_id>/finish", attempts.finish, name="attempt-finish"),
]
