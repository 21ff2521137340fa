"""Converts between DRF's exceptions and our errors. Only this part of `controlplane.http.problems` imports DRF."""

from collections.abc import Iterator
from typing import Any

from rest_framework import exceptions as drf
from rest_framework.response import Response

from controlplane.http.problems import CONTENT_TYPE, application_error, problem_body, problem_headers
from controlplane.lib.errors import ApplicationError, Forbidden, InvalidInput, NotAuthenticated
from controlplane.lib.work import failure_note


def problem_for_exception(exception: Exception, _: dict[str, Any]) -> Response | None:
    """DRF's exception handler. Returns None for a bug: Django then logs it and calls `views.server_error`."""
    error = application_error(exception)
    failure_note(error or exception)
    if error is None:
        return None
    response = Response(problem_body(error), status=error.status, headers=problem_headers(error))
    response.content_type = CONTENT_TYPE
    return response


def drf_error(exception: BaseException | None) -> ApplicationError | None:
    """The application error for a DRF error. None for any other exception."""
    match exception:
        case drf.ValidationError():
            errors = list(_field_errors(exception.detail))
            message = f"{errors[0]['field']}: {errors[0]['message']}" if errors else "The request is not valid."
            return InvalidInput(message, errors=errors)
        case drf.ParseError():
            return InvalidInput(str(exception.detail), code="malformed_json")
        case drf.NotAuthenticated() | drf.AuthenticationFailed():
            # DRF would answer 403 when its first authentication scheme names no challenge. We always have one.
            return NotAuthenticated(str(exception.detail))
        case drf.PermissionDenied():
            return Forbidden(str(exception.detail))
        case drf.APIException():
            wait = getattr(exception, "wait", None)
            return ApplicationError(
                str(exception.detail),
                code=str(exception.default_code),
                status=exception.status_code,
                retry_after=int(wait) if wait else None,
            )
        case _:
            return None


def _field_errors(detail: Any, field: str = "") -> Iterator[dict[str, str]]:
    """DRF's nested errors as a flat list of field and message."""
    if isinstance(detail, dict):
        for name, inner in detail.items():
            if isinstance(name, int):
                # The faulty items of a list, by their positions.
                yield from _field_errors(inner, f"{field}[{name}]")
                continue
            own = "" if name == "non_field_errors" else str(name)
            yield from _field_errors(inner, ".".join(part for part in (field, own) if part))
    elif isinstance(detail, list):
        for index, inner in enumerate(detail):
            # Objects and lists in a list are the errors of its items; texts are several errors of one field.
            yield from _field_errors(inner, f"{field}[{index}]" if isinstance(inner, dict | list) else field)
    else:
        yield {"field": field or "body", "message": str(detail)}
