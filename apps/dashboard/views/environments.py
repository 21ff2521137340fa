"""The pages of environments: all with what is live, one with its history, and the forms that make and change one."""

from typing import Any

from django.contrib import messages
from django.core.exceptions import NON_FIELD_ERRORS
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render

from apps.accounts.authentication import request_actor
from apps.accounts.policies import Permission
from apps.accounts.selectors import users_find
from apps.dashboard.forms.environments import DeployForm, EnvironmentForm, EnvironmentNewForm, environment_initial
from apps.dashboard.pages import page, refresh_seconds, shared_context, show
from apps.jobs.selectors.deployment_jobs import deployment_job, is_queued, job_statuses
from apps.jobs.selectors.deployments import deployment_list
from apps.jobs.selectors.environments import (
    EnvironmentView,
    environment_freezes,
    environment_get,
    environment_list,
    environment_view,
)
from apps.jobs.services.deployments import deployment_create
from apps.jobs.services.environments import environment_change, environment_create, environment_delete
from apps.pipelines.selectors import pipeline_list
from controlplane.http.body_limits import body_limit
from controlplane.lib import clock
from controlplane.lib.error_codes import ErrorCode
from controlplane.lib.errors import ApplicationError
from controlplane.lib.freezes import frozen_until
from controlplane.lib.ids import new_id

# Fifty refs and fifty windows, of which the form may escape each byte.
_BODY = 256 * 1024
_HISTORY = 20
_PIPELINES = 100


@page(Permission.PIPELINES_READ, "GET", "HEAD")
def environment_list_page(request: HttpRequest) -> HttpResponse:
    """All environments, with what is live in each."""
    views = environment_list()
    busy = any(view.environment.holders for view in views)
    statuses = job_statuses(view.in_progress for view in views if view.in_progress)
    rows = [_row(view, is_queued=is_queued(statuses.get(str(view.in_progress)))) for view in views]
    return show(
        request, "environments", {"section": "environments", "rows": rows, "seconds": refresh_seconds(busy=busy)}
    )


def _row(view: EnvironmentView, *, is_queued: bool) -> dict[str, Any]:
    """What the pages show of an environment. `is_queued`: no agent has started the job of what is in progress yet."""
    frozen = frozen_until(environment_freezes(view.environment), clock.now())
    return {
        "environment": view.environment,
        "live": view.live,
        "waiting": [str(one.deployment_id) for one in view.waiting],
        "in_progress": view.in_progress,
        "is_queued": is_queued,
        "frozen_until": clock.timestamp(frozen[0]) if frozen else None,
        "frozen": frozen[1] if frozen else None,
    }


@page(Permission.PIPELINES_READ, "GET", "HEAD")
def environment_page(request: HttpRequest, name: str) -> HttpResponse:
    """One environment: what is live, what it asks for, and its deployments."""
    return _page(request, name, None)


@page(Permission.JOBS_CREATE, "POST")
def environment_deploy_action(request: HttpRequest, name: str) -> HttpResponse:
    """Ask for a deployment and redirect to its run. After an error, the form keeps what the user entered."""
    form = DeployForm(request.POST)
    if form.is_valid():
        try:
            job = deployment_create(
                actor=request_actor(request),
                environment=name,
                pipeline=form.cleaned_data["pipeline"],
                git_ref=form.cleaned_data["git_ref"] or None,
                idempotency_key=form.idempotency_key,
            )
        except ApplicationError as error:
            form.refuse(error)
        else:
            return redirect("dashboard:run", run_id=job.run_id)
    return _page(request, name, form)


def _page(request: HttpRequest, name: str, form: DeployForm | None) -> HttpResponse:
    environment = environment_get(name)
    view = environment_view(name) or EnvironmentView(environment)
    people = users_find({*environment.approver_ids}) if environment.approver_ids else {}
    deployments = deployment_list(environment=name, limit=_HISTORY).deployments
    now = next((one for one in deployments if one.deployment_id == view.in_progress), None)
    job = deployment_job(now) if now else None
    context = {
        "section": "environments",
        "row": _row(view, is_queued=bool(job and job.is_queued)),
        "job": job,
        "queued_id": view.in_progress if job and job.is_queued else None,
        "environment": environment,
        "deployments": deployments,
        "approvers": [str(people[user_id].name) for user_id in environment.approver_ids if user_id in people],
        "freezes": environment_freezes(environment),
        "form": form or DeployForm(initial={"key": new_id()}),
        "pipelines": [pipeline.name for pipeline in pipeline_list(limit=_PIPELINES).pipelines],
        "seconds": refresh_seconds(busy=bool(environment.holders or view.waiting)),
    }
    if form is None:
        return show(request, "environment", context)
    return render(request, "dashboard/environment.html", {**shared_context(request), **context}, status=422)


@body_limit(_BODY)
@page(Permission.ENVIRONMENTS_MANAGE, "GET", "HEAD", "POST")
def environment_new_page(request: HttpRequest) -> HttpResponse:
    """A form that makes an environment."""
    form = EnvironmentNewForm(request.POST if request.method == "POST" else None)
    if form.is_valid():
        try:
            made = environment_create(actor=request_actor(request), name=form.cleaned_data["name"], **form.members)
        except ApplicationError as error:
            form.refuse(error)
        else:
            messages.success(request, f"The environment {made.name} is made.")
            return redirect("dashboard:environment", name=made.name)
    context = {**shared_context(request), "section": "environments", "form": form}
    return render(request, "dashboard/environment_form.html", context, status=422 if form.is_bound else 200)


@body_limit(_BODY)
@page(Permission.ENVIRONMENTS_MANAGE, "GET", "HEAD", "POST")
def environment_edit_page(request: HttpRequest, name: str) -> HttpResponse:
    """A form that changes an environment. If another user has changed it meanwhile, it says so."""
    environment = environment_get(name)
    form = EnvironmentForm(request.POST if request.method == "POST" else None, initial=environment_initial(environment))
    if form.is_valid():
        revision = form.cleaned_data["revision"]
        try:
            environment_change(actor=request_actor(request), name=name, revision=revision, **form.members)
        except ApplicationError as error:
            form.refuse(error)
        else:
            messages.success(request, f"The environment {name} is saved.")
            return redirect("dashboard:environment", name=name)
    if form.has_error(NON_FIELD_ERRORS, ErrorCode.CHANGED_MEANWHILE):
        # Saving once more replaces the version of the other user.
        form.data = {**dict(form.data.items()), "revision": str(int(environment_get(name).revision))}
    context = {**shared_context(request), "section": "environments", "environment": environment, "form": form}
    return render(request, "dashboard/environment_form.html", context, status=422 if form.is_bound else 200)


@page(Permission.ENVIRONMENTS_MANAGE, "POST")
def environment_delete_action(request: HttpRequest, name: str) -> HttpResponse:
    """Delete the environment and redirect to the list."""
    environment_delete(actor=request_actor(request), name=name)
    messages.success(request, f"The environment {name} is deleted. Jobs that deploy to it fail until it is made again.")
    return redirect("dashboard:environments")
