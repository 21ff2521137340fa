"""Verifying and decoding the requests of agents."""

import gzip
import io
import zlib
from collections.abc import Callable
from functools import wraps
from typing import Any

from django.http import HttpRequest, HttpResponse, JsonResponse
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_POST

from apps.agents.authentication import SignedRequest, signed_agent
from controlplane.lib.actor import Actor
from controlplane.lib.error_codes import ErrorCode
from controlplane.lib.errors import InvalidInput, TooLarge

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


def decoded_body(request: HttpRequest, *, limit: int) -> bytes:
    """The body, decompressed if it is gzip. Raises InvalidInput, or TooLarge above `limit` bytes."""
    encoding = request.headers.get("Content-Encoding", "identity").strip().lower()
    if encoding == "identity":
        return request.body
    if encoding != "gzip":
        raise InvalidInput.field("Content-Encoding", "must be gzip or identity")
    packed = request.body
    if not packed:
        # Python's gzip module accepts an empty body as an empty file.
        raise InvalidInput.field("body", "must be compressed with gzip, as Content-Encoding says")
    try:
        # One byte above the limit shows that the body is too large, without decompressing all of it.
        data = gzip.GzipFile(fileobj=io.BytesIO(packed)).read(limit + 1)
    except (OSError, EOFError, zlib.error):
        raise InvalidInput.field("body", "must be compressed with gzip, as Content-Encoding says") from None
    if len(data) > limit:
        raise TooLarge(
            f"The decompressed body has more than {limit} bytes. Send smaller chunks.",
            code=ErrorCode.LOG_CHUNK_TOO_LARGE,
        )
    return data
