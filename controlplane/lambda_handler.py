"""The Lambda entry point: what AWS calls with each event (``lambda_handler`` in zappa_settings.json).

A request from the HTTP API (payload format 2.0) goes through a thin WSGI adapter. Everything else, schedules and
``zappa manage``, goes to Zappa's own handler, which is imported only then: it costs more than the whole of ours.
"""

import gc
from collections.abc import Callable, Iterable
from io import BytesIO
from typing import Any
from urllib.parse import unquote_to_bytes

from apig_wsgi import make_lambda_handler

Event = dict[str, Any]
Environ = dict[str, Any]

# All else travels as base64: a job's log is text/plain too, in whatever encoding the job printed it.
_TEXT_TYPES = ("application/json", "application/problem+json", "text/html", "text/css")


def handler(event: Event, context: Any) -> Any:
    """The answer to a request as the HTTP API wants it, or the result of whatever else the event asks for."""
    http = (event.get("requestContext") or {}).get("http")
    if event.get("version") == "2.0" and http:
        return _request_handler(_without_ambiguous_headers(event), context)
    return _other_handler()(event, context)


def _without_ambiguous_headers(event: Event) -> Event:
    """WSGI cannot tell ``X_Header`` from ``X-Header``; lest one pose as the other it is dropped, as web servers do."""
    headers = {name: value for name, value in event["headers"].items() if "_" not in name}
    return event if len(headers) == len(event["headers"]) else {**event, "headers": headers}


def _serve(environ: Environ, start_response: Callable[..., Any]) -> Iterable[bytes]:
    """Django's application behind what this gateway, and no client, knows of the request."""
    event = environ["apig_wsgi.full_event"]
    # The gateway has decoded the path, all but %25; WSGI wants its bytes, each as one character.
    path = unquote_to_bytes(event["rawPath"]).decode("latin-1")
    # It begins with the stage unless that is $default or a custom domain stands in front. Django puts the two parts
    # together again, so links have the stage, and the path is the one that the agent signed.
    prefix = f"/{event['requestContext'].get('stage', '')}"
    if path == prefix or path.startswith(f"{prefix}/"):
        environ["SCRIPT_NAME"], path = prefix, path[len(prefix) :] or "/"
    environ["PATH_INFO"] = path
    # HTTP APIs speak nothing else to clients, whatever the client writes.
    environ["wsgi.url_scheme"] = "https"
    environ.pop("HTTP_X_FORWARDED_PROTO", None)
    answer: Iterable[bytes] = application(environ, start_response)
    return answer


def _other_handler() -> Callable[[Event, Any], Any]:
    from zappa.handler import lambda_handler

    return lambda_handler  # type: ignore[no-any-return]


def _start() -> Callable[..., Any]:
    """Django's application, with what the first requests need loaded, while Lambda gives a whole processor.

    That is /health, which is asked for once, and what agents ask for, with the client that speaks to the database;
    pages and people's API are loaded when somebody wants them. Nothing is sent anywhere.

    Raises RuntimeError when /health is not answered: a package that cannot do even that must not go live.
    """
    # All that is made now stays for good: to look through it for garbage costs a tenth of the start.
    gc.disable()
    try:
        from django.conf import settings
        from django.urls import resolve

        from controlplane.lib.ids import new_id
        from controlplane.nosql.connection import shared_connection
        from controlplane.wsgi import application

        _health_require(application, next(iter(settings.ALLOWED_HOSTS), "localhost"))
        resolve(f"/agents/{new_id()}/heartbeat")
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
            # Nobody has asked: it is in no log, and counts in no metric.
            "controlplane.rehearsal": True,
        },
        note,
    )
    answer.close()
    if not statuses[0].startswith("200"):
        raise RuntimeError(f"/health answers {statuses[0]}")


application = _start()
_request_handler = make_lambda_handler(_serve, non_binary_content_type_prefixes=_TEXT_TYPES)
