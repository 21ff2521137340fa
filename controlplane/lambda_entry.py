"""What AWS calls with each event (``lambda_handler`` in zappa_settings.json): reads the stage's secrets, then starts.

While the secrets cannot be read, requests get 503 and the next event tries again. Everything else is in
`controlplane.lambda_handler`, which needs the settings, and so the secrets, when it is imported.
"""

import json
import os
import sys
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from controlplane.lib.command_names import command_instead
from controlplane.lib.errors import ApplicationError
from controlplane.lib.secret_output import answer_captured
from controlplane.lib.stage_secrets import SecretsUnavailable, on_lambda, secrets_read

Event = dict[str, Any]
Handler = Callable[[Event, Any], Any]

_RETRY_SECONDS = 2
_handler: Handler | None = None


def handler(event: Event, context: Any) -> Any:
    """The result of any event.

    Raises SecretsUnavailable for an event that is no request while there are no secrets, and ApplicationError for a
    command that makes no sense here.
    """
    try:
        handle = _started()
    except SecretsUnavailable:
        if "http" in (event.get("requestContext") or {}):
            return _unavailable()
        raise
    instead = command_instead(str(event.get("manage", "")).split(" ")[0])
    if instead is not None:
        raise ApplicationError(instead)
    with answer_captured(event) as answer:
        result = handle(event, context)
    return result if answer is None else {"output": answer.getvalue()}


def _started() -> Handler:
    global _handler
    if _handler is None:
        if on_lambda():
            try:
                os.environ.update(secrets_read(os.environ["STAGE"], os.environ))
            except SecretsUnavailable as error:
                _log(f"The secrets of the stage cannot be read, so requests get 503. {error}")
                raise
        from controlplane.lambda_handler import handler as handle

        _handler = handle
    return _handler


def _unavailable() -> dict[str, Any]:
    problem = {
        "type": "about:blank",
        "title": "Service Unavailable",
        "status": 503,
        "code": "unavailable",
        "detail": "AWS does not respond. Please try again.",
    }
    headers = {"Content-Type": "application/problem+json", "Cache-Control": "no-store"}
    return {
        "statusCode": 503,
        "headers": {**headers, "Retry-After": str(_RETRY_SECONDS)},
        "body": json.dumps(problem),
        "isBase64Encoded": False,
    }


def _log(message: str) -> None:
    """Write a line as the product's own log does, which is not set up without settings."""
    sys.stderr.write(json.dumps({"level": "ERROR", "logger": __name__, "message": message}) + "\n")
    sys.stderr.flush()


if on_lambda():
    # While Lambda starts the process, it has a whole processor. A failure is tried again with the first event.
    with suppress(SecretsUnavailable):
        _started()
