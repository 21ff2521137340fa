"""Faults between the product and DynamoDB, made where botocore sends: all above it is the real thing.

    with fault(Fault.LOST, call=1, lasting=True) as injected:
        job_cancel(actor=…, job_id=…)
    assert injected.hit

`call` counts the calls to DynamoDB that the block makes, from 0, whatever their kind. Without `lasting` only the first
HTTP request of that call meets the fault, and botocore's own retry gets through; with it the whole call does.

| fault     | the request reaches DynamoDB | what comes back |
|-----------|------------------------------|-----------------|
| THROTTLE  | no                           | 400 ThrottlingException |
| ERROR     | no                           | 500 InternalServerError |
| TIMEOUT   | no                           | nothing, until the read times out |
| REFUSED   | no                           | nothing: no connection is made |
| LOST      | yes                          | nothing; later requests of the call meet TIMEOUT |
| CONFLICT  | no                           | another transaction locks the item (writes only) |

`outage` is the same for a whole server, for as long as it lasts. Handlers are taken off again when a block ends.
"""

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import StrEnum
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

from botocore.awsrequest import AWSPreparedRequest, AWSResponse
from botocore.exceptions import ConnectTimeoutError, ReadTimeoutError

from controlplane.nosql.connection import CONNECT_TIMEOUT_SECONDS, READ_TIMEOUT_SECONDS, shared_connection

WRITES = frozenset({"DeleteItem", "PutItem", "TransactWriteItems", "UpdateItem"})


class Fault(StrEnum):
    """What goes wrong with a call."""

    THROTTLE = "throttle"
    ERROR = "error"
    TIMEOUT = "timeout"
    REFUSED = "refused"
    LOST = "lost"
    CONFLICT = "conflict"


@dataclass
class Injected:
    """What a block has met: `operations` are its calls in their order, `hit` says whether one met the fault."""

    hit: bool = False
    operations: list[str] = field(default_factory=list)


@contextmanager
def fault(kind: Fault | None, *, call: int = 0, lasting: bool = False) -> Iterator[Injected]:
    """Let the `call`-th call to DynamoDB of this block meet the fault; None only counts. For one thread at a time.

    A conflict that lasts affects all calls from that one on, since each try after it is a call of its own.
    """
    client: Any = shared_connection().client
    injected = Injected()
    attempts = 0

    def before_call(model: Any, **_: Any) -> None:
        nonlocal attempts
        attempts = 0
        injected.operations.append(model.name)

    def before_send(request: AWSPreparedRequest, **_: Any) -> AWSResponse | None:
        nonlocal attempts
        attempts += 1
        position = len(injected.operations) - 1
        is_due = position == call or (kind == Fault.CONFLICT and lasting and position > call)
        if kind is None or not is_due or (attempts > 1 and not lasting):
            return None
        operation = injected.operations[position]
        if kind == Fault.CONFLICT and operation not in WRITES:
            return None
        injected.hit = True
        if kind == Fault.LOST and attempts == 1:
            client._endpoint.http_session.send(request)
        return _answer(kind, operation, request)

    events = client.meta.events
    names: dict[str, Callable[..., Any]] = {"before-call.dynamodb": before_call, "before-send.dynamodb": before_send}
    for name, handler in names.items():
        events.register_first(f"{name}.*", handler, unique_id=f"{name}-{id(injected)}")
    try:
        with quick_retries():
            yield injected
    finally:
        for name in names:
            events.unregister(f"{name}.*", unique_id=f"{name}-{id(injected)}")


@contextmanager
def outage(kind: Fault) -> Iterator[list[float]]:
    """Let every request of every thread meet the fault. Gives the seconds that each time-out and pause would take."""
    events = shared_connection().client.meta.events
    name = "before-send.dynamodb.*"
    timeouts = {Fault.TIMEOUT: READ_TIMEOUT_SECONDS, Fault.REFUSED: CONNECT_TIMEOUT_SECONDS}
    waits: list[float] = []

    def before_send(request: AWSPreparedRequest, event_name: str, **_: Any) -> AWSResponse | None:
        waits.append(timeouts.get(kind, 0))
        return _answer(kind, event_name.rsplit(".", 1)[1], request)

    marker = f"outage-{threading.get_ident()}"
    events.register_first(name, before_send, unique_id=marker)
    try:
        with quick_retries(waits.append):
            yield waits
    finally:
        events.unregister(name, unique_id=marker)


@contextmanager
def quick_retries(pause: Callable[[float], object] = lambda _seconds: None) -> Iterator[None]:
    """botocore's and our own pauses before a retry take no time inside the block. They are the only ones there are.

    `pause` is called with the seconds of each.
    """
    timeless = SimpleNamespace(sleep=pause)
    with patch("botocore.endpoint.time", timeless), patch("controlplane.nosql.connection.time", timeless):
        yield


def _answer(kind: Fault, operation: str, request: AWSPreparedRequest) -> AWSResponse:
    """The response of DynamoDB, or the error that botocore's HTTP client would raise."""
    match kind:
        case Fault.TIMEOUT | Fault.LOST:
            raise ReadTimeoutError(endpoint_url=request.url)
        case Fault.REFUSED:
            raise ConnectTimeoutError(endpoint_url=request.url)
        case Fault.THROTTLE:
            return _response(request, 400, "ThrottlingException")
        case Fault.ERROR:
            return _response(request, 500, "InternalServerError")
        case Fault.CONFLICT:
            return _conflict(operation, request)


def _conflict(operation: str, request: AWSPreparedRequest) -> AWSResponse:
    if operation != "TransactWriteItems":
        return _response(request, 400, "TransactionConflictException")
    # The last item of the transaction is the one that another transaction locks.
    others = len(json.loads(request.body)["TransactItems"]) - 1
    reasons = [{"Code": "None"}] * others + [{"Code": "TransactionConflict", "Message": "locked"}]
    return _response(request, 400, "TransactionCanceledException", CancellationReasons=reasons)


def _response(request: AWSPreparedRequest, status: int, code: str, **members: Any) -> AWSResponse:
    body = {"__type": f"com.amazonaws.dynamodb.v20120810#{code}", "message": "injected", **members}
    headers = {"x-amzn-requestid": "injected", "content-type": "application/x-amz-json-1.0"}
    response = AWSResponse(request.url, status, headers, None)
    response._content = json.dumps(body).encode()
    return response
