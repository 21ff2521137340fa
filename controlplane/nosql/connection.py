"""The one connection to DynamoDB that all records share, and the exceptions that it raises."""

import logging
import os
import random
import time
from functools import cache
from typing import Any

from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError
from botocore.handlers import add_recursion_detection_header, add_retry_headers, generate_idempotent_uuid
from botocore.session import Session
from botocore.utils import get_environ_proxies
from django.conf import settings
from pynamodb.connection import Connection

from controlplane.lib import clock, metric_names
from controlplane.lib.errors import Unavailable
from controlplane.lib.work import Span, capacity_note, current_work, measure
from controlplane.nosql.signing import signature_choose
from controlplane.nosql.transport import Transport

logger = logging.getLogger(__name__)

# Several attempts of botocore's fit into the 29 s that API Gateway waits.
CONNECT_TIMEOUT_SECONDS = 1
READ_TIMEOUT_SECONDS = 2
RETRIES = 2

# A conflict means that another transaction is writing the item. Nothing was written, so another try is safe.
CONFLICT_ATTEMPTS = 8
_CONFLICT_PAUSE_SECONDS = 0.02

# Error codes of AWS that a later try of the same request may not meet.
_TRANSIENT = frozenset(
    {
        "InternalServerError",
        "InternalFailure",
        "LimitExceededException",
        "ProvisionedThroughputExceededException",
        "RequestLimitExceeded",
        "RequestTimeout",
        "RequestTimeoutException",
        "ServiceUnavailable",
        "ThrottlingException",
        "TransactionInProgressException",
        # Expired credentials, a wrong role, a missing table: the client of our API cannot correct these.
        "AccessDeniedException",
        "ExpiredTokenException",
        "UnrecognizedClientException",
        "ResourceNotFoundException",
    }
)

# By these codes DynamoDB says that it throttled a call, or a part of a transaction.
_THROTTLED = frozenset({"ProvisionedThroughputExceededException", "RequestLimitExceeded", "ThrottlingException"})
_THROTTLED_PARTS = frozenset({"ProvisionedThroughputExceeded", "ThrottlingError"})

# For these, "not found" is an answer and not a failure.
_MANAGEMENT = frozenset({"CreateTable", "DeleteTable", "DescribeTable", "UpdateTable", "UpdateTimeToLive"})

# Of botocore's own event handlers, those that change a call to DynamoDB: the token by which it knows a repeated
# transaction, and headers about retries and recursion. botocore inspects each of its 120 handlers when it registers it.
HANDLERS = (
    ("before-parameter-build", generate_idempotent_uuid),
    ("before-call", add_recursion_detection_header),
    ("request-created", add_retry_headers),
)

_WRITES = frozenset({"BatchWriteItem", "DeleteItem", "PutItem", "TransactWriteItems", "UpdateItem"})


class ConditionFailed(Exception):
    """A single write's condition did not hold. `item` is the current item, if it was requested."""

    def __init__(self, item: dict[str, Any] | None = None) -> None:
        super().__init__("the condition of the write did not hold")
        self.item = item


class SharedConnection(Connection):
    """PynamoDB's connection, which raises this package's exceptions.

    Raises `Unavailable` when DynamoDB does not answer or throttles, `ConditionFailed` when a condition does not hold;
    a write that conflicts with another transaction is tried again up to `CONFLICT_ATTEMPTS` times first.
    """

    # The client whose events are followed.
    _watched: Any = None

    @property
    def session(self) -> Session:
        """This thread's session of botocore, with the handlers that a call to DynamoDB needs.

        It has a fixed User-Agent, because botocore would otherwise build one for each call.
        """
        session: Session | None = getattr(self._local, "session", None)
        if session is None:
            session = self._local.session = Session(include_builtin_handlers=False)
            for event, handler in HANDLERS:
                session.register(event, handler)
            session.set_default_client_config(Config(user_agent="hybrid-ci-cd"))
        return session

    @property
    def client(self) -> Any:
        """botocore's client. It sends by `Transport`; behind a proxy, botocore's own HTTP session sends."""
        client = super().client
        if client is not self._watched:
            client.meta.events.register("response-received.dynamodb", _throttles_note)
            client.meta.events.register("choose-signer.dynamodb", signature_choose)
            self._watched = client
        session = client._endpoint.http_session
        if not isinstance(session, Transport) and not get_environ_proxies(client.meta.endpoint_url):
            client._endpoint.http_session = Transport(
                client.meta.endpoint_url,
                connect_timeout=CONNECT_TIMEOUT_SECONDS,
                read_timeout=READ_TIMEOUT_SECONDS,
                ca_bundle=self.session.get_config_variable("ca_bundle"),
            )
        return client

    def idle_close(self) -> None:
        """Close the sockets that no call uses; the next call opens a new one."""
        if self._client is not None:
            self._client.close()

    def _make_api_call(self, operation_name: str, operation_kwargs: dict[str, Any]) -> dict[str, Any]:
        for attempt in range(CONFLICT_ATTEMPTS):
            try:
                return self._counted_call(operation_name, operation_kwargs)
            except ClientError as error:
                if operation_name in _MANAGEMENT:
                    raise
                # PynamoDB's error keeps only a part of the response; the whole of it is in its cause.
                response: dict[str, Any] = getattr(error.__cause__, "response", error.response)
                code = response.get("Error", {}).get("Code", "")
                status = response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
                if code == "ConditionalCheckFailedException":
                    raise ConditionFailed(response.get("Item")) from error
                if code == "TransactionConflictException" and attempt < CONFLICT_ATTEMPTS - 1:
                    pause_before_retry(attempt)
                    continue
                if code in _TRANSIENT or code == "TransactionConflictException" or status >= 500:
                    raise Unavailable from error
                raise
            except BotoCoreError as error:
                raise Unavailable from error
        raise AssertionError("unreachable: the last attempt returns or raises")

    def _counted_call(self, operation_name: str, operation_kwargs: dict[str, Any]) -> dict[str, Any]:
        """The call. Its number, capacity and span are recorded on the current work, if there is one."""
        work = current_work()
        if work is None or operation_name in _MANAGEMENT:
            return super()._make_api_call(operation_name, operation_kwargs)
        work.dynamodb_calls += 1
        before = work.dynamodb_throttles
        began = clock.now().timestamp() if work.spans is not None else 0.0
        answer = None
        try:
            answer = super()._make_api_call(operation_name, {**operation_kwargs, "ReturnConsumedCapacity": "TOTAL"})
            capacity_note(work, answer, writes=operation_name in _WRITES)
            return answer
        finally:
            if work.dynamodb_throttles > before:
                _throttles_report(operation_name, operation_kwargs, work.dynamodb_throttles - before)
            if work.spans is not None:
                tables = _tables(operation_kwargs)
                work.spans.append(Span(operation_name, tables, began, clock.now().timestamp(), failed=answer is None))


def _throttles_note(parsed_response: dict[str, Any] | None, **_: Any) -> None:
    """Count what DynamoDB throttled in an answer. botocore calls this for each of its attempts."""
    work = current_work()
    if work is not None and parsed_response:
        work.dynamodb_throttles += throttled_parts(parsed_response)


def throttled_parts(answer: dict[str, Any]) -> int:
    """How many reads or writes an answer of DynamoDB reports as throttled: those of a batch and a transaction, too."""
    code = answer.get("Error", {}).get("Code", "")
    if code in _THROTTLED:
        return 1
    if code == "TransactionCanceledException":
        return sum(reason.get("Code") in _THROTTLED_PARTS for reason in answer.get("CancellationReasons", ()))
    return sum(len(table["Keys"]) for table in (answer.get("UnprocessedKeys") or {}).values())


def _throttles_report(operation: str, arguments: dict[str, Any], number: int) -> None:
    """Measure the throttled parts of a call, for the alarm, and name the table and the index in the log."""
    measure(metric_names.DYNAMODB_THROTTLES, number)
    place = ", ".join(_tables(arguments)) + (f"/{arguments['IndexName']}" if "IndexName" in arguments else "")
    logger.warning("DynamoDB throttled %s on %s (%d times).", operation, place, number)


def _tables(arguments: dict[str, Any]) -> tuple[str, ...]:
    """The tables that a call reads or writes, each once."""
    parts = (part for item in arguments.get("TransactItems", ()) for part in item.values())
    several = (*arguments.get("RequestItems", ()), *(part["TableName"] for part in parts))
    return (arguments["TableName"],) if "TableName" in arguments else tuple(dict.fromkeys(several))


def pause_before_retry(attempt: int) -> None:
    """Sleep for a random time that grows with `attempt` (0, 1, …), at most half a second."""
    time.sleep(random.uniform(0, min(0.5, _CONFLICT_PAUSE_SECONDS * 2**attempt)))  # noqa: S311 — jitter, no secret


@cache
def shared_connection() -> SharedConnection:
    """The process's connection. botocore takes the endpoint from AWS_ENDPOINT_URL, as AWS's own tools do."""
    connection = SharedConnection(
        region=settings.AWS_REGION,
        connect_timeout_seconds=CONNECT_TIMEOUT_SECONDS,
        read_timeout_seconds=READ_TIMEOUT_SECONDS,
        max_retry_attempts=RETRIES,
        max_pool_connections=50,
    )
    # Two processes on one socket would read each other's responses. The child closes its copies of the sockets. Neither
    # Transport nor urllib3 sends a TLS close_notify when it closes, so the parent's connections stay usable.
    os.register_at_fork(after_in_child=connection.idle_close)
    return connection
