"""The database does not answer or cannot be reached: clients get 503 before the gateway's timeout."""

import json
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from typing import Any

import pytest

from controlplane.lib.ids import new_id
from tests.agents.machines import REPORT, Machine
from tests.zappa.events import http_api_event
from tests.zappa.test_lambda_handler import PROBE, python

# An HTTP API waits for 30 s, the function has 29, and docs/operations.md, "Time", promises this.
PROMISED_SECONDS = 10
# Python and the application also need time to start on a busy machine.
START_SECONDS = 10


@contextmanager
def silent() -> Iterator[int]:
    """A port that takes connections and requests, and never answers: the kernel does so without an accept."""
    with closing(socket.create_server(("127.0.0.1", 0), backlog=128)) as listener:
        yield listener.getsockname()[1]


@contextmanager
def dropping() -> Iterator[int]:
    """A port that takes no connections: its queue is full, so the kernel drops new ones."""
    with closing(socket.create_server(("127.0.0.1", 0), backlog=0)) as listener, ExitStack() as filling:
        address = listener.getsockname()
        for _ in range(8):
            connection = filling.enter_context(closing(socket.socket()))
            connection.setblocking(False)
            connection.connect_ex(address)
        time.sleep(0.2)
        with pytest.raises(TimeoutError):
            socket.create_connection(address, timeout=0.5)
        yield address[1]


def agents_request() -> dict[str, Any]:
    """A heartbeat whose key the function has to read."""
    agent_id = new_id()
    machine = Machine("", agent_id, f"{agent_id}.01234567", b"x" * 32)
    body = json.dumps({"agent_id": machine.agent_id, **REPORT}).encode()
    headers = {**HEADERS, **machine.signed("POST", machine.heartbeat_path, body)}
    return http_api_event(
        "POST", machine.heartbeat_path, headers={name.lower(): value for name, value in headers.items()}, body=body
    )


HEADERS = {"host": "localhost", "content-type": "application/json"}
PROGRAM = {**HEADERS, "authorization": "Bearer hcp_" + "x" * 43}
REQUESTS = {
    "reads": lambda: http_api_event("GET", "/jobs", headers=PROGRAM),
    "writes": lambda: http_api_event("POST", "/jobs", headers=PROGRAM, body=b"{}"),
    "heartbeats": agents_request,
}


@pytest.mark.parametrize(
    "hole", [pytest.param(silent, id="silent"), pytest.param(dropping, id="dropping", marks=pytest.mark.nightly)]
)
@pytest.mark.parametrize("who", REQUESTS)
def test_a_database_that_does_not_answer_gives_503_in_time(hole: object, who: str) -> None:
    with hole() as port:  # type: ignore[operator]
        began = time.monotonic()
        printed = python("-c", PROBE, json.dumps(REQUESTS[who]()), AWS_ENDPOINT_URL=f"http://127.0.0.1:{port}").stdout
        took = time.monotonic() - began
    answer = json.loads(printed)
    assert answer["statusCode"] == 503, answer
    assert json.loads(answer["body"])["code"] == "unavailable"
    assert int(answer["headers"]["retry-after"]) > 0
    assert took < PROMISED_SECONDS + START_SECONDS
