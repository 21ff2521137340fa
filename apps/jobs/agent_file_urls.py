"""The paths at which agents send and fetch files (of pipelines, of reports, artifacts and caches) and get tokens.

They are apart from `agent_urls`, since each module that a cold start loads delays it.
"""

from django.urls import path

from apps.jobs.agent_api import artifacts, caches, definitions, identity_tokens, reports
from controlplane.http import converters  # noqa: F401 — registers them

_JOB = "agents/<id:agent_id>/jobs/<id:job_id>"
_ARTIFACTS = f"{_JOB}/artifacts/<number:attempt>"
_CACHES = f"{_JOB}/caches/<number:attempt>"

urlpatterns = [
    path(f"{_JOB}/definition", definitions.definition, name="attempt-definition"),
    path(f"{_JOB}/upload/<number:attempt>", definitions.upload, name="attempt-upload"),
    path(f"{_JOB}/reports/<number:attempt>/<number:number>", reports.report, name="attempt-report"),
    path(f"{_JOB}/token", identity_tokens.token, name="attempt-token"),
    path(_ARTIFACTS, artifacts.artifact, name="artifact-store"),
    path(f"{_ARTIFACTS}/fetch", artifacts.fetch, name="artifacts-fetch"),
    path(f"{_ARTIFACTS}/<artifact:artifact_id>/complete", artifacts.complete, name="artifact-complete"),
    path(f"{_CACHES}/restore", caches.restore, name="cache-restore"),
    path(f"{_CACHES}/save", caches.save, name="cache-save"),
    path(f"{_CACHES}/<cache:cache_id>/complete", caches.complete, name="cache-complete"),
]
