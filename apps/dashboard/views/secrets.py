"""The pages of secrets: the list, one secret with its versions and deliveries, and the forms that change one."""

from typing import Any

from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render

from apps.accounts.authentication import request_actor
from apps.accounts.policies import Permission
from apps.dashboard.forms.secrets import SecretNewForm, SecretValueForm
from apps.dashboard.pages import page, shared_context
from apps.dashboard.views.rotations import rotation_context
from apps.jobs.selectors.environments import environment_get, environment_list
from apps.pipelines.selectors import pipeline_get, pipeline_list
from apps.secrets.selectors import secret_deliveries, secret_get, secret_list, secret_versions
from apps.secrets.selectors.rotations import rotations_alarming
from apps.secrets.services import secret_create, secret_delete, secret_set
from apps.secrets.states import MAX_BYTES, Scope
from controlplane.http.body_limits import body_limit
from controlplane.lib import clock
from controlplane.lib.errors import ApplicationError, NotFound

# A form may escape each byte of a value.
_BODY = 8 * MAX_BYTES
_VERSIONS, _DELIVERIES = 10, 20
# The form suggests so many pipelines and environments.
_SUGGESTED = 100


@page(Permission.SECRETS_READ)
def secret_list_page(request: HttpRequest) -> HttpResponse:
    """Secrets by name, and which jobs may get them."""
    cursor = request.GET.get("cursor") or None
    context = {
        "found": secret_list(limit=50, cursor=cursor),
        "cursor": cursor,
        "alarming": sorted(rotations_alarming(clock.now())),
    }
    return _render(request, "secrets", context)


@page(Permission.SECRETS_READ)
def secret_page(request: HttpRequest, secret_id: str) -> HttpResponse:
    """One secret: which jobs may get it, its versions, and which jobs have got them."""
    return _item(request, secret_id, SecretValueForm())


@body_limit(_BODY)
@page(Permission.SECRETS_MANAGE, "POST")
def secret_set_action(request: HttpRequest, secret_id: str) -> HttpResponse:
    """Give the secret the value in the form, and redirect to its page."""
    form = SecretValueForm(request.POST)
    if form.is_valid():
        try:
            secret = secret_set(actor=request_actor(request), secret_id=secret_id, value=form.cleaned_data["value"])
        except ApplicationError as error:
            form.refuse(error)
        else:
            messages.success(request, f"Jobs get version {int(secret.current)} of {secret.name} from now on.")
            return redirect("dashboard:secret", secret_id=secret_id)
    return _item(request, secret_id, form)


@body_limit(_BODY)
@page(Permission.SECRETS_MANAGE, "GET", "HEAD", "POST")
def secret_new_page(request: HttpRequest) -> HttpResponse:
    """A form that creates a secret. After a mistake it keeps what the user entered, but for the value."""
    form = SecretNewForm(request.POST or None)
    if form.is_valid():
        try:
            secret = _create(request, form.cleaned_data)
        except ApplicationError as error:
            form.refuse(error)
        else:
            messages.success(request, f"The secret {secret.name} is created. Its value cannot be read back.")
            for kind, name in _unknown(secret).items():
                messages.warning(request, f"There is no {kind} {name} yet. If that is a mistake, delete the secret.")
            return redirect("dashboard:secret", secret_id=secret.secret_id)
    context = {
        "form": form,
        "pipelines": [pipeline.name for pipeline in pipeline_list(limit=_SUGGESTED).pipelines],
        "environments": [view.environment.name for view in environment_list()][:_SUGGESTED],
    }
    return _render(request, "secret_new", context, status=422 if form.is_bound else 200)


@page(Permission.SECRETS_MANAGE, "POST")
def secret_delete_action(request: HttpRequest, secret_id: str) -> HttpResponse:
    """Delete the secret and redirect to the list."""
    secret_delete(actor=request_actor(request), secret_id=secret_id)
    messages.success(request, f"The secret {secret_id} is deleted. Jobs that name it fail from now on.")
    return redirect("dashboard:secrets")


def _create(request: HttpRequest, data: dict[str, Any]) -> Any:
    scope = Scope(
        pipeline=data["pipeline"] or None,
        environment=data["environment"] or None,
        branches=tuple(data["branches"].replace(",", " ").split()),
        pull_requests=data["pull_requests"],
    )
    return secret_create(
        actor=request_actor(request),
        name=data["name"],
        value=data["value"],
        scope=scope,
        description=data["description"] or None,
    )


def _unknown(secret: Any) -> dict[str, str]:
    """The pipeline and the environment that the secret is for, if they do not exist. A read for each that it names.

    A secret may be made before them, so that is no error, but it may be a typo.
    """
    unknown = {}
    asked = {"pipeline": (secret.pipeline, pipeline_get), "environment": (secret.environment, environment_get)}
    for kind, (name, get) in asked.items():
        try:
            if name:
                get(str(name))
        except NotFound:
            unknown[kind] = str(name)
    return unknown


def _item(request: HttpRequest, secret_id: str, form: SecretValueForm) -> HttpResponse:
    secret = secret_get(secret_id)
    context = {
        "secret": secret,
        "unknown": _unknown(secret),
        "form": form,
        "versions": secret_versions(secret_id, limit=_VERSIONS),
        "seen": secret_deliveries(secret_id, limit=_DELIVERIES),
        **rotation_context(secret_id),
    }
    return _render(request, "secret", context, status=422 if form.is_bound else 200)


def _render(request: HttpRequest, template: str, context: dict[str, Any], *, status: int = 200) -> HttpResponse:
    context = {**shared_context(request), "section": "secrets", **context}
    return render(request, f"dashboard/{template}.html", context, status=status)
