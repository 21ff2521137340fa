"""A server that gives the answers of a script, and clients that are closed at the end of a test."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import ClassVar

import pytest

from agent import client as agents

PROBLEM = {"Content-Type": "application/problem+json"}


def problem(code: str) -> bytes:
    return json.dumps({"code": code, "detail": "Some detail.", "errors": [{"field": "a"}]}).encode()


class Peer(BaseHTTPRequestHandler):
    """Gives the answers of the script and repeats the last one."""

    protocol_version = "HTTP/1.1"
    script: ClassVar[list[tuple[int, dict[str, str], bytes]]] = []
    seen: ClassVar[list[tuple[str, int]]] = []
    close_quietly: ClassVar[bool] = False

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        type(self).seen.append((self.path, self.client_address[1]))
        status, headers, body = self.script.pop(0) if len(self.script) > 1 else self.script[0]
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)
        self.close_connection = self.close_quietly

    def log_message(self, *args: object) -> None:
        pass


class Client(agents.Client):
    """An agent has one for as long as it lives; those of a test are closed at its end."""

    made: ClassVar[list[Client]] = []

    def __init__(self, *urls: str) -> None:
        super().__init__(*urls)
        self.made.append(self)


@pytest.fixture(autouse=True)
def _connections_closed() -> Iterator[None]:
    yield
    while Client.made:
        for address in Client.made.pop().addresses._all:
            address.close_idle()


@pytest.fixture
def peer() -> Iterator[type[Peer]]:
    handler = type("Handler", (Peer,), {"script": [(200, {}, b'{"ok": true}')], "seen": []})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
    server.handle_error = lambda *_: None  # type: ignore[method-assign]
    handler.server = server  # type: ignore[attr-defined]
    handler.url = f"http://127.0.0.1:{server.server_address[1]}"  # type: ignore[attr-defined]
    yield handler
    server.shutdown()
    server.server_close()
