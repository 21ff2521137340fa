"""The connection to DynamoDB: which errors are outages, which are answers, and what is tried again."""

import json
import re
from types import SimpleNamespace
from typing import Any

import pytest
from botocore.awsrequest import AWSPreparedRequest, AWSResponse
from botocore.exceptions import ClientError, ReadTimeoutError
from botocore.handlers import BUILTIN_HANDLERS
from botocore.session import Session
from pynamodb.exceptions import PynamoDBException

from apps.accounts.models import AccountClaim
from controlplane.lib import clock
from controlplane.lib.errors import Unavailable
from controlplane.lib.work import Work, at_work
from controlplane.nosql import connection
from controlplane.nosql.connection import CONFLICT_ATTEMPTS, RETRIES, ConditionFailed, pause_before_retry
from controlplane.nosql.connection import shared_connection as shared
from controlplane.nosql.transport import Transport
from tests.nosql.answers import answered

pytestmark = pytest.mark.usefixtures("tables")

TRANSIENT = [
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
    "AccessDeniedException",
    "ExpiredTokenException",
    "UnrecognizedClientException",
    "ResourceNotFoundException",
]


def read() -> Any:
    return AccountClaim.find("claim")


def write() -> None:
    AccountClaim("claim", user_id="ada").save()


@pytest.mark.parametrize("code", TRANSIENT)
def test_what_a_later_try_may_not_meet_is_unavailable(code: str) -> None:
    with answered(*[(code, {})] * (RETRIES + 1)), pytest.raises(Unavailable) as refused:
        read()
    assert refused.value.status == 503


def test_a_call_is_signed_with_the_functions_credentials() -> None:
    """On a connection of its own: the other tests' calls go without a signature."""
    sent: list[AWSPreparedRequest] = []

    def before_send(request: AWSPreparedRequest, **_: Any) -> None:
        sent.append(request)

    own = connection.SharedConnection(region="eu-central-1")
    own.client.meta.events.register("before-send.dynamodb.*", before_send)
    own.list_tables()
    own.idle_close()
    (request,) = sent
    scope = f"{clock.now():%Y%m%d}/eu-central-1/dynamodb/aws4_request"
    assert re.match(
        rf"AWS4-HMAC-SHA256 Credential=test/{scope}, SignedHeaders=\S*x-amz-target, Signature=[0-9a-f]{{64}}$",
        request.headers["Authorization"].decode(),
    )


def test_any_error_of_dynamodbs_own_is_unavailable() -> None:
    with answered(*[("SomethingNew", {})] * (RETRIES + 1), status=500), pytest.raises(Unavailable):
        read()


def test_no_answer_is_unavailable() -> None:
    error = ReadTimeoutError(endpoint_url="http://dynamodb")
    with answered(*[error] * (RETRIES + 1)) as sent, pytest.raises(Unavailable):
        read()
    assert len(sent) == RETRIES + 1


def test_a_mistake_of_ours_is_not_an_outage() -> None:
    with answered(("ValidationException", {})) as sent, pytest.raises((ClientError, PynamoDBException)) as raised:
        read()
    assert not isinstance(raised.value, Unavailable)
    assert len(sent) == 1


def test_a_failed_condition_is_reported_with_the_current_item() -> None:
    write()
    with pytest.raises(ConditionFailed) as failed:
        AccountClaim("claim", user_id="eve").save(condition=AccountClaim.claim.does_not_exist())
    assert failed.value.item is None
    item = {"claim": {"S": "claim"}}
    with answered(("ConditionalCheckFailedException", {"Item": item})), pytest.raises(ConditionFailed) as failed:
        write()
    assert failed.value.item == item


def test_a_write_that_conflicts_with_a_transaction_is_tried_again_after_a_pause(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pauses: list[int] = []
    monkeypatch.setattr(connection, "pause_before_retry", pauses.append)
    with answered(*[("TransactionConflictException", {})] * (CONFLICT_ATTEMPTS - 1)) as sent:
        write()
    assert len(sent) == CONFLICT_ATTEMPTS
    assert pauses == list(range(CONFLICT_ATTEMPTS - 1))
    assert read().user_id == "ada"


def test_a_write_that_conflicts_again_and_again_is_unavailable() -> None:
    with answered(*[("TransactionConflictException", {})] * 20) as sent, pytest.raises(Unavailable):
        write()
    assert len(sent) == CONFLICT_ATTEMPTS


def test_a_table_that_is_missing_is_an_answer_to_those_who_manage_tables() -> None:
    with answered(("ResourceNotFoundException", {})), pytest.raises((ClientError, PynamoDBException)) as raised:
        shared()._make_api_call("DescribeTable", {"TableName": "none"})
    assert not isinstance(raised.value, Unavailable)


def test_pauses_grow_and_have_a_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    limits: list[tuple[float, float]] = []

    def shortest(low: float, high: float) -> float:
        limits.append((low, high))
        return low

    monkeypatch.setattr("random.uniform", shortest)
    for attempt in range(7):
        pause_before_retry(attempt)
    assert limits == [(0, 0.02), (0, 0.04), (0, 0.08), (0, 0.16), (0, 0.32), (0, 0.5), (0, 0.5)]


def test_calls_are_counted_on_the_current_work_with_their_tables() -> None:
    with at_work(Work("request", spans=[])) as work:
        write()
        read()
        with answered(("ValidationException", {})), pytest.raises(PynamoDBException):
            read()
    assert work.dynamodb_calls == 3
    table = AccountClaim.Meta.table_name
    assert [(span.operation, span.tables, span.failed) for span in work.spans] == [
        ("PutItem", (table,), False),
        ("GetItem", (table,), False),
        ("GetItem", (table,), True),
    ]
    assert all(0 <= span.ended - span.began <= 60 for span in work.spans)
    assert clock.now().timestamp() - work.spans[0].began < 60
    assert (work.write_units, work.read_units) == (1, 1)


def test_a_call_names_each_of_its_tables_once() -> None:
    assert connection._tables({"TableName": "a", "RequestItems": {"b": {}}}) == ("a",)
    assert connection._tables({"RequestItems": {"a": {}, "b": {}}}) == ("a", "b")
    items = [{"Put": {"TableName": "a"}}, {"Delete": {"TableName": "b"}}, {"Update": {"TableName": "a"}}]
    assert connection._tables({"TransactItems": items}) == ("a", "b")


def test_the_client_sends_by_our_transport_and_keeps_it() -> None:
    client = shared().client
    session = client._endpoint.http_session
    assert isinstance(session, Transport)
    assert shared().client._endpoint.http_session is session
    assert client.meta.config.user_agent == "hybrid-ci-cd"
    assert (session._connect_timeout, session._read_timeout) == (1, 2)


def test_closing_idle_connections_leaves_the_client_usable() -> None:
    read()
    assert shared().client._endpoint.http_session._idle
    shared().idle_close()
    assert not shared().client._endpoint.http_session._idle
    assert read() is None


# Of botocore's own handlers, those that change nothing in a call to DynamoDB, and why.
WITHOUT_EFFECT = {
    "set_operation_specific_signer": "no operation of DynamoDB has a signer of its own, and ours is asked first",
    "_set_auth_scheme_preference_signer": "ours is asked first",
    "_handle_request_validation_mode_member": "for checksums of S3",
    "inject_api_version_header_if_needed": "for the discovery of endpoints, which is off",
}


def test_the_session_has_each_handler_of_botocore_that_changes_a_call() -> None:
    full = Session()
    (model,) = {full.get_service_model("dynamodb")}
    parts = {name.split(".")[0] for name, *_ in BUILTIN_HANDLERS} - {"docs", "getattr", "creating-client-class"}
    handlers = full.get_component("event_emitter")._emitter._handlers
    found = {
        handler.__name__
        for part in parts
        for operation in model.operation_names
        for handler in handlers.prefix_search(f"{part}.dynamodb.{operation}")
        # Powertools adds one of its own when it is imported.
        if handler.__module__.startswith("botocore.")
    }
    ours = {handler.__name__ for _, handler in connection.HANDLERS}
    assert found - {"handle_service_name_alias"} == ours | WITHOUT_EFFECT.keys()


def test_a_transaction_that_is_sent_again_has_the_same_token(monkeypatch: pytest.MonkeyPatch) -> None:
    """DynamoDB then does it once. The token comes from a handler of botocore's."""
    tokens = []

    def send(request: AWSPreparedRequest, **_: Any) -> AWSResponse:
        tokens.append(json.loads(request.body)["ClientRequestToken"])
        answer = b"{}" if len(tokens) == 3 else b'{"__type": "InternalServerError"}'
        raw = SimpleNamespace(stream=lambda *_, **__: iter([answer]))
        return AWSResponse(request.url, 200 if len(tokens) == 3 else 500, {}, raw)

    own = connection.SharedConnection(region="eu-central-1", max_retry_attempts=RETRIES)
    own.client.meta.events.register("before-send.dynamodb.*", send)
    monkeypatch.setattr("time.sleep", lambda _seconds: None)
    own.client.transact_write_items(TransactItems=[])
    assert len(tokens) == 3
    assert len(set(tokens)) == 1
