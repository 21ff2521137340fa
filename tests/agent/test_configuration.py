"""The agent obeys its configuration: the endpoints, the deployment targets and how often it asks for work."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from agent.endpoints import Endpoints
from agent.protocol import HeartbeatAnswer
from tests.agent.conftest import AgentProcess, History
from tests.agent.fake_server import FakeControlPlane
from tests.agent.test_heartbeat import FINE, Case

AGENT = "agent1"
USUAL = {
    "heartbeat": "/agents/agent1/heartbeat",
    "start": "/agents/agent1/jobs/j/start",
    "definition": "/agents/agent1/jobs/j/definition",
    "log": "/agents/agent1/jobs/j/log/2/7",
    "finish": "/agents/agent1/jobs/j/finish",
}


def paths(endpoints: Endpoints) -> dict[str, str]:
    return {name: endpoints.path(name, job_id="j", attempt=2, sequence=7) for name in USUAL}


def moved(to: str) -> dict[str, str]:
    """The usual endpoints of the agent below `to`, as a configuration has them."""
    job = f"{to}/agents/{AGENT}/jobs/{{job_id}}"
    return {
        "heartbeat": f"{to}/agents/{AGENT}/heartbeat",
        **{name: f"{job}/{name}" for name in ("start", "definition", "finish")},
        "log": f"{job}/log/{{attempt}}/{{sequence}}",
    }


@pytest.mark.parametrize("given", [None, {}, [], "x", {"newer": "https://x"}])
def test_without_endpoints_the_agent_uses_the_usual_ones(given: Any) -> None:
    assert paths(Endpoints(AGENT, given=given)) == USUAL


def test_endpoints_are_paths_below_the_control_planes_address() -> None:
    assert paths(Endpoints(AGENT, given=moved("/staging"), prefix="/staging")) == USUAL
    assert paths(Endpoints(AGENT, given=moved("/v2")))["log"] == "/v2/agents/agent1/jobs/j/log/2/7"


@pytest.mark.parametrize(
    "path",
    [
        "https://evil.example/agents/agent1/jobs/{job_id}/finish",
        "//evil.example/{job_id}",
        "/\\evil.example/{job_id}",
        "/staging@evil.example/{job_id}",
        "/stagingx/{job_id}",
        "/other/{job_id}",
        "/staging/../admin/{job_id}",
        "/staging/./{job_id}",
        "/staging//{job_id}",
        "/staging/{job_id}?to=x",
        "/staging/{job_id}#x",
        "/staging/%2e%2e/{job_id}",
        "/staging/{job_id} HTTP/1.1\r\nHost: evil",
        "/staging/{job_id.__class__}",
        "/staging/{job_id}{job_id}",
        "/staging/{agent_id}/{job_id}",
        "/staging/none",
        "/staging/" + "a/" * 300 + "{job_id}",
        "",
        7,
        None,
    ],
)
def test_an_endpoint_cannot_lead_the_agent_to_a_stranger(path: Any, caplog: pytest.LogCaptureFixture) -> None:
    endpoints = Endpoints(AGENT, given={**moved("/staging"), "finish": path}, prefix="/staging")
    assert paths(endpoints) == USUAL
    assert "the agent does not use" in caplog.text


def test_an_agent_sends_its_requests_to_the_endpoints_of_its_configuration(
    agent: AgentProcess, plane: FakeControlPlane, history: History
) -> None:
    plane.moved = "/v2"
    plane.config["endpoints"] = {**moved("/v2"), "finish": f"http://127.0.0.1:1/agents/{AGENT}/jobs/{{job_id}}/finish"}
    agent.start()
    plane.wait_for(lambda: len(plane.heartbeats) > 1)
    job = plane.add_job(history.url, run="echo moved")
    assert plane.finished(job)["exit_code"] == 0
    asked = [path for _, path in plane.requests]
    assert f"/v2/agents/{AGENT}/heartbeat" in asked
    assert f"/v2/agents/{AGENT}/jobs/{job.job_id}/start" in asked
    assert f"/v2/agents/{AGENT}/jobs/{job.job_id}/log/1/0" in asked
    # That one led elsewhere.
    assert f"/agents/{AGENT}/jobs/{job.job_id}/finish" in asked
    assert "the agent does not use" in agent.output


def test_an_agent_runs_no_job_that_deploys_to_a_target_that_it_lacks(
    agent: AgentProcess, plane: FakeControlPlane, history: History
) -> None:
    plane.config["deployment_targets"] = ["staging"]
    foreign = plane.add_job(history.url, run="echo deployed", deployment_targets=["production", "staging"])
    own = plane.add_job(history.url, run="echo deployed", deployment_targets=["staging"])
    agent.start()
    report = plane.finished(foreign)
    assert report["agent_fault"] == "this agent may not deploy to production"
    assert report["steps"] == [] or report["steps"][0]["state"] == "skipped"
    assert "deployed\n" not in foreign.text
    assert plane.finished(own)["exit_code"] == 0


def test_an_agent_asks_for_its_targets_before_it_declines_a_job(
    agent: AgentProcess, plane: FakeControlPlane, history: History
) -> None:
    """The answer to a finish has the next job, and not that the configuration has changed."""
    plane.config["deployment_targets"] = []
    agent.start()
    plane.wait_for(lambda: len(plane.heartbeats) > 1)
    assert ("GET", f"/agents/{AGENT}/config") in plane.requests
    plane.config["deployment_targets"] = ["production"]
    job = plane.add_job(history.url, run="echo deployed", deployment_targets=["production"])
    assert plane.finished(job)["exit_code"] == 0


@pytest.mark.parametrize(
    ("schedule", "answered", "pause"),
    [(10, 11, 11), (10, 5, 5), (10, 200, 12), (0.01, 50, 1.2), (100_000, 299, 299), (None, 200, 200)],
)
def test_an_idle_agent_asks_for_work_as_often_as_its_configuration_says(
    schedule: float | None, answered: float, pause: float, tmp_path: Path
) -> None:
    answer = HeartbeatAnswer("healthy", answered, 1, jobs=[], commands=[])
    case = Case(tmp_path, answer)
    case.heartbeat.schedule(schedule)
    seconds, may_be_early = case.heartbeat._send()
    assert (seconds, may_be_early) == (pytest.approx(pause), True)  # type: ignore[comparison-overlap]


def test_a_schedule_of_an_earlier_configuration_does_not_stay(tmp_path: Path) -> None:
    case = Case(tmp_path, FINE)
    case.heartbeat.schedule(1)
    case.heartbeat.schedule(None)
    assert case.heartbeat._send()[0] == 15
