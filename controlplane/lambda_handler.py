"""The Lambda entry point: AWS calls it with each event (``lambda_handler`` in zappa_settings.json).

A thin WSGI adapter serves requests from the HTTP API (payload format 2.0). Of all other events it knows the two that
this product sends: a rule of ``events`` in zappa_settings.json, which Zappa makes, and a command of ``zappa manage``.
It refuses the rest, such as the code that ``zappa invoke --raw`` sends.
"""

import gc
import importlib
from collections.abc import Callable, Iterable
from io import BytesIO
from typing import Any
from urllib.parse import unquote_to_bytes

from apig_wsgi import make_lambda_handler

Event = dict[str, Any]
Environ = dict[str, Any]

_SCHEDULES = "controlplane.schedules"

# All other types are sent as base64: a job's log is text/plain too, in any encoding that the job printed.
_TEXT_TYPES = ("application/json", "application/problem+json", "text/html", "text/css")


def handler(event: Event, context: Any) -> Any:
    """The response to a request in the form that the HTTP API needs, or the result of any other event."""
    http = (event.get("requestContext") or {}).get("http")
    if event.get("version") == "2.0" and http:
        return _request_handler(_without_ambiguous_headers(event), context)
    return _event_handle(event, context)


def _without_ambiguous_headers(event: Event) -> Event:
    """Drop headers with an underscore, as web servers do: WSGI cannot distinguish ``X_Header`` from ``X-Header``."""
    headers = {name: value for name, value in event["headers"].items() if "_" not in name}
    return event if len(headers) == len(event["headers"]) else {**event, "headers": headers}


def _serve(environ: Environ, start_response: Callable[..., Any]) -> Iterable[bytes]:
    """Call Django's application with what the gateway, and no client, says about the request."""
    event = environ["apig_wsgi.full_event"]
    # The gateway has decoded the path, except %25. WSGI needs its bytes, each as one character.
    path = unquote_to_bytes(event["rawPath"]).decode("latin-1")
    # The path begins with the stage, unless that is $default or the request used a custom domain. Django joins the two
    # parts again, so links contain the stage, and the path is the one that the agent signed.
    prefix = f"/{event['requestContext'].get('stage', '')}"
    if path == prefix or path.startswith(f"{prefix}/"):
        environ["SCRIPT_NAME"], path = prefix, path[len(prefix) :] or "/"
    environ["PATH_INFO"] = path
    # HTTP APIs accept only https, whatever the client's headers say.
    environ["wsgi.url_scheme"] = "https"
    environ.pop("HTTP_X_FORWARDED_PROTO", None)
    answer: Iterable[bytes] = application(environ, start_response)
    return answer


def _event_handle(event: Event, context: Any) -> Any:
    """Run a schedule or a command. Raises ValueError for any other event, and whatever the work raises."""
    if event.get("detail-type") == "Scheduled Event":
        return _scheduled(event.get("resources") or [])(event, context)
    if isinstance(event.get("manage"), str):
        import shlex

        from django.core.management import call_command

        call_command(*shlex.split(event["manage"]))
        return {}
    raise ValueError(f"This function takes requests, schedules and commands, not an event with {sorted(event)}")


def _scheduled(resources: list[str]) -> Callable[[Event, Any], Any]:
    """The function of the rule that sent a scheduled event.

    Zappa ends a rule's name with the function's, or, when that is too long, begins it with a hash. A rule can name
    only what controlplane/schedules.py offers.
    """
    for resource in resources:
        name = resource.rpartition("/")[2]
        module, _, function = name.rpartition("-")[2].rpartition(".")
        if module == _SCHEDULES and not function.startswith("_"):
            return getattr(importlib.import_module(module), function)  # type: ignore[no-any-return]
    raise ValueError(f"No function of {_SCHEDULES} is scheduled by {resources}")


def _start() -> Callable[..., Any]:
    """Django's application. It imports what the first requests need, while Lambda provides a whole processor.

    These are /health, which is requested once here, and agents' requests, with the client for the database. Pages and
    the API for people are imported at their first request. Nothing is sent over the network.

    Raises RuntimeError when /health fails: such a package must not go live.
    """
    # All objects of the start are permanent. Garbage collection would cost a tenth of the start.
    gc.disable()
    try:
        from django.conf import settings
        from django.urls import resolve

        from controlplane.nosql.connection import shared_connection
        from controlplane.wsgi import application

        _health_require(application, next(iter(settings.ALLOWED_HOSTS), "localhost"))
        resolve(f"/agents/{'0' * 26}/heartbeat")
        shared_connection().client  # noqa: B018 — it is made by being asked for
        return application
    finally:
        gc.freeze()
        gc.enable()


def _health_require(application: Callable[..., Any], host: str) -> None:
    statuses: list[str] = []

    def note(status: str, _headers: list[tuple[str, str]], _error: Any = None) -> Callable[[bytes], object]:
        statuses.append(status)
        return len

    answer = application(
        {
            "REQUEST_METHOD": "GET",
            "SCRIPT_NAME": "",
            "PATH_INFO": "/health",
            "QUERY_STRING": "",
            "HTTP_HOST": f"any{host}" if host.startswith(".") else host,
            "SERVER_NAME": "localhost",
            "SERVER_PORT": "443",
            "SERVER_PROTOCOL": "HTTP/1.1",
            "wsgi.url_scheme": "https",
            "wsgi.input": BytesIO(),
            # No client has sent this request, so it is in no log and in no metric.
            "controlplane.rehearsal": True,
        },
        note,
    )
    answer.close()
    if not statuses[0].startswith("200"):
        raise RuntimeError(f"/health answers {statuses[0]}")


application = _start()
_request_handler = make_lambda_handler(_serve, non_binary_content_type_prefixes=_TEXT_TYPES)
