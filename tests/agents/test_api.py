"""The fleet for people's programs, and the agent program for new machines."""

import io
import subprocess
import sys
import zipfile
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest

from apps.agents.services import agent_drain, lease_add
from controlplane.lib import clock
from controlplane.lib.actor import Actor
from controlplane.lib.ids import new_id
from controlplane.nosql.transaction import Transaction
from tests.agents.machines import Machine
from tests.clients import Client, problem
from tests.metering import dynamodb_calls
from tests.signing import enrolled

Enrol = Callable[..., str]
JOB = "01kahtnvg00000000000000000"


def listed(client: Client, **query: object) -> list[str]:
    """The ids of all pages."""
    ids: list[str] = []
    while True:
        response = client.get("/agents", params=query)
        assert response.status_code == 200, response.text
        page = response.json()
        ids += [agent["agent_id"] for agent in page["agents"]]
        if page["next_cursor"] is None:
            assert page["total"] == len(ids)
            return ids
        query["cursor"] = page["next_cursor"]


def test_an_agent_is_shown_with_its_heartbeat_and_jobs(operator: Client, machine: Machine) -> None:
    machine.heartbeat()
    tx = Transaction()
    lease_add(tx, agent_id=machine.agent_id, job_id=JOB, attempt=2, at=clock.timestamp(clock.now()), slots=4)
    tx.commit()
    shown = operator.get(f"/agents/{machine.agent_id}").json()
    reported = clock.parse_timestamp(shown.pop("last_heartbeat"))
    made = clock.parse_timestamp(shown.pop("created_at"))
    assert made <= reported <= clock.now()
    assert shown == {
        "agent_id": machine.agent_id,
        "name": "build-1",
        "region": "eu-central-1",
        "status": "healthy",
        "status_reason": None,
        "labels": ["linux", "gpu"],
        "slots": 4,
        "free_slots": 2,
        "deployment_targets": [],
        "hostname": "build-1.example.com",
        "os": "Linux 6.1",
        "arch": "x86_64",
        "version": "0.1.0",
        "cpu_percent": 12.3,
        "memory_percent": 50.0,
        "disk_percent": 88.8,
        "jobs_queued": 0,
        "jobs_completed": 7,
        "uptime_seconds": 3600,
        "running_jobs": [{"job_id": JOB, "attempt": 2, "started": False}],
    }
    (in_list,) = operator.get("/agents").json()["agents"]
    assert in_list == operator.get(f"/agents/{machine.agent_id}").json()


def test_an_agent_that_has_not_reported_yet_has_no_figures(operator: Client, machine: Machine) -> None:
    shown = operator.get(f"/agents/{machine.agent_id}").json()
    assert (shown["last_heartbeat"], shown["cpu_percent"], shown["free_slots"]) == (None, None, 0)


@pytest.mark.parametrize(("seconds", "status"), [(10, "healthy"), (50, "unhealthy"), (301, "dead")])
def test_an_agents_status_is_that_of_its_last_heartbeat_even_before_the_sweep(
    operator: Client, machine: Machine, seconds: int, status: str
) -> None:
    with clock.shifted(timedelta(seconds=seconds)):
        assert operator.get(f"/agents/{machine.agent_id}").json()["status"] == status


@pytest.mark.parametrize("agent_id", ["01kahtnvg00000000000000000", "x", "enrol", "01KAHTNVG00000000000000000"])
def test_an_unknown_agent_is_not_found(operator: Client, agent_id: str) -> None:
    response = operator.get(f"/agents/{agent_id}")
    # "enrol" is a path of its own, for another method.
    assert response.status_code == (405 if agent_id == "enrol" else 404)
    assert response.headers["Content-Type"] == "application/problem+json"


def test_the_list_is_by_region_then_age_and_its_pages_join(operator: Client, enrol: Enrol) -> None:
    made = [enrol(region=f"region-{number % 3}") for number in range(13)]
    expected = [agent_id for region in range(3) for agent_id in sorted(made[region::3])]
    assert listed(operator, limit=100) == expected
    assert listed(operator, limit=1) == listed(operator, limit=4) == listed(operator, limit=13) == expected


def test_the_list_is_narrowed_by_region_and_status(operator: Client, enrol: Enrol, admin_actor: Actor) -> None:
    agents = [enrol(region=f"region-{number % 2}") for number in range(6)]
    for agent_id in agents[:3]:
        agent_drain(agent_id=agent_id, actor=admin_actor)
    assert listed(operator, region="region-0") == [agents[0], agents[2], agents[4]]
    assert sorted(listed(operator, status="draining", limit=1)) == agents[:3]
    assert listed(operator, status="draining", region="region-0", limit=1) == [agents[0], agents[2]]
    assert listed(operator, status="dead") == []
    assert listed(operator, region="elsewhere") == []


def test_a_list_costs_three_calls_besides_the_token_and_shows_no_key(operator: Client, enrol: Enrol) -> None:
    for _ in range(20):
        enrol()
    operator.get("/agents")
    with dynamodb_calls() as metering:
        answer = operator.get("/agents")
    # The token, the counters, the index, the heartbeats.
    assert metering.operations == ["BatchGetItem", "Query", "Query", "BatchGetItem"]
    found, text = answer.json()["agents"], answer.text
    assert (len(found), "encrypted" in text) == (20, False)
    for agent in found:
        # An id is random, and may have these letters.
        text = text.replace(agent["agent_id"], "")
    assert "key" not in text


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("limit", "0"),
        ("limit", "-1"),
        ("limit", "101"),
        ("limit", "ten"),
        ("limit", ""),
        ("status", "sleepy"),
        ("status", ""),
        ("region", ""),
        ("region", "a b"),
        ("region", "a/b"),
        ("region", "x" * 64),
        ("cursor", "forged"),
        ("cursor", ""),
        ("cursor", "é"),
        ("colour", "green"),
    ],
)
def test_a_wrong_query_is_refused_with_the_parameters_name(operator: Client, name: str, value: str) -> None:
    response = operator.get("/agents", params={name: value})
    assert response.status_code == 400
    assert response.json()["errors"][0]["field"] == name


def test_a_cursor_is_good_only_for_the_filters_it_was_made_under(operator: Client, enrol: Enrol) -> None:
    enrol()
    enrol()
    cursor = operator.get("/agents", params={"limit": 1}).json()["next_cursor"]
    response = operator.get("/agents", params={"limit": 1, "region": "eu-central-1", "cursor": cursor})
    assert (response.status_code, response.json()["code"]) == (400, "invalid_cursor")
    response = operator.get("/jobs", params={"cursor": cursor})
    assert response.status_code == 400


def test_reading_agents_requires_sign_in(outsider: Client, machine: Machine) -> None:
    assert outsider.get("/agents").status_code == 401
    assert outsider.get(f"/agents/{machine.agent_id}").status_code == 401
    # An agent is no person.
    assert machine.send("GET", "/agents").status_code == 401


def test_the_agent_program_is_there_for_everyone_and_runs(outsider: Client, tmp_path: Path) -> None:
    response = outsider.get("/agent.pyz")
    assert response.status_code == 200
    assert response.headers["Content-Type"] == "application/zip"
    assert "agent/signing.py" in zipfile.ZipFile(io.BytesIO(response.content)).namelist()
    program = tmp_path / "agent.pyz"
    program.write_bytes(response.content)
    help_text = subprocess.run(
        [sys.executable, program, "--help"], capture_output=True, text=True, timeout=30, check=True, cwd=tmp_path
    ).stdout
    assert "--token" in help_text


def test_the_agent_program_is_not_sent_again_to_who_has_it(outsider: Client) -> None:
    first = outsider.get("/agent.pyz")
    again = outsider.get("/agent.pyz", headers={"If-None-Match": first.headers["ETag"]})
    assert (again.status_code, again.content) == (304, b"")
    assert outsider.request("HEAD", "/agent.pyz").headers["ETag"] == first.headers["ETag"]


def test_all_paths_of_agents_are_in_the_api_document(outsider: Client) -> None:
    document = outsider.get("/schema", headers={"Accept": "application/vnd.oai.openapi+json"}).json()
    for path, method in [
        ("/agents", "get"),
        ("/agents/{agent_id}", "get"),
        ("/agents/enrol", "post"),
        ("/agents/{agent_id}/config", "get"),
        ("/agent.pyz", "get"),
    ]:
        assert method in document["paths"][path]


def test_an_admin_drains_an_agent_and_resumes_it_and_an_operator_does_not(
    admin: Client, operator: Client, server: str
) -> None:
    agent = enrolled(server)
    agent.heartbeat()
    path = f"/agents/{agent.agent_id}"
    problem(operator.post(f"{path}/drain"), 403, "forbidden")
    assert [admin.post(f"{path}/drain").json()["status"] for _ in range(2)] == ["draining", "draining"]
    assert agent.heartbeat()["status"] == "draining"
    assert admin.post(f"{path}/resume").json()["status"] == "healthy"
    problem(admin.post(f"/agents/{new_id()}/resume"), 404, "agent_not_found")
