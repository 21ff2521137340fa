"""The outermost middleware: starts each request's work, and writes its log line, metrics and trace."""

import logging
import re
import time
from collections.abc import Callable
from dataclasses import asdict
from functools import cache, partial
from http import HTTPStatus
from typing import Any

from django.conf import settings
from django.http import HttpRequest, HttpResponse

from controlplane.lib.actor import Actor
from controlplane.lib.addresses import request_address
from controlplane.lib.ids import new_id
from controlplane.lib.work import Work, actor_note, at_work, current_work
from controlplane.observability.logs import work_costs
from controlplane.observability.metrics import RouteFigures, process_metrics
from controlplane.observability.traces import trace_followed

logger = logging.getLogger(__name__)

HEADER = "X-Request-Id"
# In the WSGI environment of the rehearsal at the start, which no client has sent: it is not observed.
REHEARSAL = "controlplane.rehearsal"
# The route of requests that match no path, so that clients cannot create metrics with the paths they request.
_UNMATCHED = "unmatched"
# Django's admin has a hundred paths. They share one name.
_ADMIN = "admin/"
_PARAMETER = re.compile(r"\(\?P<(\w+)>[^)]*\)|<(?:\w+:)?(\w+)>")


class ObservabilityMiddleware:
    """Writes one line per request: ERROR with the traceback for a bug, WARNING for 503, else INFO."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        if REHEARSAL in request.META:
            return self.get_response(request)
        began = time.perf_counter()
        work = Work(request_id=_request_id(request), route=_UNMATCHED, client=partial(request_address, request.META))
        with at_work(work):
            with trace_followed(work):
                response = self.get_response(request)
                work.status = response.status_code
                _principal_note(request)
            response[HEADER] = work.request_id
            milliseconds = round((time.perf_counter() - began) * 1000, 2)
            _line_write(work, request, response.status_code, milliseconds)
            if settings.METRICS_EMF:
                _metrics_write(work, response.status_code, milliseconds)
        return response

    def process_view(self, request: HttpRequest, _view: Any, _args: Any, arguments: dict[str, Any]) -> None:
        """Django has found the view: record the job or agent that the request is about."""
        work, match = current_work(), request.resolver_match
        if work is not None and match is not None:
            work.route = _route(match.route)
            work.job_id, work.agent_id = arguments.get("job_id"), arguments.get("agent_id")


def _request_id(request: HttpRequest) -> str:
    """The gateway's id from its event, never from a header, which a client could write. Else an id of our own."""
    event = request.META.get("apig_wsgi.full_event") or request.META.get("lambda.event") or {}
    return (event.get("requestContext") or {}).get("requestId") or new_id()


@cache
def _route(pattern: str) -> str:
    """The pattern of a path as the API document writes it."""
    if pattern.startswith(_ADMIN):
        return f"/{_ADMIN}"
    plain = pattern.replace("^", "").replace("\\", "").removesuffix("$")
    return "/" + _PARAMETER.sub(lambda found: f"{{{found[1] or found[2]}}}", plain)


def _principal_note(request: HttpRequest) -> None:
    """Record the user of a page, if the view has read the session. To read it only for the log would cost a read."""
    work = current_work()
    user = getattr(request, "_cached_user", None)
    if work is not None and work.actor is None and user is not None and user.is_authenticated:
        actor_note(Actor("user", user.user_id, user.name))


def _line_write(work: Work, request: HttpRequest, status: int, milliseconds: float) -> None:
    level = logging.INFO if status < HTTPStatus.INTERNAL_SERVER_ERROR else logging.ERROR
    if status == HTTPStatus.SERVICE_UNAVAILABLE:
        level = logging.WARNING
    if not logger.isEnabledFor(level):
        return
    failure = work.failure if level > logging.INFO else None
    figures = asdict(RouteFigures.of(work, status, milliseconds)) if _is_each_logged() else {}
    logger.log(
        level,
        "%s %s: %d in %.0f ms",
        request.method,
        work.route,
        status,
        milliseconds,
        exc_info=failure,
        extra={
            "method": request.method,
            "status": status,
            "code": getattr(work.failure, "code", None),
            **work_costs(work, milliseconds),
            **figures,
        },
    )


def _is_each_logged() -> bool:
    """Whether each request has a line of its own, which then has its figures: it needs no further line."""
    return settings.METRICS_EMF and logger.isEnabledFor(logging.INFO)


def _metrics_write(work: Work, status: int, milliseconds: float) -> None:
    process_metrics.add(work.measures)
    if not _is_each_logged():
        process_metrics.request_add(work, status, milliseconds)
    # Events of jobs are rare, and no figure of them may be lost.
    process_metrics.write(at_once=bool(work.measures))
