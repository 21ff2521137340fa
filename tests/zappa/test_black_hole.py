"""The database does not answer or cannot be reached: clients get 503 before the gateway's timeout, and health works."""

import json
import socket
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from typing import Any

import pytest

from controlplane.lib.ids import new_id
from tests.agents.machines import REPORT, Machine
from tests.zappa.events import http_api_event
from tests.zappa.test_lambda_handler import python

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
REQUESTS: dict[str, Callable[[], dict[str, Any]]] = {
    "reads": lambda: http_api_event("GET", "/jobs", headers=PROGRAM),
    "writes": lambda: http_api_event("POST", "/jobs", headers=PROGRAM, body=b"{}"),
    "heartbeats": agents_request,
    "health": lambda: http_api_event("GET", "/health", headers={"host": "localhost"}),
}

# The function starts once. Then each event has a process of its own, as if it were the first one: all wait at the
# same time.
PROBE = """
import json, os, sys, time
from controlplane.lambda_handler import handler
events = json.loads(sys.argv[1])
for who, event in events.items():
    if os.fork() == 0:
        print(json.dumps([who, handler(event, None), time.monotonic()]), flush=True)
        os._exit(0)
sys.exit(any([os.wait()[1] for _ in events]))
"""


@dataclass(frozen=True)
class Answered:
    answer: dict[str, Any]
    # With the start of Python and of the application.
    seconds: float


@pytest.fixture(
    scope="module",
    params=[pytest.param(silent, id="silent"), pytest.param(dropping, id="dropping", marks=pytest.mark.nightly)],
)
def answered(request: pytest.FixtureRequest, emulator: str) -> Mapping[str, Answered]:
    """How a new function answers each request while its database does not."""
    events = {who: make() for who, make in REQUESTS.items()}
    with request.param() as port:
        began = time.monotonic()
        printed = python("-c", PROBE, json.dumps(events), AWS_ENDPOINT_URL=f"http://127.0.0.1:{port}").stdout
    answers = map(json.loads, printed.splitlines())
    return {who: Answered(answer, ended - began) for who, answer, ended in answers}


@pytest.mark.parametrize("who", ["reads", "writes", "heartbeats"])
def test_a_database_that_does_not_answer_gives_503_in_time(answered: Mapping[str, Answered], who: str) -> None:
    answer = answered[who].answer
    assert answer["statusCode"] == 503, answer
    assert json.loads(answer["body"])["code"] == "unavailable"
    assert int(answer["headers"]["retry-after"]) > 0
    assert answered[who].seconds < PROMISED_SECONDS + START_SECONDS


def test_health_needs_no_database_even_at_the_cold_start(answered: Mapping[str, Answered]) -> None:
    assert answered["health"].answer["statusCode"] == 200
    assert answered["health"].seconds < 10
