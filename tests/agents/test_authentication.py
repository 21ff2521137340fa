"""Workload identity over HTTP: which requests are accepted, which are refused, and what the check costs."""

import base64
import http.client
from collections.abc import Callable
from datetime import timedelta
from urllib.parse import urlsplit

import pytest
import requests
from django.conf import settings as django_settings
from django.test import RequestFactory
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from apps.agents.authentication import signed_path
from apps.agents.selectors import identity_forget
from apps.agents.services import agent_retire
from controlplane.lib import clock
from controlplane.lib.actor import Actor
from controlplane.lib.errors import NotAuthenticated
from controlplane.lib.ids import new_id
from tests.agents.conftest import stored_agent, stored_heartbeat
from tests.agents.machines import Machine
from tests.examples import examples
from tests.metering import dynamodb_calls

MakeMachine = Callable[..., Machine]


def refused(response: requests.Response, code: str, status: int = 401) -> None:
    assert (response.status_code, response.json()["code"]) == (status, code), response.text
    assert response.headers["Content-Type"] == "application/problem+json"


def test_a_signed_request_is_let_through(machine: Machine) -> None:
    response = machine.config()
    assert response.status_code == 200
    assert response.headers["Cache-Control"] == "no-store"
    path = f"/agents/{machine.agent_id}"
    assert response.json() == {
        "agent_id": machine.agent_id,
        "key_id": machine.key_id,
        "workload_identity_secret": base64.b64encode(machine.key).decode(),
        "deployment_targets": [],
        "schedule_interval_seconds": django_settings.AGENT_CHECK_SECONDS,
        "config_version": 1,
        "slots": 4,
        "labels": ["linux", "gpu"],
        "endpoints": {
            "heartbeat": f"{path}/heartbeat",
            "start": f"{path}/jobs/{{job_id}}/start",
            "definition": f"{path}/jobs/{{job_id}}/definition",
            "log": f"{path}/jobs/{{job_id}}/log/{{attempt}}/{{sequence}}",
            "report": f"{path}/jobs/{{job_id}}/reports/{{attempt}}/{{number}}",
            "finish": f"{path}/jobs/{{job_id}}/finish",
        },
    }


def test_a_request_without_signature_is_refused(machine: Machine) -> None:
    refused(machine.get(f"/agents/{machine.agent_id}/config"), "signature_missing")


def test_an_api_token_does_not_replace_a_signature(machine: Machine) -> None:
    response = machine.get(f"/agents/{machine.agent_id}/config", headers={"Authorization": "Bearer hcp_" + "A" * 43})
    refused(response, "signature_missing")


@pytest.mark.parametrize("seconds", [-310, 310])
def test_a_signature_from_a_wrong_clock_is_refused_as_expired(machine: Machine, seconds: int) -> None:
    refused(
        machine.send("GET", f"/agents/{machine.agent_id}/config", created=clock.epoch() + seconds), "signature_expired"
    )


def test_another_body_is_refused(machine: Machine) -> None:
    body = machine.heartbeat_body()
    headers = machine.signed("POST", machine.heartbeat_path, body)
    changed = body.replace(b"12.34", b"12.35")
    refused(machine.request("POST", machine.heartbeat_path, data=changed, headers=headers), "digest_mismatch")
    assert stored_heartbeat(machine.agent_id).created == 0


def test_another_method_or_path_is_refused(machine: Machine) -> None:
    config, heartbeat = f"/agents/{machine.agent_id}/config", machine.heartbeat_path
    body = machine.heartbeat_body()
    refused(machine.get(config, headers=machine.signed("POST", config)), "signature_invalid")
    refused(machine.get(config, headers=machine.signed("GET", heartbeat)), "signature_invalid")
    headers = machine.signed("POST", config, body)
    refused(machine.request("POST", heartbeat, data=body, headers=headers), "signature_invalid")


def test_a_query_is_refused(machine: Machine) -> None:
    path = f"/agents/{machine.agent_id}/config"
    refused(machine.get(path + "?verbose=1", headers=machine.signed("GET", path)), "signature_invalid")


@settings(deadline=None, max_examples=examples(30), suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_any_changed_character_of_a_signed_header_is_refused_over_http(machine: Machine, data: st.DataObject) -> None:
    body = machine.heartbeat_body()
    headers = machine.signed("POST", machine.heartbeat_path, body)
    name = data.draw(st.sampled_from(sorted(headers)))
    text = headers[name]
    place = data.draw(st.integers(0, len(text) - 1))
    other = data.draw(st.characters(min_codepoint=33, max_codepoint=126).filter(lambda new: new != text[place]))
    headers[name] = text[:place] + other + text[place + 1 :]
    response = machine.request("POST", machine.heartbeat_path, data=body, headers=headers)
    assert response.status_code == 401, (name, headers[name])
    assert stored_heartbeat(machine.agent_id).created == 0


def test_another_agents_key_opens_nothing_of_ours(make_machine: MakeMachine) -> None:
    ours, other = make_machine(), make_machine()
    refused(other.send("GET", f"/agents/{ours.agent_id}/config"), "wrong_agent", 403)
    body = ours.heartbeat_body()
    refused(other.send("POST", ours.heartbeat_path, body), "wrong_agent", 403)
    assert stored_heartbeat(ours.agent_id).created == 0
    assert not stored_agent(other.agent_id).keys[0].used


def test_our_key_id_with_another_key_is_refused(machine: Machine) -> None:
    refused(machine.send("GET", f"/agents/{machine.agent_id}/config", key=b"x" * 32), "signature_invalid")


@pytest.mark.parametrize("key_id", ["k", "01kaother0000000000000000a.00000000", "../../x", "a" * 200])
def test_a_senseless_key_id_costs_no_read(machine: Machine, key_id: str) -> None:
    with dynamodb_calls() as metering:
        refused(machine.send("GET", f"/agents/{machine.agent_id}/config", key_id=key_id), "key_unknown")
    assert metering.calls == 0


def test_an_unknown_key_costs_one_read(machine: Machine) -> None:
    path = f"/agents/{machine.agent_id}/config"
    for key_id in (f"{new_id()}.00000000", f"{machine.agent_id}.00000000"):
        with dynamodb_calls() as metering:
            refused(machine.send("GET", path, key_id=key_id), "key_unknown")
        assert metering.operations == ["GetItem"]


def test_an_expired_or_malformed_signature_costs_no_read(machine: Machine) -> None:
    path = f"/agents/{machine.agent_id}/config"
    identity_forget(machine.agent_id)
    with dynamodb_calls() as metering:
        machine.send("GET", path, created=clock.epoch() - 400)
        machine.get(path, headers=machine.signed("GET", path) | {"Signature": "sig1=:AAAA:"})
        machine.get(path)
    assert metering.calls == 0


def test_a_usual_request_costs_no_read_for_its_signature(machine: Machine) -> None:
    machine.config()
    with dynamodb_calls() as metering:
        machine.config()
    # The configuration itself.
    assert metering.operations == ["GetItem"]


def test_what_was_read_of_an_agent_is_trusted_for_a_minute_at_most(machine: Machine) -> None:
    machine.config()
    with clock.shifted(timedelta(seconds=61)), dynamodb_calls() as metering:
        machine.config()
    assert metering.operations == ["GetItem", "GetItem"]


def test_every_endpoint_refuses_a_retired_agent(machine: Machine, admin_actor: Actor) -> None:
    machine.heartbeat()
    agent_retire(agent_id=machine.agent_id, actor=admin_actor)
    refused(machine.config(), "agent_retired", 403)
    refused(machine.heartbeat(), "agent_retired", 403)


def test_a_header_with_underscores_does_not_shadow_the_signed_one(machine: Machine) -> None:
    """Under WSGI both would be HTTP_CONTENT_DIGEST."""
    body = machine.heartbeat_body()
    headers = machine.signed("POST", machine.heartbeat_path, body) | {"Content_Digest": "sha-256=:AAAA:"}
    assert machine.request("POST", machine.heartbeat_path, data=body, headers=headers).status_code == 200


def test_a_header_that_is_sent_twice_is_refused(machine: Machine) -> None:
    address = urlsplit(machine.server)
    body = machine.heartbeat_body()
    for doubled in ("Signature", "Signature-Input", "Content-Digest"):
        connection = http.client.HTTPConnection(address.hostname or "", address.port, timeout=10)
        connection.putrequest("POST", machine.heartbeat_path)
        for name, value in machine.signed("POST", machine.heartbeat_path, body).items():
            for _ in range(2 if name == doubled else 1):
                connection.putheader(name, value)
        connection.putheader("Content-Length", str(len(body)))
        connection.endheaders(body)
        assert connection.getresponse().status == 401
        connection.close()


def test_a_body_that_is_too_large_is_refused(machine: Machine) -> None:
    body = machine.heartbeat_body(filler="x" * (2 * 1024 * 1024))
    response = machine.send("POST", machine.heartbeat_path, body)
    assert response.status_code == 413


@pytest.mark.parametrize(("script", "path"), [("", "/agents/a"), ("/prod", "/prod/agents/a")])
def test_the_signed_path_has_the_stage(script: str, path: str) -> None:
    assert signed_path(RequestFactory().get("/agents/a", SCRIPT_NAME=script)) == path


@pytest.mark.parametrize("path", ["/agents/a b", "/agents/%C3%A9", "/agents/a?b=c", "/agents/a;b", "/agents/a~"])
def test_a_path_that_a_gateway_might_rewrite_is_refused(path: str) -> None:
    with pytest.raises(NotAuthenticated):
        signed_path(RequestFactory().get(path))
