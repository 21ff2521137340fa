"""DynamoDB wrote and its answer was lost, or it did not answer at all: nothing is doubled, and nothing half done."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import pytest
import requests
from botocore.exceptions import ConnectTimeoutError, ReadTimeoutError

from apps.agents.models import EnrolmentToken
from apps.agents.selectors import fleet_counts
from apps.agents.serializers import heartbeat_report
from apps.agents.services import (
    agent_drain,
    agent_enrol,
    agent_key_mark_used,
    agent_key_rotate,
    agents_mark_silent,
    enrolment_token_create,
    heartbeat_record,
)
from apps.audit.models import AuditRecord
from controlplane.lib import clock
from controlplane.lib.actor import Actor
from controlplane.lib.errors import NotAuthenticated, Unavailable
from controlplane.nosql.connection import shared_connection
from tests.agents.conftest import ENROLMENT, counters_are_right, stored_agent, stored_heartbeat
from tests.agents.machines import REPORT

NOW = 1_800_000_000

Enrol = Callable[..., str]


@contextmanager
def first_answer_lost(operation: str = "TransactWriteItems") -> Iterator[list[str]]:
    """The first such write of the block is done and its answer lost, so it is sent again. Yields what was sent."""
    sent: list[str] = []

    def before_send(request: Any, **_: Any) -> None:
        if request.headers["X-Amz-Target"].decode().rpartition(".")[2] != operation:
            return
        sent.append(operation)
        if len(sent) == 1:
            # With the transaction's token, by which DynamoDB knows the request when it is sent again.
            requests.post(request.url, headers=dict(request.headers), data=request.body, timeout=10).raise_for_status()
            raise ReadTimeoutError(endpoint_url=request.url)

    events = shared_connection().client.meta.events
    events.register("before-send.dynamodb", before_send, unique_id="first-answer-lost")
    try:
        yield sent
    finally:
        events.unregister("before-send.dynamodb", unique_id="first-answer-lost")


@contextmanager
def unreachable() -> Iterator[None]:
    """No request of the block reaches DynamoDB."""

    def before_send(request: Any, **_: Any) -> None:
        raise ConnectTimeoutError(endpoint_url=request.url)

    events = shared_connection().client.meta.events
    events.register("before-send.dynamodb", before_send, unique_id="unreachable")
    try:
        yield
    finally:
        events.unregister("before-send.dynamodb", unique_id="unreachable")


def recorded(action: str) -> int:
    return len(list(AuditRecord.scan(AuditRecord.action == action)))


def heartbeat(agent_id: str, created: int = NOW) -> bool:
    report = heartbeat_report({"agent_id": agent_id, **REPORT}, agent_id=agent_id)
    return heartbeat_record(agent_id=agent_id, report=report, created=created, nonce="n" * 16).fresh


@pytest.mark.parametrize("idempotency_key", [None, "k" * 32])
def test_an_enrolment_is_done_once(tables: None, admin_actor: Actor, idempotency_key: str | None) -> None:
    expires_at = clock.now() + timedelta(hours=1)
    token = enrolment_token_create(uses=1, expires_at=expires_at, actor=admin_actor)[1]
    with first_answer_lost() as sent:
        credentials = agent_enrol(token=token, **ENROLMENT, idempotency_key=idempotency_key)  # type: ignore[arg-type]
    assert len(sent) == 2
    assert stored_agent(credentials.agent_id).keys[0].key_id == credentials.key_id
    assert fleet_counts() == {"eu-central-1": {"healthy": 1}}
    assert recorded("agent.enrolled") == 1
    with pytest.raises(NotAuthenticated):
        agent_enrol(token=token, **ENROLMENT)  # type: ignore[arg-type]


def test_an_enrolment_token_is_made_once(tables: None, admin_actor: Actor) -> None:
    with first_answer_lost() as sent:
        token, secret = enrolment_token_create(uses=5, expires_at=clock.now() + timedelta(hours=1), actor=admin_actor)
    assert len(sent) == 2
    assert [found.token_id for found in EnrolmentToken.scan()] == [token.token_id]
    assert recorded("enrolment_token.created") == 1
    assert agent_enrol(token=secret, **ENROLMENT).agent_id  # type: ignore[arg-type]


def test_a_silent_agent_comes_back_once(enrol: Enrol) -> None:
    agent_id = enrol()
    with clock.shifted(timedelta(seconds=50)):
        agents_mark_silent()
        with first_answer_lost():
            assert heartbeat(agent_id)
    assert stored_agent(agent_id).status == stored_heartbeat(agent_id).status == "healthy"
    assert counters_are_right()
    assert recorded("agent.status_changed") == 2


def test_a_change_of_status_is_done_once(enrol: Enrol, admin_actor: Actor) -> None:
    agent_id = enrol()
    with first_answer_lost() as sent:
        assert agent_drain(agent_id=agent_id, actor=admin_actor).status == "draining"
    assert len(sent) == 2
    assert counters_are_right()
    assert recorded("agent.status_changed") == 1


def test_a_silent_agent_is_marked_once(enrol: Enrol) -> None:
    enrol()
    with clock.shifted(timedelta(seconds=50)), first_answer_lost():
        agents_mark_silent()
    assert fleet_counts() == {"eu-central-1": {"unhealthy": 1}}
    assert recorded("agent.status_changed") == 1


def test_a_key_is_rotated_once(enrol: Enrol, admin_actor: Actor) -> None:
    agent_id = enrol()
    first = stored_agent(agent_id).keys[0].key_id
    with first_answer_lost() as sent:
        credentials = agent_key_rotate(agent_id=agent_id, actor=admin_actor)
    assert len(sent) == 2
    assert [key.key_id for key in stored_agent(agent_id).keys] == [credentials.key_id, first]
    assert recorded("agent.key_rotated") == 1


def test_a_key_is_marked_used(enrol: Enrol) -> None:
    agent_id = enrol()
    with first_answer_lost("UpdateItem"):
        agent_key_mark_used(agent_id=agent_id, key_id=stored_agent(agent_id).keys[0].key_id)
    assert stored_agent(agent_id).keys[0].used


def test_without_the_database_services_say_so_and_nothing_is_changed(
    enrol: Enrol, token: str, admin_actor: Actor
) -> None:
    agent_id = enrol()
    before = [stored_agent(agent_id).to_simple_dict(), stored_heartbeat(agent_id).to_simple_dict()]
    with unreachable():
        for service in (
            lambda: agent_enrol(token=token, **ENROLMENT),  # type: ignore[arg-type]
            lambda: heartbeat(agent_id),
            lambda: agent_drain(agent_id=agent_id, actor=admin_actor),
        ):
            with pytest.raises(Unavailable):
                service()
    assert [stored_agent(agent_id).to_simple_dict(), stored_heartbeat(agent_id).to_simple_dict()] == before
    assert counters_are_right()
