"""Letting machines in: tokens, one identity for each machine, and what is refused."""

import base64
import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import pytest
import requests

from apps.agents.models import Agent, EnrolmentReceipt, EnrolmentToken
from apps.agents.selectors import fleet_counts, keys_alive
from apps.agents.services import agent_key_rotate, enrolment_token_create
from apps.audit.actions import Action
from apps.audit.models import AuditRecord
from apps.audit.selectors import audit_list
from controlplane.lib import clock
from controlplane.lib.actor import Actor
from controlplane.lib.envelope import DecryptionFailed
from tests.agents.conftest import ENROLMENT, counters_are_right, stored_agent, stored_heartbeat
from tests.agents.machines import Machine
from tests.clients import Client
from tests.metering import dynamodb_calls

KEY = {"Idempotency-Key": "k" * 32}


@pytest.fixture
def machine_to_be(server: str) -> Client:
    """A machine before it is enrolled."""
    return Client(server)


def make_token(admin_actor: Actor, uses: int = 1) -> str:
    return enrolment_token_create(uses=uses, expires_at=clock.now() + timedelta(hours=1), actor=admin_actor)[1]


def enrol(client: Client, token: str, headers: dict[str, str] | None = None, **members: Any) -> requests.Response:
    return client.post("/agents/enrol", json=ENROLMENT | {"token": token} | members, headers=headers)


def audited(action: Action) -> list[AuditRecord]:
    day = clock.timestamp(clock.now())[:10]
    return [record for record in audit_list(day=day).records if record.action == action]


def test_a_machine_with_a_token_becomes_an_agent(machine_to_be: Client, token: str) -> None:
    response = enrol(machine_to_be, token)
    assert response.status_code == 201
    assert response.headers["Cache-Control"] == "no-store"
    answer = response.json()
    assert len(base64.b64decode(answer["workload_identity_secret"], validate=True)) == 32
    agent = stored_agent(answer["agent_id"])
    assert {name: getattr(agent, name) for name in ENROLMENT} == ENROLMENT
    assert agent.status == stored_heartbeat(agent.agent_id).status == "healthy"
    assert fleet_counts() == {"eu-central-1": {"healthy": 1}}


def test_an_enrolment_is_audited_and_the_secrets_are_not_in_it(machine_to_be: Client, token: str) -> None:
    answer = enrol(machine_to_be, token).json()
    (record,) = audited(Action.AGENT_ENROLLED)
    assert record.target == f"agent:{answer['agent_id']}"
    assert len(audited(Action.ENROLMENT_TOKEN_CREATED)) == 1
    written = json.dumps([item.to_simple_dict() for item in AuditRecord.scan()])
    assert token not in written
    assert answer["workload_identity_secret"] not in written


def test_neither_token_nor_key_can_be_read_from_the_tables(machine_to_be: Client, token: str) -> None:
    secret = enrol(machine_to_be, token, KEY).json()["workload_identity_secret"]
    written = json.dumps([item.to_simple_dict() for kind in (Agent, EnrolmentToken) for item in kind.scan()])
    assert token not in written
    assert secret not in written


def test_a_encrypted_key_does_not_open_for_another_agent(make_machine: Callable[..., Machine]) -> None:
    thief, victim = make_machine(), make_machine()
    keys = stored_agent(thief.agent_id).keys
    keys[0].encrypted = stored_agent(victim.agent_id).keys[0].encrypted
    Agent(thief.agent_id).update(actions=[Agent.keys.set(keys)])
    with pytest.raises(DecryptionFailed):
        keys_alive(stored_agent(thief.agent_id))


def test_the_answer_can_be_asked_for_again_until_the_key_is_used(machine_to_be: Client, admin_actor: Actor) -> None:
    token = make_token(admin_actor)
    first = enrol(machine_to_be, token, KEY).json()
    again = enrol(machine_to_be, token, KEY)
    assert (again.status_code, again.json()) == (201, first)
    assert fleet_counts() == {"eu-central-1": {"healthy": 1}}
    machine = Machine(
        machine_to_be.server, first["agent_id"], first["key_id"], base64.b64decode(first["workload_identity_secret"])
    )
    assert machine.heartbeat().status_code == 200
    late = enrol(machine_to_be, token, KEY)
    assert (late.status_code, late.json()["code"]) == (409, "already_enrolled")


def test_the_answer_cannot_be_asked_for_again_after_a_day(machine_to_be: Client, admin_actor: Actor) -> None:
    expires_at = clock.now() + timedelta(days=9)
    token = enrolment_token_create(uses=1, expires_at=expires_at, actor=admin_actor)[1]
    first = enrol(machine_to_be, token, KEY).json()
    with clock.shifted(timedelta(hours=23, minutes=59)):
        assert enrol(machine_to_be, token, KEY).json() == first
    with clock.shifted(timedelta(hours=24, minutes=1)):
        assert enrol(machine_to_be, token, KEY).json()["code"] == "already_enrolled"
    assert fleet_counts() == {"eu-central-1": {"healthy": 1}}


def test_the_answer_cannot_be_asked_for_again_when_the_agent_has_a_second_key(
    machine_to_be: Client, admin_actor: Actor
) -> None:
    token = make_token(admin_actor)
    agent_id = enrol(machine_to_be, token, KEY).json()["agent_id"]
    agent_key_rotate(agent_id=agent_id, actor=admin_actor)
    assert enrol(machine_to_be, token, KEY).json()["code"] == "already_enrolled"


def test_another_idempotency_key_or_none_makes_another_agent(machine_to_be: Client, token: str) -> None:
    others: list[dict[str, str]] = [KEY, {}, {}, {"Idempotency-Key": "x" * 16}]
    ids = {enrol(machine_to_be, token, headers).json()["agent_id"] for headers in others}
    assert len(ids) == 4


def test_the_same_idempotency_key_under_another_token_makes_another_agent(
    machine_to_be: Client, admin_actor: Actor
) -> None:
    ids = {enrol(machine_to_be, make_token(admin_actor), KEY).json()["agent_id"] for _ in range(2)}
    assert len(ids) == 2


@pytest.mark.slow
def test_eight_threads_that_repeat_an_enrolment_make_one_agent(machine_to_be: Client, token: str) -> None:
    def ask(_: int) -> dict[str, str]:
        return dict(enrol(Client(machine_to_be.server), token, KEY).json())

    with ThreadPoolExecutor(8) as threads:
        answers = list(threads.map(ask, range(80)))
    assert all(answer == answers[0] for answer in answers)
    assert fleet_counts() == {"eu-central-1": {"healthy": 1}}
    assert len(list(EnrolmentReceipt.scan(EnrolmentReceipt.agent_id.exists()))) == 1


def test_a_single_use_token_has_one_winner_among_eight_threads(machine_to_be: Client, admin_actor: Actor) -> None:
    token = make_token(admin_actor)
    with ThreadPoolExecutor(8) as threads:
        answers = list(threads.map(lambda _: enrol(Client(machine_to_be.server), token), range(24)))
    assert sorted(answer.status_code for answer in answers) == [201] + [401] * 23
    assert {answer.json()["code"] for answer in answers if answer.status_code == 401} == {"enrolment_token_used"}
    assert counters_are_right()
    assert fleet_counts() == {"eu-central-1": {"healthy": 1}}


def test_a_token_lets_in_as_many_as_it_says(machine_to_be: Client, admin_actor: Actor) -> None:
    token = make_token(admin_actor, uses=3)
    assert [enrol(machine_to_be, token).status_code for _ in range(4)] == [201, 201, 201, 401]


def test_an_expired_token_is_refused_even_if_it_is_still_stored(machine_to_be: Client, token: str) -> None:
    with clock.shifted(timedelta(hours=2)):
        response = enrol(machine_to_be, token)
    assert (response.status_code, response.json()["code"]) == (401, "enrolment_token_expired")
    assert fleet_counts() == {}


@pytest.mark.parametrize("text", ["", "hce_", "hce_" + "A" * 43, "hcp_" + "A" * 43, "é" * 47, "hce_" + "A" * 60])
def test_an_unknown_token_is_refused(machine_to_be: Client, text: str) -> None:
    response = enrol(machine_to_be, text)
    assert response.status_code in (400, 401)
    assert response.json()["code"] in ("enrolment_token_invalid", "invalid_input")


def test_the_token_is_checked_before_the_rest_of_the_enrolment_is_validated(machine_to_be: Client, token: str) -> None:
    wrong: dict[str, Any] = {"name": 5, "region": [], "labels": 0}
    foreign = enrol(machine_to_be, "hce_" + "A" * 43, {"Idempotency-Key": "?"}, **wrong)
    assert (foreign.status_code, foreign.json()["code"]) == (401, "enrolment_token_invalid")
    assert "errors" not in foreign.json()
    known = enrol(machine_to_be, token, **wrong)
    assert [error["field"] for error in known.json()["errors"]] == ["name", "region", "labels"]


@pytest.mark.parametrize("text", ["", "hce_", "x" * 2000, "hcp_" + "A" * 43])
def test_a_text_that_cannot_be_a_token_is_refused_without_a_read(machine_to_be: Client, text: str) -> None:
    with dynamodb_calls() as counted:
        assert enrol(machine_to_be, text).status_code == 401
    # The rate limit counts the failure.
    assert counted.operations == ["UpdateItem"]


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("name", None),
        ("name", ""),
        ("name", "a b"),
        ("name", "a\n"),
        ("name", "x" * 64),
        ("name", 5),
        ("name", ["a"]),
        ("region", "eu/central"),
        ("region", "eu#central"),
        ("labels", "linux"),
        ("labels", ["linux", "a b"]),
        ("labels", ["linux", 1]),
        ("labels", ["l"] * 21),
        ("labels", [""]),
        *[("labels", [label]) for label in ("-linux", ".linux", "=", "l" * 64)],
        ("slots", 0),
        ("slots", 65),
        ("slots", -1),
        ("slots", "4"),
        ("slots", True),
        ("slots", 1.5),
        ("slots", 10**40),
        ("hostname", "x" * 256),
        ("hostname", "a\x00b"),
        ("os", {"name": "Linux"}),
        ("version", None),
        ("token", 5),
    ],
)
def test_a_wrong_value_is_refused_with_the_fields_name(
    machine_to_be: Client, token: str, field: str, value: object
) -> None:
    response = machine_to_be.post("/agents/enrol", json=ENROLMENT | {"token": token} | {field: value})
    assert response.status_code == 400
    assert response.json()["errors"][0]["field"].startswith(field)
    assert fleet_counts() == {}


@pytest.mark.parametrize("field", ["token", "name", "region"])
def test_a_missing_value_is_refused_with_the_fields_name(machine_to_be: Client, token: str, field: str) -> None:
    body = ENROLMENT | {"token": token}
    del body[field]
    response = machine_to_be.post("/agents/enrol", json=body)
    assert response.status_code == 400
    assert response.json()["errors"][0]["field"] == field


def test_members_that_are_not_known_are_ignored(machine_to_be: Client, token: str) -> None:
    assert enrol(machine_to_be, token, colour="green").status_code == 201


def test_only_token_name_and_region_are_needed(machine_to_be: Client, token: str) -> None:
    body = {"token": token, "name": "a", "region": "b"}
    agent = stored_agent(machine_to_be.post("/agents/enrol", json=body).json()["agent_id"])
    assert (agent.slots, agent.labels) == (1, [])


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b'"x"', b"null", b"\xff", b"[" * 10_000, b'{"token": NaN}'])
def test_a_body_that_is_no_json_object_is_refused(machine_to_be: Client, body: bytes) -> None:
    response = machine_to_be.post("/agents/enrol", data=body, headers={"Content-Type": "application/json"})
    assert response.status_code == 400


@pytest.mark.parametrize("key", ["short", "x" * 129, "with space in the middle", "quote'quote'quote'"])
def test_an_idempotency_key_that_is_not_random_enough_is_refused(machine_to_be: Client, token: str, key: str) -> None:
    response = enrol(machine_to_be, token, {"Idempotency-Key": key})
    assert response.status_code == 400
    assert response.json()["errors"][0]["field"] == "Idempotency-Key"
