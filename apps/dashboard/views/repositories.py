"""The pages that create a GitHub App, and that make pipelines from the repositories that connections reach."""

import json
from typing import Any
from urllib.parse import urlsplit

from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse

from apps.accounts.authentication import request_actor
from apps.accounts.policies import Permission
from apps.dashboard.forms.connections import GithubAppForm, RepositoryForm
from apps.dashboard.pages import page, shared_context
from apps.pipelines.selectors import pipelines_by_repository
from apps.sources.selectors import connection_get, connection_list
from apps.sources.services.github_apps import (
    app_begin,
    app_complete,
    connection_installations,
    connection_repositories,
    lists_repositories,
    repository_pipeline_create,
)
from controlplane.http.content_policy import policy_with_forms_to
from controlplane.http.public_url import public_url
from controlplane.lib.addresses import is_loopback
from controlplane.lib.errors import ApplicationError, Unavailable, Unprocessable

# Under this key the session keeps what was begun, by its state, until the browser comes back from GitHub.
_KEY = "github_apps"
# So many pages may be open at once.
_MOST_BEGUN = 5
_MOST_SHOWN = 100


@page(Permission.CONNECTIONS_MANAGE)
def github_app_new_page(request: HttpRequest) -> HttpResponse:
    """A button that creates a GitHub App: the browser posts the manifest to GitHub itself."""
    # The webhook of an app is known by the app's id, so there may be several.
    taken = {str(one.connection_id) for one in connection_list()}
    form = GithubAppForm({**GithubAppForm.defaults(taken), **request.GET.dict()})
    beginning = None
    if form.is_valid():
        try:
            beginning = app_begin(
                actor=request_actor(request),
                base_url=public_url(request),
                redirect_url=_absolute(request, "dashboard:github_app_made"),
                setup_url=_absolute(request, "dashboard:repositories"),
                **form.members,
            )
        except ApplicationError as error:
            form.refuse(error)
    context: dict[str, Any] = {
        "form": form,
        "beginning": beginning,
        "host": urlsplit(beginning.url).netloc if beginning else None,
        "manifest": json.dumps(beginning.manifest) if beginning else None,
        "is_local": is_loopback(urlsplit(public_url(request)).hostname or ""),
    }
    answer = _render(request, "github_app_new", context, status=200 if beginning else 422)
    if beginning is not None:
        begun = request.session.get(_KEY) or []
        request.session[_KEY] = [*begun, dict(beginning.kept)][-_MOST_BEGUN:]
        parts = urlsplit(beginning.url)
        answer.headers["Content-Security-Policy"] = policy_with_forms_to([f"{parts.scheme}://{parts.netloc}"])
    return answer


@page(Permission.CONNECTIONS_MANAGE)
def github_app_made_page(request: HttpRequest) -> HttpResponse:
    """Where GitHub sends the browser back to: exchange the code, and go on to the repositories."""
    state = request.GET.get("state", "")
    begun = request.session.get(_KEY) or []
    kept = next((one for one in begun if one["state"] == state), None)
    if kept is not None:
        # It serves once. Of two requests at once, GitHub serves one, and without its answer nothing has been served.
        request.session[_KEY] = [one for one in begun if one["state"] != state]
    connection = app_complete(actor=request_actor(request), kept=kept, state=state, code=request.GET.get("code", ""))
    messages.success(
        request, f"The GitHub App {connection.app_slug} is created. Install it where your repositories are."
    )
    return redirect("dashboard:connection_repositories", connection_id=connection.connection_id)


@page(Permission.PIPELINES_SAVE)
def repositories_page(request: HttpRequest) -> HttpResponse:
    """The connections that list repositories. If there is one, its repositories."""
    connections = [one for one in connection_list() if lists_repositories(one)]
    if len(connections) == 1:
        return redirect("dashboard:connection_repositories", connection_id=connections[0].connection_id)
    return _render(request, "repositories", {"connections": connections})


@page(Permission.PIPELINES_SAVE)
def connection_repositories_page(request: HttpRequest, connection_id: str) -> HttpResponse:
    """The repositories that a connection reaches, each with a button that makes a pipeline."""
    return _repositories(request, connection_id, None)


@page(Permission.PIPELINES_SAVE, "POST", form_at="connection_repositories")
def repository_pipeline_action(request: HttpRequest, connection_id: str) -> HttpResponse:
    """Make a pipeline from a repository, and redirect to its page."""
    form = RepositoryForm(request.POST)
    if form.is_valid():
        try:
            pipeline = repository_pipeline_create(
                actor=request_actor(request),
                connection_id=connection_id,
                repository=form.cleaned_data["repository"],
                name=form.cleaned_data["name"] or None,
            )
        except ApplicationError as error:
            form.refuse(error)
        else:
            messages.success(request, f"The pipeline {pipeline.name} is added. Pushes to its repository start runs.")
            return redirect("dashboard:pipeline", name=pipeline.name)
    return _repositories(request, connection_id, form)


def _repositories(request: HttpRequest, connection_id: str, form: RepositoryForm | None) -> HttpResponse:
    connection = connection_get(connection_id)
    search = request.GET.get("q", "").strip()[:100]
    problem, found, installed = None, [], []
    try:
        found = [one for one in connection_repositories(connection) if search.lower() in one.full_name.lower()]
        installed = connection_installations(connection)
    except (Unavailable, Unprocessable) as error:
        problem = error
    bound = pipelines_by_repository(connection_id)
    app_url = (connection.facts or {}).get("app_url")
    context = {
        "connection": connection,
        "rows": [(one, bound.get(one.full_name.lower(), [])) for one in found[:_MOST_SHOWN]],
        "more": max(0, len(found) - _MOST_SHOWN),
        "search": search,
        "installations": installed,
        "install_url": f"{app_url}/installations/new" if app_url else None,
        "problem": problem.message if problem else None,
        "form": form,
    }
    status = problem.status if problem else 422 if form is not None else 200
    return _render(request, "connection_repositories", context, status=status)


def _absolute(request: HttpRequest, name: str) -> str:
    path = reverse(name).removeprefix(request.META.get("SCRIPT_NAME", "") or "")
    return f"{public_url(request)}{path}"


def _render(request: HttpRequest, template: str, context: dict[str, Any], *, status: int = 200) -> HttpResponse:
    context = {**shared_context(request), **context, "section": "pipelines"}
    return render(request, f"dashboard/{template}.html", context, status=status)
