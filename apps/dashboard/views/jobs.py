"""The pages of jobs: the list, one job, and the forms that queue, cancel and retry jobs."""

from collections.abc import Mapping
from datetime import date
from typing import Any

from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render

from apps.accounts.authentication import request_actor
from apps.accounts.policies import Permission
from apps.dashboard.forms.jobs import JobForm
from apps.dashboard.pages import is_fragment, page, refresh_seconds, shared_context, show
from apps.dashboard.views.artifacts import artifacts_of_ended
from apps.dashboard.views.log import job_facts, log_view
from apps.dashboard.views.tests import tests_of_ended
from apps.jobs.selectors import job_get, job_list
from apps.jobs.services import job_cancel, job_create, job_retry
from apps.jobs.states import FINAL, Event, Status, StatusGroup
from apps.pipelines.definitions import Pipeline
from apps.pipelines.parsing import parameters_check, pipeline_parse
from apps.pipelines.selectors import pipeline_get, pipeline_list
from controlplane.http.body_limits import body_limit
from controlplane.lib.errors import ApplicationError, Conflict, InvalidInput, NotFound
from controlplane.lib.ids import new_id

PAGE_SIZE = 25
# The form lists only so many. The page Pipelines has them all, and its links preselect one in the form.
PIPELINE_CHOICES = 200


@page(Permission.JOBS_READ)
def job_list_page(request: HttpRequest) -> HttpResponse:
    """Jobs, newest first, filtered by status, pipeline, ref, agent and the day on which they ended."""
    names = ("status", "pipeline", "git_ref", "agent_id", "ended")
    chosen = {name: request.GET.get(name, "").strip() for name in names}
    cursor = request.GET.get("cursor") or None
    found = job_list(
        status=_status(chosen["status"]),
        pipeline=chosen["pipeline"] or None,
        git_ref=chosen["git_ref"] or None,
        agent_id=chosen["agent_id"] or None,
        ended=_day(chosen["ended"]),
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
            "statuses": [*Status, *StatusGroup],
            "cursor": cursor,
            "first_query": query.urlencode(),
            "next_query": following.urlencode() if found.next_cursor else "",
            # Counting the matches of a filter takes longer, so a filtered list refreshes less often.
            "seconds": refresh_seconds(busy=not filtered and any(job.status not in FINAL for job in found.jobs)),
        },
    )


def _status(text: str) -> Status | StatusGroup | None:
    if text in set(StatusGroup):
        return StatusGroup(text)
    try:
        return Status(text) if text else None
    except ValueError:
        raise InvalidInput.field("status", f"must be one of {', '.join([*Status, *StatusGroup])}") from None


def _day(text: str) -> date | None:
    try:
        return date.fromisoformat(text) if text else None
    except ValueError:
        raise InvalidInput.field("ended", "must be a day, as 2026-11-21") from None


@page(Permission.JOBS_READ)
def job_page(request: HttpRequest, job_id: str) -> HttpResponse:
    """One job: its facts, its steps and its log."""
    job = job_get(job_id)
    facts = job_facts(job)
    log = log_view(request, job, facts)
    results = {"tests": tests_of_ended(job), **artifacts_of_ended(request, job)}
    context = {**shared_context(request), **facts, "log": log, **results}
    return render(request, "dashboard/job.html", {**context, "section": "jobs", "key": new_id()})


# The variables and the parameters have up to 36,000 characters, of which the form may escape each byte.
@body_limit(512 * 1024)
@page(Permission.JOBS_CREATE, "GET", "HEAD", "POST")
def job_new(request: HttpRequest) -> HttpResponse:
    """A form that starts a run. After an error it keeps what the user entered."""
    if is_fragment(request):
        return _job_parameters(request)
    names = [pipeline.name for pipeline in pipeline_list(limit=PIPELINE_CHOICES).pipelines]
    if request.method == "POST":
        definition = _definition(request.POST.get("pipeline", ""))
        form = JobForm(request.POST, pipelines=names, parameters=definition.parameters if definition else None)
        if form.is_valid():
            try:
                job = job_create(
                    actor=request_actor(request),
                    pipeline=form.cleaned_data["pipeline"],
                    git_ref=form.cleaned_data["git_ref"] or None,
                    env=form.cleaned_data["env"],
                    parameters=_given(form, definition),
                    reuse=not form.cleaned_data["fresh"],
                    event=Event.PAGE,
                    idempotency_key=form.idempotency_key,
                )
            except ApplicationError as error:
                form.refuse(error)
            else:
                return redirect("dashboard:run", run_id=job.run_id)
    else:
        form = _job_form(request, names)
    status = 422 if form.is_bound else 200
    context = {**shared_context(request), "section": "runs", "form": form, "pipelines": names}
    return render(request, "dashboard/job_new.html", context, status=status)


def _job_form(request: HttpRequest, names: list[str]) -> JobForm:
    """The empty form for the pipeline of the query, or for the first one."""
    chosen = request.GET.get("pipeline", "")
    if chosen and chosen not in names:
        names.append(pipeline_get(chosen).name)
    chosen = chosen or (names[0] if names else "")
    initial = {"pipeline": chosen, "git_ref": request.GET.get("git_ref", ""), "key": new_id()}
    definition = _definition(chosen)
    return JobForm(pipelines=names, parameters=definition.parameters if definition else None, initial=initial)


def _job_parameters(request: HttpRequest) -> HttpResponse:
    """The part of the form that depends on the pipeline."""
    chosen = request.GET.get("pipeline", "")
    definition = _definition(chosen)
    form = JobForm(pipelines=[], parameters=definition.parameters if definition else None, initial={"pipeline": chosen})
    return render(request, "dashboard/job_parameters.html", {"form": form})


def _definition(name: str) -> Pipeline | None:
    """What the definition of the pipeline of that name says. None if only its repository has it, or nothing is known.

    A definition that an earlier version has stored may be wrong now. In what way, the start of a run says.
    """
    try:
        text = pipeline_get(name).definition if name else None
        return pipeline_parse(text) if text else None
    except (NotFound, InvalidInput):
        return None


def _given(form: JobForm, definition: Pipeline | None) -> Mapping[str, Any]:
    """The values of the parameters. Raises InvalidInput that names the wrong ones."""
    return parameters_check(definition, form.given) if definition else form.given


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
