"""The exception handler of Django REST framework: the same problems as everywhere, as DRF's responses."""

from typing import Any

from rest_framework.response import Response

from controlplane.http.problems import CONTENT_TYPE, application_error, problem_body, problem_headers
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
