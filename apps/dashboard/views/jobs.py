"""The pages of jobs: the list, one job, and the forms that queue, cancel and retry jobs."""

from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render

from apps.accounts.authentication import request_actor
from apps.accounts.policies import Permission
from apps.dashboard.forms import JobForm
from apps.dashboard.pages import page, refresh_seconds, shared_context, show
from apps.dashboard.views.log import job_facts, log_slice
from apps.jobs.selectors import job_get, job_list
from apps.jobs.services import job_cancel, job_create, job_retry
from apps.jobs.states import FINAL, Status
from apps.pipelines.selectors import pipeline_get, pipeline_list
from controlplane.lib.errors import ApplicationError, Conflict, InvalidInput
from controlplane.lib.ids import new_id

PAGE_SIZE = 25
# The form lists only so many. The page Pipelines has them all, and its links preselect one in the form.
PIPELINE_CHOICES = 200


@page(Permission.JOBS_READ)
def job_list_page(request: HttpRequest) -> HttpResponse:
    """Jobs, newest first, filtered by status, pipeline, ref and agent."""
    chosen = {name: request.GET.get(name, "").strip() for name in ("status", "pipeline", "git_ref", "agent_id")}
    cursor = request.GET.get("cursor") or None
    found = job_list(
        status=_status(chosen["status"]),
        pipeline=chosen["pipeline"] or None,
        git_ref=chosen["git_ref"] or None,
        agent_id=chosen["agent_id"] or None,
        limit=PAGE_SIZE,
        cursor=cursor,
    )
    query = request.GET.copy()
    query.pop("cursor", None)
    following = query.copy()
    if found.next_cursor:
        following["cursor"] = found.next_cursor
    filtered = any(chosen.values())
    return show(
        request,
        "jobs",
        {
            "section": "jobs",
            "found": found,
            "chosen": chosen,
            "filtered": filtered,
            "statuses": list(Status),
            "cursor": cursor,
            "first_query": query.urlencode(),
            "next_query": following.urlencode() if found.next_cursor else "",
            # Counting the matches of a filter takes longer, so a filtered list refreshes less often.
            "seconds": refresh_seconds(busy=not filtered and any(job.status not in FINAL for job in found.jobs)),
        },
    )


def _status(text: str) -> Status | None:
    try:
        return Status(text) if text else None
    except ValueError:
        raise InvalidInput.field("status", f"must be one of {', '.join(Status)}") from None


@page(Permission.JOBS_READ)
def job_page(request: HttpRequest, job_id: str) -> HttpResponse:
    """One job: its facts, its steps and its log."""
    job = job_get(job_id)
    context = {**shared_context(request), **job_facts(job), "log": log_slice(request, job)}
    return render(request, "dashboard/job.html", {**context, "section": "jobs", "key": new_id()})


@page(Permission.JOBS_CREATE, "GET", "HEAD", "POST")
def job_new(request: HttpRequest) -> HttpResponse:
    """A form that queues a job. After an error it keeps what the user entered."""
    names = [pipeline.name for pipeline in pipeline_list(limit=PIPELINE_CHOICES).pipelines]
    if request.method == "POST":
        form = JobForm(request.POST, pipelines=names)
        if form.is_valid():
            try:
                job = job_create(
                    actor=request_actor(request),
                    pipeline=form.cleaned_data["pipeline"],
                    git_ref=form.cleaned_data["git_ref"] or None,
                    env=form.cleaned_data["env"],
                    idempotency_key=form.idempotency_key,
                )
            except ApplicationError as error:
                form.refuse(error)
            else:
                return redirect("dashboard:job", job_id=job.job_id)
    else:
        chosen = request.GET.get("pipeline", "")
        if chosen and chosen not in names:
            names.append(pipeline_get(chosen).name)
        form = JobForm(
            pipelines=names,
            initial={"pipeline": chosen, "git_ref": request.GET.get("git_ref", ""), "key": new_id()},
        )
    status = 422 if form.is_bound else 200
    context = {**shared_context(request), "section": "jobs", "form": form, "pipelines": names}
    return render(request, "dashboard/job_new.html", context, status=status)


@page(Permission.JOBS_CANCEL, "POST")
def job_cancel_action(request: HttpRequest, job_id: str) -> HttpResponse:
    """Cancel the job and redirect to its page."""
    try:
        job = job_cancel(actor=request_actor(request), job_id=job_id)
    except Conflict as error:
        messages.error(request, error.message)
    else:
        if job.status != Status.CANCELLED:
            messages.success(request, "Cancelling: the agent stops the job within seconds.")
    return redirect("dashboard:job", job_id=job_id)


@page(Permission.JOBS_RETRY, "POST")
def job_retry_action(request: HttpRequest, job_id: str) -> HttpResponse:
    """Queue the job once more and redirect to the new job."""
    try:
        job = job_retry(actor=request_actor(request), job_id=job_id, idempotency_key=request.POST.get("key") or None)
    except Conflict as error:
        messages.error(request, error.message)
        return redirect("dashboard:job", job_id=job_id)
    return redirect("dashboard:job", job_id=job.job_id)
