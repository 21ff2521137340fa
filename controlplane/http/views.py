"""Views that belong to no app and import as little as possible: root, health checks, and Django's error handlers."""

import sys

from django.conf import settings
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import redirect
from django.urls import Resolver404, resolve, reverse
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_safe

from controlplane.http.documented import documented
from controlplane.http.problems import application_error, error_response, thing_missing
from controlplane.lib.error_codes import ErrorCode
from controlplane.lib.errors import ApplicationError, Forbidden
from controlplane.lib.work import failure_note
from controlplane.nosql.readiness import database_require

# Where the addresses of pages begin. Those of the API are taken as they are written.
_PAGES = ("/account/", "/dashboard/", "/device/", "/docs/", "/guide/", "/signin/")


@require_safe
def root(_: HttpRequest) -> HttpResponse:
    """Redirect to the pages."""
    return redirect("dashboard:overview")


@documented("get", "controlplane.http.about.HEALTH")
@csrf_exempt
@require_safe
def health(_: HttpRequest) -> HttpResponse:
    """Whether the control plane answers. Reads and writes nothing."""
    return JsonResponse({"status": "healthy", "version": settings.VERSION}, headers={"Cache-Control": "no-store"})


@documented("get", "controlplane.http.about.READY")
@csrf_exempt
@require_safe
def ready(_: HttpRequest) -> HttpResponse:
    """Whether the database answers: 503 when it does not. All requests together cost at most one read in 5 s."""
    database_require()
    return JsonResponse({"status": "ready", "version": settings.VERSION}, headers={"Cache-Control": "no-store"})


def bad_request(request: HttpRequest, exception: Exception) -> HttpResponse:
    """Django's handler400."""
    return _handled(request, exception)


def forbidden(request: HttpRequest, exception: Exception) -> HttpResponse:
    """Django's handler403."""
    return _handled(request, exception)


def not_found(request: HttpRequest, exception: Exception) -> HttpResponse:
    """Django's handler404. The address of a page with a slash at its end leads to the page.

    Where an address has something else than an id, the answer says what is not there.
    """
    return _without_slash(request) or _handled(request, thing_missing(request.path_info) or exception)


def server_error(request: HttpRequest) -> HttpResponse:
    """Django's handler500, called while the exception is handled. A middleware may have raised one of our errors."""
    return _handled(request, sys.exc_info()[1])


def csrf_failure(request: HttpRequest, reason: str = "") -> HttpResponse:  # noqa: ARG001 — Django passes it by name
    """Django's CSRF_FAILURE_VIEW."""
    message = "This form has expired or came from another site. Reload the page and try again."
    return error_response(request, Forbidden(message, code=ErrorCode.CSRF_FAILED))


def _without_slash(request: HttpRequest) -> HttpResponse | None:
    path = request.path_info
    if request.method not in ("GET", "HEAD") or not path.endswith("/") or not path.startswith(_PAGES):
        return None
    try:
        found = resolve(path[:-1])
    except Resolver404:
        return None
    query = request.META.get("QUERY_STRING", "")
    return redirect(reverse(found.view_name, args=found.args, kwargs=found.kwargs) + (f"?{query}" if query else ""))


def _handled(request: HttpRequest, exception: BaseException | None) -> HttpResponse:
    known = application_error(exception)
    failure_note(known or exception)
    error = known or ApplicationError(
        "The control plane failed to answer. It has logged this error.", code=ErrorCode.INTERNAL_ERROR, status=500
    )
    return error_response(request, error)
