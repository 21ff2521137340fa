"""The pages of pipelines: the list, one pipeline with its last runs, and the forms that add, change and delete one."""

from collections.abc import Sequence
from typing import Any

from django.contrib import messages
from django.core.exceptions import NON_FIELD_ERRORS
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render

from apps.accounts.authentication import request_actor
from apps.accounts.policies import Permission
from apps.dashboard.chart import run_chart
from apps.dashboard.forms.pipelines import PipelineForm, PipelineNewForm
from apps.dashboard.pages import page, refresh_seconds, shared_context, show
from apps.jobs.selectors import runs_recent
from apps.jobs.selectors.runs import run_statuses
from apps.jobs.services import runs_resume
from apps.jobs.states import RUN_FINAL, RunStatus
from apps.pipelines.selectors import Pipeline, pipeline_get, pipeline_list
from apps.pipelines.services import pipeline_delete, pipeline_pause, pipeline_save
from apps.sources.selectors import connection_list
from controlplane.http.body_limits import body_limit
from controlplane.lib import clock
from controlplane.lib.error_codes import ErrorCode
from controlplane.lib.errors import ApplicationError

# The page of a pipeline is about so many of its newest runs; so many of them have a bar.
LAST_RUNS = 50
BARS = 30
BRANCHES = 20
# The definition has up to 64 KB, of which the form may escape each byte.
_BODY = 512 * 1024


@page(Permission.PIPELINES_READ)
def pipeline_list_page(request: HttpRequest) -> HttpResponse:
    """Pipelines by name."""
    cursor = request.GET.get("cursor") or None
    return show(
        request,
        "pipelines",
        {"section": "pipelines", "found": pipeline_list(limit=50, cursor=cursor), "cursor": cursor},
    )


@page(Permission.PIPELINES_READ)
def pipeline_page(request: HttpRequest, name: str) -> HttpResponse:
    """One pipeline: its last runs by duration and result, its branches, and its definition."""
    pipeline = pipeline_get(name)
    runs = runs_recent(pipeline.name, limit=LAST_RUNS)
    statuses = run_statuses(runs)
    newest = [(run, statuses[run.run_id]) for run in runs]
    branches: dict[str, tuple[Any, RunStatus]] = {}
    # A ref of which no run has found a commit may be a mistake of a request, unless a run is still looking.
    found = {str(run.git_ref) for run, status in newest if run.commit or status not in RUN_FINAL}
    for run, status in newest:
        if run.git_ref in found:
            branches.setdefault(str(run.git_ref), (run, status))
    context = {
        "section": "pipelines",
        "pipeline": pipeline,
        "rows": newest[:10],
        "branches": list(branches.values())[:BRANCHES],
        "chart": run_chart(_bars(newest[:BARS])),
        "runs_total": len(newest),
        "results": _results(newest),
        "seconds": refresh_seconds(busy=any(status not in RUN_FINAL for status in statuses.values())),
    }
    return show(request, "pipeline", context)


def _bars(newest: Sequence[tuple[Any, RunStatus]]) -> list[tuple[str, str, float]]:
    now = clock.now()
    return [
        (str(run.run_id), status.value, _seconds(run.created_at, run.completed_at, now))
        for run, status in reversed(newest)
    ]


def _seconds(began: str, ended: str | None, now: Any) -> float:
    end = clock.parse_timestamp(ended) if ended else now
    return max(0.0, (end - clock.parse_timestamp(began)).total_seconds())


def _results(newest: Sequence[tuple[Any, RunStatus]]) -> list[tuple[str, int]]:
    """How many of the runs have each status."""
    counts = [(status.value, sum(one == status for _, one in newest)) for status in RunStatus]
    return [(status, number) for status, number in counts if number]


@body_limit(_BODY)
@page(Permission.PIPELINES_SAVE, "GET", "HEAD", "POST")
def pipeline_new_page(request: HttpRequest) -> HttpResponse:
    """A form that adds a pipeline. After an error it keeps what the user entered."""
    form = PipelineNewForm(request.POST or None, sources=_sources())
    if form.is_valid():
        saved = _saved(request, form, form.cleaned_data["name"], revision=0)
        if saved:
            return redirect("dashboard:pipeline", name=saved.name)
    return _form_page(request, form, {"pipeline": None})


@body_limit(_BODY)
@page(Permission.PIPELINES_SAVE, "GET", "HEAD", "POST")
def pipeline_edit_page(request: HttpRequest, name: str) -> HttpResponse:
    """A form that changes a pipeline. If another user has changed it meanwhile, it says so and shows their version."""
    pipeline = pipeline_get(name)
    if request.method != "POST":
        return _form_page(request, PipelineForm(initial=_initial(pipeline), sources=_sources()), {"pipeline": pipeline})
    form = PipelineForm(request.POST, sources=_sources())
    if form.is_valid():
        saved = _saved(request, form, name, revision=form.cleaned_data["revision"])
        if saved:
            return redirect("dashboard:pipeline", name=saved.name)
    changed = None
    if form.has_error(NON_FIELD_ERRORS, ErrorCode.CHANGED_MEANWHILE):
        # Saving once more replaces the version that the page shows now.
        changed = pipeline_get(name)
        form.data = {**dict(form.data.items()), "revision": str(int(changed.revision))}
    return _form_page(request, form, {"pipeline": pipeline, "changed": changed})


def _sources() -> list[str]:
    """The connections that a pipeline can be bound to."""
    return [str(connection.connection_id) for connection in connection_list()]


def _initial(pipeline: Pipeline) -> dict[str, Any]:
    return {
        "repository": pipeline.repository,
        "default_ref": pipeline.default_ref,
        "labels": " ".join(pipeline.own_labels) if not pipeline.definition else "",
        "source": pipeline.source or "",
        "source_repository": pipeline.source_repository or "",
        "definition": pipeline.definition or "",
        "badge": bool(pipeline.badge),
        "fetch_secret": pipeline.fetch_secret or "",
        "revision": int(pipeline.revision),
    }


def _saved(request: HttpRequest, form: PipelineForm, name: str, *, revision: int) -> Pipeline | None:
    """The pipeline as it is saved, or None if the form shows why it was not."""
    try:
        return pipeline_save(
            actor=request_actor(request),
            name=name,
            repository=form.cleaned_data["repository"],
            default_ref=form.cleaned_data["default_ref"],
            definition=form.cleaned_data["definition"],
            labels=form.cleaned_data["labels"],
            badge=form.cleaned_data["badge"],
            fetch_secret=form.cleaned_data["fetch_secret"],
            **form.source_members,
            revision=revision,
        ).pipeline
    except ApplicationError as error:
        form.refuse(error)
        return None


def _form_page(request: HttpRequest, form: PipelineForm, context: dict[str, Any]) -> HttpResponse:
    context = {**shared_context(request), **context, "section": "pipelines", "form": form}
    return render(request, "dashboard/pipeline_form.html", context, status=422 if form.is_bound else 200)


@page(Permission.PIPELINES_SAVE, "POST")
def pipeline_pause_action(request: HttpRequest, name: str) -> HttpResponse:
    """Pause the pipeline and redirect to its page."""
    pipeline_pause(actor=request_actor(request), name=name)
    messages.success(request, f"The pipeline {name} is paused. New runs wait, and those that were started go on.")
    return redirect("dashboard:pipeline", name=name)


@page(Permission.PIPELINES_SAVE, "POST")
def pipeline_resume_action(request: HttpRequest, name: str) -> HttpResponse:
    """Resume the pipeline and redirect to its page."""
    runs_resume(actor=request_actor(request), pipeline=name)
    messages.success(request, f"The pipeline {name} is resumed. The runs that waited for that start.")
    return redirect("dashboard:pipeline", name=name)


@page(Permission.PIPELINES_DELETE, "POST")
def pipeline_delete_action(request: HttpRequest, name: str) -> HttpResponse:
    """Delete the pipeline and redirect to the list."""
    pipeline_delete(actor=request_actor(request), name=name)
    messages.success(request, f"The pipeline {name} is deleted. Its runs stay, and its queued jobs still run.")
    return redirect("dashboard:pipelines")
