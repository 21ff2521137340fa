"""Verifying and decoding the requests of agents."""

import re
from collections.abc import Callable
from functools import wraps
from typing import Any

from django.http import HttpRequest, HttpResponse, JsonResponse
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_POST

from apps.agents.authentication import SignedRequest, signed_agent
from apps.jobs.serializers.agent_protocol import LOG_TIMES
from controlplane.lib.actor import Actor
from controlplane.lib.compression import gunzip
from controlplane.lib.error_codes import ErrorCode
from controlplane.lib.errors import InvalidInput, TooLarge

_LOG_TIMES = re.compile(LOG_TIMES)

# For bodies with a text whose own rule is stricter, such as the repository's file, so that the rule's message arrives.
# The signature is checked before the body is read.
AGENT_BODY_LIMIT = 1024 * 1024

AgentView = Callable[..., dict[str, Any]]


def agent_endpoint(view: AgentView) -> Callable[..., HttpResponse]:
    """A POST endpoint for agents. `view` gets the verified request and returns the members of the JSON answer."""

    @csrf_exempt
    @require_POST
    @wraps(view)
    def endpoint(request: HttpRequest, agent_id: str, **arguments: Any) -> HttpResponse:
        return JsonResponse(view(request, signed_agent(request, agent_id), **arguments))

    return endpoint


def agent_actor(signed: SignedRequest) -> Actor:
    """The agent as an actor."""
    return Actor(kind="agent", id=signed.agent_id, name=signed.agent.name)


def decoded_body(
    request: HttpRequest, *, limit: int, code: ErrorCode = ErrorCode.LOG_CHUNK_TOO_LARGE
) -> tuple[bytes, bytes | None]:
    """The body without its compression, and the body as it came if it is compressed with gzip.

    Raises InvalidInput, or TooLarge with this code above `limit` bytes.
    """
    encoding = request.headers.get("Content-Encoding", "identity").strip().lower()
    if encoding == "identity":
        return request.body, None
    if encoding != "gzip":
        raise InvalidInput.field("Content-Encoding", "must be gzip or identity")
    try:
        data = gunzip(request.body, limit=limit)
    except ValueError:
        raise InvalidInput.field("body", "must be compressed with gzip, as Content-Encoding says") from None
    if len(data) > limit:
        raise TooLarge(f"The decompressed body has more than {limit:,} bytes. Send less.", code=code)
    return data, request.body


def log_times(request: HttpRequest) -> tuple[int, str | None]:
    """How many milliseconds ago a chunk's first byte was printed, and when later bytes were, by the header Log-Times.

    An older agent sends none. Raises InvalidInput.
    """
    text = request.headers.get("Log-Times")
    if text is None:
        return 0, None
    if not _LOG_TIMES.fullmatch(text):
        raise InvalidInput.field("Log-Times", "must be milliseconds, and then places as bytes:milliseconds")
    age, _, later = text.partition(" ")
    return int(age), later or None
