"""`python -m tests.emulator_process`: ministack as a process of its own, with the address of `tests.emulator_items`."""

import gc
import os
import signal
from typing import Any

import ministack.app

from tests.dynamodb_emulator import items_answer, serving
from tests.emulator_items import ITEMS_PATH

_ministack = ministack.app.app


async def _application(scope: Any, receive: Any, send: Any) -> None:
    if scope.get("path") != ITEMS_PATH:
        await _ministack(scope, receive, send)
        return
    answer = items_answer(scope["method"], b"" if scope["method"] == "GET" else await _body(receive))
    headers = [(b"content-length", str(len(answer)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": answer})


async def _body(receive: Any) -> bytes:
    body = b""
    while True:
        message = await receive()
        body += message.get("body", b"")
        if not message.get("more_body"):
            return body


def _serve_dynamodb() -> None:
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 100)
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    with serving(os.environ["BIND_HOST"], int(os.environ["GATEWAY_PORT"])):
        signal.sigwait({signal.SIGTERM})


def main() -> None:
    services = os.environ["SERVICES"].split(",")
    if services == ["dynamodb"]:
        _serve_dynamodb()
        return
    if "lambda" in services:
        from ministack.services import lambda_svc

        # How long a function is "InProgress" after each change: half a second by itself.
        lambda_svc._LAMBDA_STATE_TRANSITION_DELAY = 0.05
    ministack.app.app = _application
    ministack.app.main()


if __name__ == "__main__":
    main()
