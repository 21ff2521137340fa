"""RFC 9457 problem details. Only this module turns an error into a response.

Programs get ``application/problem+json``. A browser, which accepts ``text/html``, gets a page. The response to a bug
is 500 without any detail of the error.
"""

import logging
import re
import sys
from collections.abc import Callable, Mapping
from http import HTTPStatus
from typing import Any

from django.conf import settings
from django.core.exceptions import BadRequest, PermissionDenied, RequestDataTooBig, SuspiciousOperation
from django.http import (
    Http404,
    HttpRequest,
    HttpResponse,
    HttpResponseNotAllowed,
    JsonResponse,
    UnreadablePostError,
)
from django.http.multipartparser import MultiPartParserError
from django.template.loader import select_template
from django.utils.http import MAX_URL_LENGTH
from django.utils.module_loading import import_string

from controlplane.http.body_limits import body_error
from controlplane.lib.actor import Actor
from controlplane.lib.error_codes import ErrorCode
from controlplane.lib.errors import (
    MAX_ERRORS,
    ApplicationError,
    Forbidden,
    InvalidInput,
    NotAuthenticated,
    NotFound,
    TooLarge,
)
from controlplane.lib.ids import ID_PATTERN
from controlplane.lib.work import current_work, failure_note

# What has ids, by the part of the address before them.
_THINGS = {
    "jobs": ("job", ErrorCode.JOB_NOT_FOUND),
    "runs": ("run", ErrorCode.RUN_NOT_FOUND),
    "deployments": ("deployment", ErrorCode.DEPLOYMENT_NOT_FOUND),
}

logger = logging.getLogger(__name__)

CONTENT_TYPE = "application/problem+json"

# So many bytes of a refused body are read and discarded. A client that is still sending does not read a response yet,
# and would lose it with the closed connection.
_DRAIN_BYTES = 32 * 1024 * 1024

# The name of a field that reads like words.
_PLAIN_NAME = re.compile("[a-z]+(?:_[a-z]+)*")

# The most characters of a path with its query, and of all headers together.
_ADDRESS_LIMIT = 16 * 1024
_HEADERS_LIMIT = 32 * 1024

# The section of the navigation that pages belong to, by the first part of their address.
_SECTIONS = {
    **{section: section for section in ("runs", "jobs", "agents", "pipelines", "environments", "secrets")},
    "deployments": "environments",
    "rotations": "secrets",
    "schedules": "pipelines",
}

# The most characters of each text in a problem, because it may repeat what a client has sent.
_MAX_DETAIL = 1000
_MAX_TEXTS = {"field": 200, "message": 500}


def error_response(request: HttpRequest, error: ApplicationError) -> HttpResponse:
    """A page for a browser, a problem for a program."""
    if "text/html" not in request.headers.get("Accept", ""):
        return problem_response(error)
    template = select_template([f"{error.status}.html", "error.html"])
    page = template.render(
        {
            "heading": _title(error),
            "detail": _sentence(error),
            "status": error.status,
            "request_id": _request_id(error),
            **_navigation(request),
        }
    )
    return HttpResponse(page, status=error.status, headers=problem_headers(error))


def _sentence(error: ApplicationError) -> str:
    """What has happened, for people: “git_ref: must be a ref” becomes “Git ref must be a ref.”"""
    text = error.message
    for fault in error.errors[:1]:
        name = str(fault["field"])
        if text == f"{name}: {fault['message']}" and _PLAIN_NAME.fullmatch(name):
            text = f"{name.replace('_', ' ').capitalize()} {fault['message']}"
    return text if text.endswith((".", "!", "?", "…", ".”")) else f"{text}."


def _navigation(request: HttpRequest) -> dict[str, Any]:
    """What the page needs to lead on: whether it has the navigation, and which part of it the address belongs to.

    It is rendered without the request: finding the user would read the database, which may be what failed. So the
    cookie of a session is enough. Without a valid session, all of these links lead to the sign-in page.
    """
    part = request.path_info.removeprefix("/dashboard/").partition("/")[0]
    return {
        "navigates": settings.SESSION_COOKIE_NAME in request.COOKIES,
        "section": _SECTIONS.get(part, ""),
    }


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
        "detail": _cut(error.message, _MAX_DETAIL),
    }
    if error.errors:
        body["errors"] = [_bounded(entry) for entry in error.errors[:MAX_ERRORS]]
    request_id = _request_id(error)
    if request_id:
        body["request_id"] = request_id
    return body


def _bounded(entry: Mapping[str, Any]) -> dict[str, Any]:
    """One of a problem's errors, with its texts cut."""
    return {name: _cut(value, _MAX_TEXTS[name]) if name in _MAX_TEXTS else value for name, value in entry.items()}


def _cut(text: str, length: int) -> str:
    return text if len(text) <= length else f"{text[: length - 1]}…"


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


def thing_missing(path: str) -> NotFound | None:
    """The error for a path below jobs, runs or deployments with something else than an id; None for other paths.

    No route has such a path, so nothing else says that there is no such job.
    """
    things, _, rest = path.removeprefix("/").removeprefix("dashboard/").partition("/")
    identifier = rest.partition("/")[0]
    if things not in _THINGS or not identifier or re.fullmatch(ID_PATTERN, identifier):
        return None
    name, code = _THINGS[things]
    return NotFound(f"There is no such {name}.", code=code)


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
        case BadRequest() | SuspiciousOperation() | MultiPartParserError():
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
    """Answers with problems: for our errors in plain views, and for requests that no view shall read."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        refused = _framing_error(request) or _size_error(request)
        if refused is not None:
            return problem_response(refused)
        response = self.get_response(request)
        if isinstance(response, HttpResponseNotAllowed) and not response.content:
            response = _not_allowed(request, response)
        if response.status_code == TooLarge.status:
            _drain(request)
        if response.status_code == Forbidden.status:
            response = _refusal_recorded(request, response)
        _redirect_shorten(response)
        return response

    def process_view(self, request: HttpRequest, view: Any, _args: Any, _arguments: Any) -> HttpResponse | None:
        """Refuse a body that is larger than the view takes, before anything reads it."""
        error = body_error(request, view)
        if error is None:
            return None
        failure_note(error)
        return error_response(request, error)

    def process_exception(self, request: HttpRequest, exception: Exception) -> HttpResponse | None:
        error = application_error(exception)
        failure_note(error or exception)
        return None if error is None else error_response(request, error)


def _refusal_recorded(request: HttpRequest, response: HttpResponse) -> HttpResponse:
    """The response, when it is in the audit trail that this was refused to someone who is signed in."""
    work, match = current_work(), request.resolver_match
    actor = signed_in_actor(request)
    if work is None or match is None or actor is None:
        return response
    try:
        import_string(settings.REFUSAL_RECORDER)(
            actor=actor,
            method=request.method,
            route=work.route,
            arguments=match.kwargs,
            path=request.path_info,
            code=getattr(work.failure, "code", None),
        )
    except ApplicationError as error:
        failure_note(error)
        return error_response(request, error)
    return response


def signed_in_actor(request: HttpRequest) -> Actor | None:
    """Who makes the request, as far as it is known: of a page the user, if the view has read the session."""
    work, user = current_work(), getattr(request, "_cached_user", None)
    if work is not None and work.actor is not None:
        return work.actor
    if user is not None and user.is_authenticated:
        return Actor("user", user.user_id, user.name)
    return None


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


def _size_error(request: HttpRequest) -> ApplicationError | None:
    """Web servers differ in how long an address and headers may be, so we have limits of our own."""
    if len(request.META.get("PATH_INFO", "")) + len(request.META.get("QUERY_STRING", "")) > _ADDRESS_LIMIT:
        return ApplicationError(
            f"The address has more than {_ADDRESS_LIMIT:,} characters.", code=ErrorCode.ADDRESS_TOO_LONG, status=414
        )
    if sum(len(value) for name, value in request.META.items() if name.startswith("HTTP_")) > _HEADERS_LIMIT:
        return ApplicationError(
            f"The headers have more than {_HEADERS_LIMIT:,} characters.", code=ErrorCode.HEADERS_TOO_LARGE, status=431
        )
    return None


def _redirect_shorten(response: HttpResponse) -> None:
    """Drop the query of a redirect to the sign-in page that repeats a longer address than that page leads back to."""
    for header in ("Location", "HX-Redirect"):
        address = response.get(header, "")
        if len(address) > 2 * MAX_URL_LENGTH:
            response[header] = address.partition("?")[0]


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
