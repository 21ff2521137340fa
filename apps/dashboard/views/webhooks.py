"""The pages of webhooks: the connections, what each has delivered, and the acts of users."""

from typing import Any

from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render

from apps.accounts.authentication import request_actor
from apps.accounts.policies import Permission
from apps.dashboard.forms.connections import ConnectionForm, ConnectionNewForm
from apps.dashboard.pages import page, shared_context
from apps.jobs.services.event_starts import event_redeliver
from apps.sources.selectors import Connection, connection_get, connection_list, delivery_list, webhook_path
from apps.sources.services import (
    connection_change,
    connection_create,
    connection_delete,
    connection_secret_rotate,
)
from apps.sources.states import DeliveryState
from controlplane.http.body_limits import body_limit
from controlplane.lib.errors import ApplicationError, Conflict

# A token has up to 16 KB, of which the form may escape each byte.
_BODY = 128 * 1024
_DELIVERIES = 25

# How each state looks, by those of runs.
_LOOKS = {
    DeliveryState.PENDING: ("queued", "Pending"),
    DeliveryState.DONE: ("completed", "Done"),
    DeliveryState.REFUSED: ("failed", "Refused"),
    DeliveryState.FAILED: ("failed", "Failed"),
}


@page(Permission.PIPELINES_READ)
def webhook_list_page(request: HttpRequest) -> HttpResponse:
    """The connections, with the addresses to which their providers send webhooks."""
    return _list(request, ConnectionNewForm())


@body_limit(_BODY)
@page(Permission.CONNECTIONS_MANAGE, "POST", form_at="webhooks")
def connection_new_action(request: HttpRequest) -> HttpResponse:
    """Add a connection, and show the secret of its webhooks this once."""
    form = ConnectionNewForm(request.POST)
    if form.is_valid():
        try:
            made = connection_create(actor=request_actor(request), **form.members)
        except ApplicationError as error:
            form.refuse(error)
        else:
            return _item(
                request, made.connection, ConnectionForm(initial=_initial(made.connection)), made.webhook_secret
            )
    return _list(request, form)


@page(Permission.PIPELINES_READ)
def connection_page(request: HttpRequest, connection_id: str) -> HttpResponse:
    """One connection, and the events that it has delivered."""
    connection = connection_get(connection_id)
    return _item(request, connection, ConnectionForm(initial=_initial(connection)))


@body_limit(_BODY)
@page(Permission.CONNECTIONS_MANAGE, "POST")
def connection_change_action(request: HttpRequest, connection_id: str) -> HttpResponse:
    """Change the connection and redirect to its page. An empty token stays as it is."""
    form = ConnectionForm(request.POST)
    if form.is_valid():
        try:
            connection_change(actor=request_actor(request), connection_id=connection_id, **form.members)
        except ApplicationError as error:
            form.refuse(error)
        else:
            messages.success(request, f"The connection {connection_id} is saved.")
            return redirect("dashboard:webhooks_of", connection_id=connection_id)
    return _item(request, connection_get(connection_id), form)


@page(Permission.CONNECTIONS_MANAGE, "POST")
def connection_secret_action(request: HttpRequest, connection_id: str) -> HttpResponse:
    """Make a new webhook secret, and show it this once."""
    leaked = request.POST.get("leaked") == "true"
    try:
        made = connection_secret_rotate(actor=request_actor(request), connection_id=connection_id, leaked=leaked)
    except Conflict as error:
        messages.error(request, error.message)
        return redirect("dashboard:webhooks_of", connection_id=connection_id)
    form = ConnectionForm(initial=_initial(made.connection))
    return _item(request, made.connection, form, made.webhook_secret)


@page(Permission.CONNECTIONS_MANAGE, "POST")
def connection_delete_action(request: HttpRequest, connection_id: str) -> HttpResponse:
    """Delete the connection and redirect to the list."""
    try:
        connection_delete(actor=request_actor(request), connection_id=connection_id)
    except Conflict as error:
        messages.error(request, error.message)
        return redirect("dashboard:webhooks_of", connection_id=connection_id)
    messages.success(request, f"The connection {connection_id} is deleted.")
    return redirect("dashboard:webhooks")


@page(Permission.JOBS_CREATE, "POST")
def event_redeliver_action(request: HttpRequest, connection_id: str, event_id: str) -> HttpResponse:
    """Work the event off once more, and redirect to the connection's page."""
    try:
        delivery = event_redeliver(actor=request_actor(request), connection_id=connection_id, event_id=event_id)
    except Conflict as error:
        messages.error(request, error.message)
    else:
        label = _LOOKS[DeliveryState(delivery.state)][1].lower()
        messages.success(request, f"{delivery.summary}: {label}. {delivery.reason or ''}".strip())
    return redirect("dashboard:webhooks_of", connection_id=connection_id)


def _list(request: HttpRequest, form: ConnectionNewForm) -> HttpResponse:
    context = {
        **shared_context(request),
        "section": "pipelines",
        "rows": [(connection, webhook_path(connection)) for connection in connection_list()],
        "form": form,
    }
    return render(request, "dashboard/webhooks.html", context, status=422 if form.is_bound else 200)


def _item(
    request: HttpRequest, connection: Connection, form: ConnectionForm, secret: str | None = None
) -> HttpResponse:
    troubled = request.GET.get("troubled") == "true"
    cursor = request.GET.get("cursor") or None
    found = delivery_list(str(connection.connection_id), troubled=troubled, limit=_DELIVERIES, cursor=cursor)
    context = {
        **shared_context(request),
        "section": "pipelines",
        "connection": connection,
        "webhook_path": webhook_path(connection),
        "form": form,
        "secret": secret,
        "troubled": troubled,
        "cursor": cursor,
        "rows": [(delivery, *_LOOKS[DeliveryState(delivery.state)]) for delivery in found.deliveries],
        "next_cursor": found.next_cursor,
    }
    response = render(
        request, "dashboard/webhooks_of.html", context, status=422 if form.is_bound and not form.is_valid() else 200
    )
    if secret is not None:
        response.headers["Cache-Control"] = "no-store"
    return response


def _initial(connection: Connection) -> dict[str, Any]:
    return {"name": connection.name, "api_url": connection.api_url or "", "web_url": connection.web_url or ""}
