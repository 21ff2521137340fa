"""An agent's signature is valid or invalid in the same way behind every gateway."""

import gzip
import json
from typing import Any

import pytest

from apps.jobs.services import job_create
from apps.pipelines.services import pipeline_save
from tests.agents.machines import REPORT, Machine
from tests.conftest import ADMIN
from tests.signing import AgentClient, enrolled
from tests.zappa.gateways import Gateway, development_server, our_handler, zappa_http_api, zappa_rest_api

# The stage in the settings of `zappa_handler`.
STAGE = "test"


@pytest.fixture(params=["development server", "our handler", "Zappa, HTTP API", "Zappa, REST API"])
def gateway(request: pytest.FixtureRequest, server: str) -> Gateway:
    named: dict[str, Gateway] = {
        "development server": development_server(server),
        "our handler": our_handler,
        "Zappa, HTTP API": zappa_http_api,
        "Zappa, REST API": zappa_rest_api,
    }
    return named[request.param]


@pytest.fixture
def agent(server: str) -> AgentClient:
    return enrolled(server)


def ask(gateway: Gateway, agent: AgentClient, *, signed: str, asked: str, query: str = "", stage: str = "") -> int:
    """Sign a GET of the path `signed` and request `asked`; return the status."""
    request = agent.signed(signed, b"", method="GET")
    return gateway("GET", asked, query, request.headers, b"", stage).status


def config(agent: AgentClient) -> str:
    return f"/agents/{agent.agent_id}/config"


def test_a_plain_path_is_accepted(gateway: Gateway, agent: AgentClient) -> None:
    assert ask(gateway, agent, signed=config(agent), asked=config(agent)) == 200


def test_a_path_with_needless_escapes_is_the_same_path(gateway: Gateway, agent: AgentClient) -> None:
    escaped = config(agent).replace("config", "%63onfig")
    assert ask(gateway, agent, signed=config(agent), asked=escaped) == 200
    assert ask(gateway, agent, signed=escaped, asked=escaped) == 401


@pytest.mark.parametrize("tail", ["%2563onfig", "c%C3%B6nfig", "config%20", "config%00"])
def test_a_path_with_other_escapes_is_refused(gateway: Gateway, agent: AgentClient, tail: str) -> None:
    path = config(agent).replace("config", tail)
    # The path does not exist, or, if it is decoded twice, differs from the signed one.
    assert ask(gateway, agent, signed=path, asked=path) in (401, 404)


@pytest.mark.parametrize("query", ["a=1", "a=1&a=2", "a=%31&a=%2F", "a"])
def test_a_query_is_refused(gateway: Gateway, agent: AgentClient, query: str) -> None:
    assert ask(gateway, agent, signed=config(agent), asked=config(agent), query=query) == 401


def test_another_path_than_the_signed_one_is_refused(gateway: Gateway, agent: AgentClient) -> None:
    assert ask(gateway, agent, signed=f"/agents/{agent.agent_id}/other", asked=config(agent)) == 401


@pytest.mark.parametrize("gateway", ["our handler", "Zappa, HTTP API", "Zappa, REST API"], indirect=True)
def test_the_signed_path_begins_with_the_stage_of_the_request(
    gateway: Gateway, agent: AgentClient, settings: Any
) -> None:
    settings.ALLOWED_HOSTS = ["testserver", ".amazonaws.com"]
    assert ask(gateway, agent, signed=f"/{STAGE}{config(agent)}", asked=config(agent), stage=STAGE) == 200
    assert ask(gateway, agent, signed=config(agent), asked=config(agent), stage=STAGE) == 401


def test_binary_bodies_arrive_as_they_were_signed(gateway: Gateway, agent: AgentClient) -> None:
    url = "https://git.example.com/app.git"
    pipeline_save(actor=ADMIN, name="self", repository=url, default_ref="main", definition=None)
    job_create(actor=ADMIN)
    assignment = agent.take()
    for sequence, (data, encoding) in enumerate(
        [(b"\xff\xfe\x00\x80", None), (b"", None), (gzip.compress(b"packed"), "gzip"), ("ü".encode(), None)]
    ):
        request = agent.log_request(assignment, sequence, data, encoding=encoding)
        answer = gateway("POST", request.path, "", request.headers, request.body, "")
        assert (answer.status, json.loads(answer.body)) == (200, {"wish": None})


def test_a_body_that_was_changed_in_transit_is_refused(gateway: Gateway, agent: AgentClient) -> None:
    request = agent.heartbeat_request()
    answer = gateway("POST", request.path, "", request.headers, request.body + b" ", "")
    assert (answer.status, json.loads(answer.body)["code"]) == (401, "digest_mismatch")


def test_every_gateway_accepts_the_agent_programs_signature(gateway: Gateway, agent: AgentClient) -> None:
    machine = Machine("", agent.agent_id, agent.key_id, agent.secret)
    body = json.dumps({"agent_id": agent.agent_id, **REPORT}).encode()
    headers = {"Content-Type": "application/json", **machine.signed("POST", machine.heartbeat_path, body)}
    assert gateway("POST", machine.heartbeat_path, "", headers, body, "").status == 200
