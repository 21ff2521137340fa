"""The one connection to DynamoDB that all records share, and what its failures are called here."""

import os
import random
import time
from functools import cache
from typing import Any

from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError
from botocore.session import Session
from botocore.utils import get_environ_proxies
from django.conf import settings
from pynamodb.connection import Connection

from controlplane.lib import clock
from controlplane.lib.errors import Unavailable
from controlplane.lib.work import Span, capacity_note, current_work
from controlplane.nosql.transport import Transport

# Several attempts of botocore's fit into the 29 s that API Gateway waits.
CONNECT_TIMEOUT_SECONDS = 1
READ_TIMEOUT_SECONDS = 2
RETRIES = 2

# A conflict means that another writer holds the item just now. It has left the item as it was, so trying again is safe.
CONFLICT_ATTEMPTS = 8
_CONFLICT_PAUSE_SECONDS = 0.02

# AWS's names for "not your fault, come back later".
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
        # A request signed with expired credentials, a wrong role: nothing that the client could mend.
        "AccessDeniedException",
        "ExpiredTokenException",
        "UnrecognizedClientException",
        "ResourceNotFoundException",
    }
)

# For these, "not found" is an answer and not a failure.
_MANAGEMENT = frozenset({"CreateTable", "DeleteTable", "DescribeTable", "UpdateTable", "UpdateTimeToLive"})

_WRITES = frozenset({"BatchWriteItem", "DeleteItem", "PutItem", "TransactWriteItems", "UpdateItem"})


class ConditionFailed(Exception):
    """A single write's condition did not hold and nothing was written. `item` stands there, if it was asked for."""

    def __init__(self, item: dict[str, Any] | None = None) -> None:
        super().__init__("the condition of the write did not hold")
        self.item = item


class SharedConnection(Connection):
    """PynamoDB's connection with our names for failures.

    Raises `Unavailable` when DynamoDB does not answer or throttles, `ConditionFailed` when a condition does not hold;
    an item that another transaction holds is tried again a few times first.
    """

    @property
    def session(self) -> Session:
        """botocore's session. Given a name, it does not put one together for each call, a tenth of it."""
        session = super().session
        if session.get_default_client_config() is None:
            session.set_default_client_config(Config(user_agent="hybrid-ci-cd"))
        return session

    @property
    def client(self) -> Any:
        """botocore's client, which sends by our own `Transport` unless there is a proxy to pass."""
        client = super().client
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
        """The call, noted of the work at hand with what it costs. To ask for that costs nothing but a longer answer."""
        work = current_work()
        if work is None or operation_name in _MANAGEMENT:
            return super()._make_api_call(operation_name, operation_kwargs)
        work.dynamodb_calls += 1
        began = clock.now().timestamp() if work.spans is not None else 0.0
        answer = None
        try:
            answer = super()._make_api_call(operation_name, {**operation_kwargs, "ReturnConsumedCapacity": "TOTAL"})
            capacity_note(work, answer, writes=operation_name in _WRITES)
            return answer
        finally:
            if work.spans is not None:
                tables = _tables(operation_kwargs)
                work.spans.append(Span(operation_name, tables, began, clock.now().timestamp(), failed=answer is None))


def _tables(arguments: dict[str, Any]) -> tuple[str, ...]:
    """The tables that a call is about, each once."""
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
    # Two processes on one socket read each other's answers. The child closes its copies, which sends nothing: neither
    # ours nor urllib3 says goodbye in TLS, so the parent's connections live on.
    os.register_at_fork(after_in_child=connection.idle_close)
    return connection
