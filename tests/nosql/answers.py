"""Answers of DynamoDB that a test scripts: all above the HTTP connection is the real thing."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from botocore.awsrequest import AWSPreparedRequest, AWSResponse

from controlplane.nosql.connection import shared_connection
from tests.faults.injection import quick_retries

# An error's code with members of its body, a whole body of a success, or None: the emulator answers.
Answer = tuple[str, dict[str, Any]] | dict[str, Any] | Exception | None


@contextmanager
def answered(*answers: Answer, status: int = 400) -> Iterator[list[dict[str, Any]]]:
    """Let DynamoDB give these answers, one for each request of the block, and then the emulator's own.

    Yields the bodies of all requests. Pauses before a retry take no time.
    """
    seen: list[dict[str, Any]] = []
    rest = list(answers)

    def before_send(request: AWSPreparedRequest, **_: Any) -> AWSResponse | None:
        seen.append(json.loads(request.body))
        answer = rest.pop(0) if rest else None
        if answer is None:
            return None
        if isinstance(answer, Exception):
            raise answer
        if isinstance(answer, dict):
            return _response(request, 200, answer)
        code, members = answer
        kind = f"com.amazonaws.dynamodb.v20120810#{code}"
        return _response(request, status, {"__type": kind, "message": "scripted", **members})

    events = shared_connection().client.meta.events
    events.register_first("before-send.dynamodb.*", before_send, unique_id="scripted")
    try:
        with quick_retries():
            yield seen
    finally:
        events.unregister("before-send.dynamodb.*", unique_id="scripted")


def cancelled(*codes: str | None, message: str = "scripted") -> Answer:
    """A cancelled transaction, with a reason for each of its operations (None: it was not the reason)."""
    reasons = [{"Code": code, "Message": message} if code else {"Code": "None"} for code in codes]
    return "TransactionCanceledException", {"CancellationReasons": reasons}


def _response(request: AWSPreparedRequest, status: int, body: dict[str, Any]) -> AWSResponse:
    headers = {"x-amzn-requestid": "scripted", "content-type": "application/x-amz-json-1.0"}
    response = AWSResponse(request.url, status, headers, None)
    response._content = json.dumps(body).encode()
    return response
