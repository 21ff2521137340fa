"""The list of artifacts on the pages of jobs and runs."""

from collections.abc import Sequence
from typing import Any

from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect

from apps.accounts.authentication import request_actor
from apps.accounts.policies import Permission
from apps.dashboard.pages import page
from apps.jobs.selectors.artifacts import (
    Artifact,
    artifacts_of_job,
    job_artifacts,
    zip_fits,
    zip_fits_response,
)
from apps.jobs.services.artifacts import artifact_delete
from apps.jobs.states import FINAL
from controlplane.http.requests import behind_gateway
from controlplane.lib.errors import NotFound


def artifact_context(request: HttpRequest, artifacts: Sequence[Artifact], *, more: bool = False) -> dict[str, Any]:
    """The context of ``dashboard/artifacts.html``. `more` says that the list is only the first part.

    A gateway limits the size of a zip, and a large one is made before it is sent.
    """
    gateway = behind_gateway(request)
    return {
        "artifacts": artifacts,
        "artifacts_size": sum(int(artifact.size) for artifact in artifacts),
        "more_artifacts": more,
        "zips": not gateway or (zip_fits(artifacts) and not more),
        "zip_takes_time": gateway and not zip_fits_response(artifacts),
    }


def artifacts_of_ended(request: HttpRequest, job: Any) -> dict[str, Any]:
    """The artifacts of a job for its page: none before it has ended, since agents send them last.

    A job that has the result of an earlier one has its artifacts, too.
    """
    if job.reused_from:
        return artifact_context(request, _of_earlier(job.reused_from))
    return artifact_context(request, artifacts_of_job(job) if job.status in FINAL and job.attempt else [])


def _of_earlier(job_id: str) -> list[Artifact]:
    try:
        return job_artifacts(job_id)
    except NotFound:
        return []


@page(Permission.ARTIFACTS_DELETE, "POST")
def artifact_delete_action(request: HttpRequest, artifact_id: str) -> HttpResponse:
    """Delete the artifact and redirect to the page of its job, or to that of its run."""
    run_id, job_id = artifact_id.split("-")[:2]
    artifact_delete(actor=request_actor(request), artifact_id=artifact_id)
    if request.POST.get("back") == "job":
        return redirect("dashboard:job", job_id=job_id)
    return redirect("dashboard:run", run_id=run_id)
