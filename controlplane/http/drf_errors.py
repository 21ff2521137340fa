"""Converts the errors of Django REST framework to application errors."""

from collections.abc import Iterator
from itertools import islice
from typing import Any

from rest_framework import exceptions as drf

from controlplane.lib.error_codes import ErrorCode
from controlplane.lib.errors import MAX_ERRORS, ApplicationError, Forbidden, InvalidInput, NotAuthenticated


def drf_error(exception: BaseException | None) -> ApplicationError | None:
    """The application error for a DRF error. None for any other exception."""
    match exception:
        case drf.ValidationError():
            errors = list(islice(_field_errors(exception.detail), MAX_ERRORS))
            message = f"{errors[0]['field']}: {errors[0]['message']}" if errors else "The request is not valid."
            return InvalidInput(message, errors=errors)
        case drf.ParseError():
            return InvalidInput(str(exception.detail), code=ErrorCode.MALFORMED_JSON)
        case drf.NotAuthenticated() | drf.AuthenticationFailed():
            # DRF would answer 403 when its first authentication scheme names no challenge. We always have one.
            return NotAuthenticated(str(exception.detail))
        case drf.PermissionDenied():
            return Forbidden(str(exception.detail))
        case drf.APIException():
            wait = getattr(exception, "wait", None)
            return ApplicationError(
                str(exception.detail),
                code=_code(exception.default_code),
                status=exception.status_code,
                retry_after=int(wait) if wait else None,
            )
        case _:
            return None


def _code(code: str) -> ErrorCode:
    """DRF's own code, such as ``method_not_allowed``, if the API documents it."""
    return next((known for known in ErrorCode if known == code), ErrorCode.BAD_REQUEST)


def _field_errors(detail: Any, field: str = "") -> Iterator[dict[str, str]]:
    """DRF's nested errors as a flat list of field and message."""
    if isinstance(detail, dict):
        for name, inner in detail.items():
            if isinstance(name, int):
                # The invalid items of a list, by their positions.
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
