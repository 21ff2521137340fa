"""RFC 9457 problem details. Only this module turns an error into a response.

Programs get ``application/problem+json``. A browser, which accepts ``text/html``, gets a page. The response to a bug
is 500 without any detail of the error.
"""

import logging
import sys
from collections.abc import Callable
from http import HTTPStatus
from typing import Any

from django.core.exceptions import BadRequest, PermissionDenied, RequestDataTooBig, SuspiciousOperation
from django.http import (
    Http404,
    HttpRequest,
    HttpResponse,
    HttpResponseNotAllowed,
    JsonResponse,
    UnreadablePostError,
)
from django.template.loader import select_template

from controlplane.lib.error_codes import ErrorCode
from controlplane.lib.errors import ApplicationError, Forbidden, InvalidInput, NotAuthenticated, NotFound, TooLarge
from controlplane.lib.work import current_work, failure_note

logger = logging.getLogger(__name__)

CONTENT_TYPE = "application/problem+json"

# So many bytes of a refused body are read and discarded. A client that is still sending does not read a response yet,
# and would lose it with the closed connection.
_DRAIN_BYTES = 32 * 1024 * 1024


def error_response(request: HttpRequest, error: ApplicationError) -> HttpResponse:
    """A page for a browser, a problem for a program."""
    if "text/html" not in request.headers.get("Accept", ""):
        return problem_response(error)
    template = select_template([f"{error.status}.html", "error.html"])
    # Rendered without the request: finding the user would read the database, which may be what failed.
    page = template.render(
        {"heading": _title(error), "detail": error.message, "status": error.status, "request_id": _request_id(error)}
    )
    return HttpResponse(page, status=error.status, headers=problem_headers(error))


def problem_response(error: ApplicationError) -> JsonResponse:
    """The response for a plain Django view."""
    return JsonResponse(
        problem_body(error), status=error.status, content_type=CONTENT_TYPE, headers=problem_headers(error)
    )


def problem_body(error: ApplicationError) -> dict[str, Any]:
    """The members of RFC 9457 section 3.1, and our own: `code` for programs, `errors` for the invalid fields.

    A server error has a `request_id`, which finds the details in the log.
    """
    body: dict[str, Any] = {
        "type": "about:blank",
        "title": _title(error),
        "status": error.status,
        "code": error.code.value,
        "detail": error.message,
    }
    if error.errors:
        body["errors"] = error.errors
    request_id = _request_id(error)
    if request_id:
        body["request_id"] = request_id
    return body


def _request_id(error: ApplicationError) -> str | None:
    """The id with which operators find a server error in the log. None for a client's error."""
    work = current_work()
    return work.request_id if work is not None and error.status >= HTTPStatus.INTERNAL_SERVER_ERROR else None


def problem_headers(error: ApplicationError) -> dict[str, str]:
    """The headers that HTTP requires with this error."""
    headers = {}
    if error.retry_after is not None:
        headers["Retry-After"] = str(error.retry_after)
    if error.status == NotAuthenticated.status:
        headers["WWW-Authenticate"] = "Bearer"
    return headers


def application_error(exception: BaseException | None) -> ApplicationError | None:
    """The application error for an exception. None for a bug."""
    match exception:
        case ApplicationError():
            return exception
        case Http404():
            return NotFound("There is no page or endpoint at this address.")
        case PermissionDenied():
            return Forbidden("You do not have the permission for this.")
        case RequestDataTooBig():
            return TooLarge("The body is too large for this endpoint.")
        case BadRequest() | SuspiciousOperation():
            return InvalidInput("The request is malformed.")
        case UnreadablePostError():
            return InvalidInput("The body is shorter than its Content-Length.", code=ErrorCode.INCOMPLETE_BODY)
        case _:
            return _drf_error(exception)


def _drf_error(exception: BaseException | None) -> ApplicationError | None:
    """The application error for a DRF error. If DRF is not loaded, the exception cannot be DRF's."""
    if "rest_framework.exceptions" not in sys.modules:
        return None
    from controlplane.http.drf_errors import drf_error

    return drf_error(exception)


def _title(error: ApplicationError) -> str:
    return HTTPStatus(error.status).phrase


class ProblemMiddleware:
    """Answers with problems: for our errors in plain views, and for requests whose body length is not clear."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        refused = _framing_error(request)
        if refused is not None:
            return problem_response(refused)
        response = self.get_response(request)
        if isinstance(response, HttpResponseNotAllowed) and not response.content:
            response = _not_allowed(request, response)
        if response.status_code == TooLarge.status:
            _drain(request)
        return response

    def process_exception(self, request: HttpRequest, exception: Exception) -> HttpResponse | None:
        error = application_error(exception)
        failure_note(error or exception)
        return None if error is None else error_response(request, error)


def _framing_error(request: HttpRequest) -> ApplicationError | None:
    """Django reads a malformed length, or a chunked body, as an empty body. We refuse both instead."""
    length = request.META.get("CONTENT_LENGTH") or ""
    if length and not (length.isascii() and length.isdigit() and len(length) <= 18):
        return InvalidInput.field("Content-Length", "must be a number of bytes", code=ErrorCode.INVALID_CONTENT_LENGTH)
    if not length and "chunked" in request.headers.get("Transfer-Encoding", "").lower():
        return ApplicationError(
            "Send the length of the body in Content-Length.", code=ErrorCode.LENGTH_REQUIRED, status=411
        )
    return None


def _not_allowed(request: HttpRequest, response: HttpResponse) -> HttpResponse:
    error = ApplicationError(f'Method "{request.method}" not allowed.', code=ErrorCode.METHOD_NOT_ALLOWED, status=405)
    refusal = error_response(request, error)
    refusal["Allow"] = response["Allow"]
    return refusal


def _drain(request: HttpRequest) -> None:
    drained = 0
    try:
        while drained < _DRAIN_BYTES and (chunk := request.read(64 * 1024)):
            drained += len(chunk)
    except OSError:
        logger.debug("the client closed the connection before its body had been read")
