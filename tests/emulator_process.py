"""`python -m tests.emulator_process`: ministack with one more address, for the items of all DynamoDB tables at once.

| method | at ITEMS_PATH |
|--------|----------------|
| GET    | answers with all items: by the table's name, then by the values of their keys |
| PUT    | makes the items those of the body, which is such an answer |
| DELETE | deletes all items; the tables stay |

One call in place of a scan or a write for each table, which also finds what other processes have written.
"""

import json
import os
import threading
from collections import defaultdict
from typing import Any
from unittest.mock import patch

import ministack.app
import uvicorn

# DynamoDB deletes expired items within days. ministack does it each minute, in the midst of a test.
with patch.object(threading.Thread, "start"):
    from ministack.services import dynamodb

from tests.emulator import ITEMS_PATH

_ministack = ministack.app.app


async def _application(scope: Any, receive: Any, send: Any) -> None:
    if scope.get("path") != ITEMS_PATH:
        await _ministack(scope, receive, send)
        return
    answer = b""
    if scope["method"] == "GET":
        answer = json.dumps(_items()).encode()
    else:
        _replace(json.loads(await _body(receive) or b"{}"))
    headers = [(b"content-length", str(len(answer)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": answer})


def _items() -> dict[str, Any]:
    with dynamodb._lock:
        return {table["TableName"]: table["items"] for table in dynamodb._tables.all_values() if table["items"]}


def _replace(items: dict[str, Any]) -> None:
    with dynamodb._lock:
        for table in dynamodb._tables.all_values():
            found = items.get(table["TableName"], {})
            if found or table["items"]:
                table["items"] = defaultdict(dict, found)
                dynamodb._items_replaced(table)


async def _body(receive: Any) -> bytes:
    body = b""
    while True:
        message = await receive()
        body += message.get("body", b"")
        if not message.get("more_body"):
            return body


def _serve_dynamodb() -> None:
    """Most calls of the tests come here. ministack's own web server takes more time for a call than DynamoDB does."""
    uvicorn.run(
        _application,
        host=os.environ["BIND_HOST"],
        port=int(os.environ["GATEWAY_PORT"]),
        loop="asyncio",
        http="httptools",
        ws="none",
        lifespan="off",
        timeout_keep_alive=75,
        timeout_graceful_shutdown=1,
        date_header=False,
        server_header=False,
        access_log=False,
        log_level="error",
    )


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
