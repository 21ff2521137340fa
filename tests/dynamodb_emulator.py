"""ministack's DynamoDB in this process: the tests' calls go straight to it, those of other processes over HTTP.

Most of what a call between two processes costs is that each of them has to be woken.
"""

import asyncio
import copy
import json
import os
import threading
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from http import HTTPStatus
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import orjson
from botocore.awsrequest import AWSPreparedRequest, AWSResponse
from httptools import HttpParserUpgrade, HttpRequestParser

# DynamoDB deletes expired items within days. ministack does it each minute, in the midst of a test.
with patch.object(threading.Thread, "start"):
    from ministack.services import dynamodb

from controlplane.nosql.transport import Transport
from tests.emulator_items import ITEMS_PATH

# As in ministack's own event loop, one request after another.
_one_call = threading.Lock()
# For so long after a call, the calls of other threads are taken to race with it.
_RACE_SECONDS = 0.05
# What such a call takes: other threads run meanwhile, as with a call over a network.
_CALL_SECONDS = 0.0001

# The servers of this process, by URL.
_served: set[str] = set()


def dynamodb_answer(target: str, body: bytes) -> tuple[int, dict[str, str], bytes]:
    """Status, headers and body of the answer to a request for this X-Amz-Target."""
    try:
        with _one_call:
            # It awaits nothing.
            dynamodb.handle_request("POST", "/", {"x-amz-target": target}, body, {}).send(None)
    except StopIteration as returned:
        status, headers, answer = returned.value
        return status, headers, answer.encode() if isinstance(answer, str) else answer
    except Exception as error:  # noqa: BLE001 — as ministack does
        return 500, {}, json.dumps({"__type": "InternalServerError", "message": repr(error)}).encode()
    raise AssertionError("ministack's DynamoDB waits for something")


def items_answer(method: str, body: bytes = b"") -> bytes:
    """The body of the answer to a request for ITEMS_PATH."""
    with _one_call, dynamodb._lock:
        if method == "GET":
            tables = dynamodb._tables.all_values()
            return json.dumps({table["TableName"]: table["items"] for table in tables if table["items"]}).encode()
        items = json.loads(body or b"{}")
        for table in dynamodb._tables.all_values():
            found = items.get(table["TableName"], {})
            if found or table["items"]:
                table["items"] = defaultdict(dict, found)
                dynamodb._items_replaced(table)
    return b""


def is_served_here(url: str) -> bool:
    """Whether the emulator at this URL is that of this process."""
    return url in _served


@contextmanager
def serving(host: str, port: int) -> Iterator[str]:
    """Serve this process's DynamoDB by a thread, also to other processes. Gives the URL."""
    _make_cheaper()
    loop = asyncio.new_event_loop()
    url = f"http://{host}:{port}"
    server = loop.run_until_complete(loop.create_server(_Connection, host, port))
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    _served.add(url)
    try:
        yield url
    finally:
        _served.remove(url)
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        server.close()
        loop.close()


class _Connection(asyncio.Protocol):
    """One client's connection. It gives each request to ministack's DynamoDB, and to nothing else of ministack.

    The web server and the routing to a hundred services would take as much time for a call as DynamoDB does. There are
    one account and one region, whatever key signs.
    """

    def connection_made(self, transport: Any) -> None:
        self._transport = transport
        self._parser = HttpRequestParser(self)

    def data_received(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except HttpParserUpgrade:
            self._transport.close()

    def on_message_begin(self) -> None:
        self._path = b""
        self._target = ""
        self._body = b""

    def on_url(self, url: bytes) -> None:
        self._path += url

    def on_header(self, name: bytes, value: bytes) -> None:
        lower = name.lower()
        if lower == b"x-amz-target":
            self._target = value.decode("latin-1")
        elif lower == b"expect":
            self._transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def on_body(self, body: bytes) -> None:
        self._body += body

    def on_message_complete(self) -> None:
        method = self._parser.get_method().decode()
        if self._path == ITEMS_PATH.encode():
            status, headers, answer = 200, dict[str, str](), items_answer(method, self._body)
        else:
            status, headers, answer = dynamodb_answer(self._target, self._body)
        lines = [f"HTTP/1.1 {status} {HTTPStatus(status).phrase}", f"content-length: {len(answer)}"]
        lines += [f"{name}: {value}" for name, value in headers.items()]
        keep = self._parser.should_keep_alive()
        lines += ["", ""] if keep else ["connection: close", "", ""]
        self._transport.write("\r\n".join(lines).encode("latin-1") + answer)
        if not keep:
            self._transport.close()


class DirectTransport(Transport):
    """Gives botocore's requests to this process's DynamoDB. A process that this one has forked sends them over HTTP."""

    def __init__(self, endpoint_url: str, **options: Any) -> None:
        super().__init__(endpoint_url, **options)
        self._process = os.getpid()
        self._thread = 0
        self._since = 0.0

    @property
    def is_here(self) -> bool:
        """Whether this is the process of the emulator."""
        return os.getpid() == self._process

    def send(self, request: AWSPreparedRequest) -> AWSResponse:
        if not self.is_here:
            return super().send(request)
        target = request.headers["X-Amz-Target"]
        return self.answer(request.url, target if isinstance(target, str) else target.decode(), request.body)

    def answer(self, url: str, target: str, body: bytes) -> AWSResponse:
        """The answer to a request for this X-Amz-Target."""
        self._let_others_run()
        status, headers, content = dynamodb_answer(target, body)
        response = AWSResponse(url, status, headers, None)
        response._content = content
        return response

    def _let_others_run(self) -> None:
        """While several threads call, take as long as a network does. Else each would do all of its calls at once."""
        thread, now = threading.get_ident(), time.monotonic()
        if thread != self._thread:
            self._thread, self._since = thread, now
        if now - self._since < _RACE_SECONDS:
            time.sleep(_CALL_SECONDS)


def _make_cheaper() -> None:
    """Most of ministack's own time goes into copies, JSON, and checks of expressions, which repeat."""
    dynamodb.json = SimpleNamespace(loads=orjson.loads, dumps=json.dumps, JSONDecodeError=json.JSONDecodeError)
    dynamodb.json_response = lambda data: (200, {"Content-Type": "application/x-amz-json-1.0"}, orjson.dumps(data))
    dynamodb.copy = SimpleNamespace(deepcopy=_copied, copy=copy.copy)
    tokens = lru_cache(4096)(dynamodb._tokenize)
    dynamodb._tokenize = lambda expression: list(tokens(expression))
    dynamodb._condition_syntax_error = lru_cache(4096)(dynamodb._condition_syntax_error)


def _copied(value: Any) -> Any:
    """A deep copy of what is JSON, as items are: to write and read it takes a third of the time."""
    return orjson.loads(orjson.dumps(value))
