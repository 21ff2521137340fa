"""Calls of DynamoDB at two thirds of what they cost a test process. Most of its time goes into them.

botocore still builds, sends and retries them, and raises its errors. Left out is what takes note of nothing here.
"""

import base64
from collections.abc import Callable
from functools import partial
from types import SimpleNamespace
from typing import Any

import botocore
import orjson
from botocore.hooks import EventAliaser
from botocore.parsers import JSONParser
from botocore.serialize import JSONSerializer

from controlplane.nosql.connection import CONNECT_TIMEOUT_SECONDS, READ_TIMEOUT_SECONDS
from tests.dynamodb_emulator import DirectTransport, is_served_here

# In what they answer, no value is a time.
_ITEMS = frozenset(
    {
        "BatchGetItem",
        "BatchWriteItem",
        "DeleteItem",
        "GetItem",
        "PutItem",
        "Query",
        "Scan",
        "TransactGetItems",
        "TransactWriteItems",
        "UpdateItem",
    }
)


def calls_make_cheaper(client: Any) -> None:
    """For a client of DynamoDB that calls an emulator at AWS_ENDPOINT_URL."""
    # The emulator checks no signature.
    client.meta.events.register("choose-signer.dynamodb.*", lambda **_: botocore.UNSIGNED, unique_id="tests-unsigned")
    # botocore's rules give AWS_ENDPOINT_URL for each table and each operation.
    client._resolve_endpoint_ruleset = lambda *_, **__: (client.meta.endpoint_url, {}, {})
    if is_served_here(client.meta.endpoint_url):
        client._endpoint.http_session.close()
        client._endpoint.http_session = DirectTransport(
            client.meta.endpoint_url, connect_timeout=CONNECT_TIMEOUT_SECONDS, read_timeout=READ_TIMEOUT_SECONDS
        )
        client._endpoint.make_request = partial(_make_request, client._endpoint, client._endpoint.make_request)
    client._serializer = _Serializer()
    client._endpoint._response_parser_factory = SimpleNamespace(create_parser=lambda _: _Parser())


def _make_request(endpoint: Any, usual: Callable[..., Any], operation: Any, request: dict[str, Any]) -> Any:
    """The answer and what it says, of the emulator in this process.

    It throttles nothing and answers always, so botocore's retries, and headers that say which try it is, are left to
    the calls that a test disturbs before they are sent, and to those over HTTP.
    """
    session, events = endpoint.http_session, endpoint._event_emitter._emitter
    name = f"before-send.dynamodb.{operation.name}"
    handlers = events._lookup_cache.get(name)
    if handlers is None:
        handlers = events._handlers.prefix_search(name)
    # One is PynamoDB's, which would add headers if it were asked to.
    if len(handlers) != 1 or not isinstance(session, DirectTransport) or not session.is_here:
        return usual(operation, request)
    http = session.answer(request["url"], request["headers"]["X-Amz-Target"], request["body"])
    context = {"operation_name": operation.name}
    answer = {"headers": http.headers, "status_code": http.status_code, "context": context, "body": http.content}
    parser = endpoint._response_parser_factory.create_parser("json")
    parsed = parser.parse(answer, operation.output_shape)
    if http.status_code >= 300:
        endpoint._add_modeled_error_fields(answer, parsed, operation, parser)
    parsed["ResponseMetadata"]["RetryAttempts"] = 0
    return http, parsed


def event_names_share() -> None:
    """Each client of botocore works out the names of its thousand events. They are the same for all clients."""
    work_out, names = EventAliaser._alias_event_name, dict[str, str]()

    def name_of(aliaser: Any, event: str) -> str:
        if event not in names:
            names[event] = work_out(aliaser, event)
        return names[event]

    EventAliaser._alias_event_name = name_of


class _Serializer(JSONSerializer):  # type: ignore[misc]
    """What DynamoDB takes is JSON as it is, but for bytes, so that no shape has to be looked at."""

    def serialize_to_request(self, parameters: dict[str, Any], operation_model: Any) -> dict[str, Any]:
        if unknown := parameters.keys() - operation_model.input_shape.members.keys():
            raise KeyError(f"{operation_model.name} has no {', '.join(unknown)}")
        request: dict[str, Any] = self._create_default_request()
        request["headers"] = {
            "X-Amz-Target": f"{operation_model.metadata['targetPrefix']}.{operation_model.name}",
            "Content-Type": f"application/x-amz-json-{operation_model.metadata['jsonVersion']}",
        }
        request["body"] = orjson.dumps(parameters, default=_base64)
        return request


class _Parser(JSONParser):  # type: ignore[misc]
    """What DynamoDB gives is the answer as it is, but for bytes and times, whose shapes botocore looks at."""

    def _handle_json_body(self, raw_body: bytes, shape: Any) -> Any:
        if shape.name.removesuffix("Output") not in _ITEMS or b'"B"' in raw_body or b'"BS"' in raw_body:
            return super()._handle_json_body(raw_body, shape)
        return {name: value for name, value in orjson.loads(raw_body).items() if value is not None}


def _base64(value: bytes) -> str:
    return base64.b64encode(value).decode()
