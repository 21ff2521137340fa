"""The page of a deployment with its gates, and the forms that approve, reject, repeat it or put another one back."""

from collections.abc import Callable
from typing import Any

from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render

from apps.accounts.authentication import request_actor
from apps.accounts.policies import Permission
from apps.accounts.selectors import user_get
from apps.dashboard.pages import actions_context, page, refresh_seconds, shared_context, show
from apps.jobs.selectors.deployment_jobs import deployment_job
from apps.jobs.selectors.deployments import deployment_gates, deployment_get
from apps.jobs.selectors.gates import approver_problem
from apps.jobs.services.approvals import deployment_approve, deployment_reject
from apps.jobs.services.deployment_changes import deployment_changes
from apps.jobs.services.deployments import deployment_redeploy, deployment_rollback
from apps.jobs.states import DEPLOYMENT_OPEN, DeploymentStatus
from controlplane.lib.errors import ApplicationError, Conflict, Forbidden, InvalidInput
from controlplane.lib.ids import new_id


@page(Permission.JOBS_READ, "GET", "HEAD")
def deployment_page(request: HttpRequest, deployment_id: str) -> HttpResponse:
    """One deployment: its gates while it waits, who approved it, how far its job is, and what it changes."""
    deployment = deployment_get(deployment_id)
    environment, found = deployment_gates(deployment)
    is_open = deployment.status in DEPLOYMENT_OPEN
    context: dict[str, Any] = {
        "section": "environments",
        "deployment": deployment,
        "environment": environment,
        "gates": found,
        "job": deployment_job(deployment),
        "live": is_open,
        "seconds": refresh_seconds(busy=is_open),
        "key": new_id(),
    }
    may_approve = may_reject = False
    if environment and environment.approvals and deployment.status == DeploymentStatus.WAITING:
        user = user_get(request_actor(request).person_id or "")
        context["approve_problem"] = approver_problem(environment, deployment, user)
        may_approve = context["approve_problem"] is None
        may_reject = approver_problem(environment, deployment, user, is_rejection=True) is None
    may_repeat = not is_open and Permission.JOBS_CREATE in request_actor(request).permissions
    context |= actions_context(request, approve=may_approve, reject=may_reject, again=may_repeat)
    return show(request, "deployment", context)


@page(Permission.JOBS_READ, "GET", "HEAD")
def deployment_changes_part(request: HttpRequest, deployment_id: str) -> HttpResponse:
    """The part of the page that shows the commits: the provider may take its time."""
    changes = deployment_changes(deployment_get(deployment_id))
    return render(request, "dashboard/deployment_changes.html", {**shared_context(request), "changes": changes})


@page(Permission.DEPLOYMENTS_APPROVE, "POST")
def deployment_approve_action(request: HttpRequest, deployment_id: str) -> HttpResponse:
    """Approve the deployment and redirect to its page."""
    return _decide(request, deployment_id, deployment_approve)


@page(Permission.DEPLOYMENTS_APPROVE, "POST")
def deployment_reject_action(request: HttpRequest, deployment_id: str) -> HttpResponse:
    """Reject the deployment and redirect to its page."""
    return _decide(request, deployment_id, deployment_reject)


def _decide(request: HttpRequest, deployment_id: str, decide: Callable[..., Any]) -> HttpResponse:
    try:
        decide(
            actor=request_actor(request), deployment_id=deployment_id, comment=request.POST.get("comment", "") or None
        )
    except (Conflict, Forbidden, InvalidInput) as error:
        messages.error(request, error.message)
    return redirect("dashboard:deployment", deployment_id=deployment_id)


@page(Permission.JOBS_CREATE, "POST")
def deployment_redeploy_action(request: HttpRequest, deployment_id: str) -> HttpResponse:
    """Deploy the same commit again and redirect to the new run."""
    return _again(request, deployment_id, deployment_redeploy)


@page(Permission.JOBS_CREATE, "POST")
def deployment_rollback_action(request: HttpRequest, deployment_id: str) -> HttpResponse:
    """Deploy the last good commit before it again and redirect to the new run."""
    return _again(request, deployment_id, deployment_rollback)


def _again(request: HttpRequest, deployment_id: str, act: Callable[..., Any]) -> HttpResponse:
    key = request.POST.get("key") or None
    try:
        job = act(actor=request_actor(request), deployment_id=deployment_id, idempotency_key=key)
    except ApplicationError as error:
        if not 400 <= error.status < 500 or error.status == 403:
            raise
        messages.error(request, error.message)
        return redirect("dashboard:deployment", deployment_id=deployment_id)
    return redirect("dashboard:run", run_id=job.run_id)
