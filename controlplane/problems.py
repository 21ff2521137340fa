"""RFC 9457 problem details: the one place where an error becomes a response."""

import logging
from collections.abc import Callable
from typing import Any

from django.core.exceptions import BadRequest, PermissionDenied, RequestDataTooBig, SuspiciousOperation
from django.http import Http404, HttpRequest, HttpResponse, JsonResponse
from rest_framework import exceptions as drf
from rest_framework.response import Response

from controlplane.lib.errors import ApplicationError, InvalidInput, NotAuthenticated, TooLarge, Unavailable

logger = logging.getLogger(__name__)

CONTENT_TYPE = "application/problem+json"


def problem_response(error: ApplicationError) -> JsonResponse:
    """The response for a plain Django view."""
    return JsonResponse(
        problem_body(error), status=error.status, content_type=CONTENT_TYPE, headers=problem_headers(error)
    )


def problem_body(error: ApplicationError) -> dict[str, Any]:
    """The members of RFC 9457 section 3.1, and ours: `code` for programs, `errors` for the fields at fault."""
    body: dict[str, Any] = {
        "type": "about:blank",
        "title": HttpResponse(status=error.status).reason_phrase,
        "status": error.status,
        "code": error.code,
        "detail": error.message,
    }
    if error.errors:
        body["errors"] = error.errors
    return body


def problem_headers(error: ApplicationError) -> dict[str, str]:
    headers = {}
    if error.retry_after is not None:
        headers["Retry-After"] = str(error.retry_after)
    if error.status == NotAuthenticated.status:
        headers["WWW-Authenticate"] = "Bearer"
    return headers


def problem_for_exception(exception: Exception, context: dict[str, Any]) -> Response | None:
    """DRF's exception handler."""
    error = application_error(exception)
    if error is None:
        return None
    response = Response(problem_body(error), status=error.status, headers=problem_headers(error))
    response.content_type = CONTENT_TYPE
    return response


def application_error(exception: Exception) -> ApplicationError | None:
    """The same error in our family, or None for what is a bug."""
    match exception:
        case ApplicationError():
            return exception
        case drf.ValidationError():
            errors = list(_field_errors(exception.detail))
            first = errors[0]
            return InvalidInput(f"{first['field']}: {first['message']}", errors=errors)
        case drf.APIException():
            error = ApplicationError(str(exception.detail), code=str(exception.default_code))
            error.status = exception.status_code  # type: ignore[misc]
            wait = getattr(exception, "wait", None)
            error.retry_after = int(wait) if wait else None
            return error
        case Http404():
            error = ApplicationError("There is nothing at this address.", code="not_found")
            error.status = 404  # type: ignore[misc]
            return error
        case PermissionDenied():
            error = ApplicationError("This is not allowed.", code="forbidden")
            error.status = 403  # type: ignore[misc]
            return error
        case RequestDataTooBig():
            return TooLarge("The body is larger than this endpoint takes.")
        case BadRequest() | SuspiciousOperation():
            return InvalidInput("The request cannot be understood.")
        case _:
            return None


def _field_errors(detail: Any, field: str = "") -> Any:
    """DRF's nested errors as a flat list of field and message."""
    if isinstance(detail, dict):
        for name, inner in detail.items():
            own = "" if name == "non_field_errors" else str(name)
            yield from _field_errors(inner, ".".join(part for part in (field, own) if part))
    elif isinstance(detail, list):
        for inner in detail:
            yield from _field_errors(inner, field)
    else:
        yield {"field": field or "body", "message": str(detail)}


class ProblemMiddleware:
    """Turns our errors, raised anywhere in a plain view or a middleware, into problem responses."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        try:
            return self.get_response(request)
        except Unavailable as error:
            return problem_response(error)

    def process_exception(self, request: HttpRequest, exception: Exception) -> HttpResponse | None:
        error = application_error(exception)
        if error is None:
            logger.exception("unhandled error in %s %s", request.method, request.path)
            return None
        return problem_response(error)
