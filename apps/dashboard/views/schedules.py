"""The pages of schedules: those of a pipeline with a form that adds one, and the form and the acts of one."""

from typing import Any

from django.contrib import messages
from django.core.exceptions import NON_FIELD_ERRORS
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render

from apps.accounts.authentication import request_actor
from apps.accounts.policies import Permission
from apps.dashboard.forms.schedules import ScheduleForm, ScheduleNewForm
from apps.dashboard.pages import page, shared_context
from apps.jobs.selectors.runs import runs_last
from apps.pipelines.selectors import Schedule, pipeline_get, schedule_get, schedule_list, schedule_times, schedule_words
from apps.pipelines.services import (
    schedule_change,
    schedule_create,
    schedule_delete,
    schedule_pause,
    schedule_resume,
)
from controlplane.http.body_limits import body_limit
from controlplane.lib.error_codes import ErrorCode
from controlplane.lib.errors import ApplicationError

# The parameters have up to 50 KB, of which the form may escape each byte.
_BODY = 400 * 1024


@body_limit(_BODY)
@page(Permission.PIPELINES_READ, "GET", "HEAD")
def schedule_list_page(request: HttpRequest, name: str) -> HttpResponse:
    """The schedules of a pipeline with their next three times, and a form for a new one."""
    return _list_page(request, name, ScheduleNewForm())


@body_limit(_BODY)
@page(Permission.PIPELINES_SAVE, "POST", form_at="schedules")
def schedule_new_action(request: HttpRequest, name: str) -> HttpResponse:
    """Add a schedule and redirect to the list. After an error, the form keeps what the user entered."""
    form = ScheduleNewForm(request.POST)
    if form.is_valid():
        try:
            schedule = schedule_create(
                actor=request_actor(request), pipeline=name, name=form.cleaned_data["name"], **form.members
            )
        except ApplicationError as error:
            form.refuse(error)
        else:
            messages.success(request, f"The schedule {schedule.name} is added.")
            return redirect("dashboard:schedules", name=name)
    return _list_page(request, name, form)


def _list_page(request: HttpRequest, name: str, form: ScheduleNewForm) -> HttpResponse:
    pipeline = pipeline_get(name)
    schedules = schedule_list(str(pipeline.name))
    statuses = runs_last(schedule.last_run_id for schedule in schedules)
    context = {
        **shared_context(request),
        "section": "pipelines",
        "pipeline": pipeline,
        "rows": [
            (
                schedule,
                schedule_words(schedule),
                schedule_times(schedule),
                _parameters(schedule),
                statuses.get(str(schedule.last_run_id)),
            )
            for schedule in schedules
        ],
        "form": form,
    }
    return render(request, "dashboard/schedules.html", context, status=422 if form.is_bound else 200)


@body_limit(_BODY)
@page(Permission.PIPELINES_SAVE, "GET", "HEAD", "POST")
def schedule_edit_page(request: HttpRequest, schedule_id: str) -> HttpResponse:
    """A form that changes a schedule. If another user has changed it meanwhile, it says so."""
    schedule = schedule_get(schedule_id)
    form = ScheduleForm(request.POST if request.method == "POST" else None, initial=_initial(schedule))
    if form.is_valid():
        changed = {name: value for name, value in form.members.items() if name in form.changed_data}
        try:
            schedule_change(
                actor=request_actor(request),
                schedule_id=schedule_id,
                revision=form.cleaned_data["revision"],
                **changed,
            )
        except ApplicationError as error:
            form.refuse(error)
        else:
            messages.success(request, f"The schedule {schedule.name} is saved.")
            return redirect("dashboard:schedules", name=schedule.pipeline)
    if form.has_error(NON_FIELD_ERRORS, ErrorCode.CHANGED_MEANWHILE):
        # Saving once more replaces the version of the other user.
        form.data = {**dict(form.data.items()), "revision": str(int(schedule_get(schedule_id).revision))}
    context = {
        **shared_context(request),
        "section": "pipelines",
        "schedule": schedule,
        "words": schedule_words(schedule),
        "times": schedule_times(schedule),
        "form": form,
    }
    return render(request, "dashboard/schedule_form.html", context, status=422 if form.is_bound else 200)


def _initial(schedule: Schedule) -> dict[str, Any]:
    return {
        "cron": schedule.cron,
        "zone": schedule.zone,
        "git_ref": schedule.git_ref or "",
        "parameters": "\n".join(_parameters(schedule)),
        "only_if_changed": bool(schedule.only_if_changed),
        "revision": int(schedule.revision),
    }


def _parameters(schedule: Schedule) -> list[str]:
    """The parameters as the form takes them, one name=value each."""
    given = (schedule.parameters or {}).items()
    return [f"{name}={str(value).lower() if isinstance(value, bool) else value}" for name, value in given]


@page(Permission.PIPELINES_SAVE, "POST")
def schedule_pause_action(request: HttpRequest, schedule_id: str) -> HttpResponse:
    """Pause the schedule and redirect to the list."""
    schedule = schedule_pause(actor=request_actor(request), schedule_id=schedule_id)
    messages.success(request, f"The schedule {schedule.name} is paused. It starts no runs until it is resumed.")
    return redirect("dashboard:schedules", name=schedule.pipeline)


@page(Permission.PIPELINES_SAVE, "POST")
def schedule_resume_action(request: HttpRequest, schedule_id: str) -> HttpResponse:
    """Resume the schedule and redirect to the list."""
    schedule = schedule_resume(actor=request_actor(request), schedule_id=schedule_id)
    messages.success(request, f"The schedule {schedule.name} is resumed, from its next time on.")
    return redirect("dashboard:schedules", name=schedule.pipeline)


@page(Permission.PIPELINES_DELETE, "POST")
def schedule_delete_action(request: HttpRequest, schedule_id: str) -> HttpResponse:
    """Delete the schedule and redirect to the list."""
    schedule = schedule_get(schedule_id)
    schedule_delete(actor=request_actor(request), schedule_id=schedule_id)
    messages.success(request, f"The schedule {schedule.name} is deleted. Its runs stay.")
    return redirect("dashboard:schedules", name=schedule.pipeline)
