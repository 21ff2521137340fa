"""`zappa deploy`, `update` and `undeploy` against an emulated AWS that really runs the package."""

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError

from tests.clients import Client
from tests.conftest import PASSWORD
from tests.endtoend.conftest import Repository, repository, wait_for  # noqa: F401 — a fixture
from tests.zappa.cloud import FUNCTION, PROJECT, STAGE, Cloud, custom_domain, running_cloud

pytestmark = [pytest.mark.deploy, pytest.mark.slow]

# As the operator who deploys for the first time does: tables, an admin with a token, a token for agents.
PREPARE = f"""
import json
from datetime import timedelta
from apps.accounts.services import api_token_create, api_token_verify, user_create
from apps.agents.services import enrolment_token_create
from controlplane.lib import clock
from controlplane.lib.actor import SYSTEM
from controlplane.nosql.tables import create_tables
list(create_tables())
user = user_create(email="admin@example.com", password={PASSWORD!r}, name="Admin", role="admin", actor=SYSTEM)
secret = api_token_create(user=user, name="tests", actor=SYSTEM)[1]
expires_at = clock.now() + timedelta(hours=1)
agents = enrolment_token_create(uses=1, expires_at=expires_at, actor=api_token_verify(secret))[1]
print(json.dumps({{"api": secret, "agents": agents}}))
"""


@pytest.fixture
def cloud(tmp_path: Path) -> Iterator[Cloud]:
    """An emulated AWS with the function's role, which the stack of the infrastructure brings otherwise."""
    with running_cloud(tmp_path) as cloud:
        cloud.client("iam").create_role(RoleName=f"hybrid-ci-cd-function-{STAGE}", AssumeRolePolicyDocument="{}")
        yield cloud


@pytest.fixture
def agents() -> Iterator[list[subprocess.Popen[bytes]]]:
    started: list[subprocess.Popen[bytes]] = []
    yield started
    for process in started:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGTERM)
        process.wait(20)


def api_id(cloud: Cloud) -> str:
    (found,) = cloud.client("apigatewayv2").get_apis()["Items"]
    assert (found["Name"], found["ProtocolType"]) == (FUNCTION, "HTTP")
    return str(found["ApiId"])


def sign_in(client: Client, host: str) -> None:
    """By the form, as a browser does."""
    page = client.get("/signin", headers={"Accept": "text/html"})
    secret = re.search(r'name="csrfmiddlewaretoken" value="(\w+)"', page.text)
    assert secret is not None, page.text
    form = {"csrfmiddlewaretoken": secret[1], "email": "admin@example.com", "password": PASSWORD}
    answer = client.post("/signin", data=form, headers={"Origin": f"https://{host}", "Accept": "text/html"})
    assert answer.status_code == 302, answer.text


def start_agent(server: str, token: str, folder: Path) -> subprocess.Popen[bytes]:
    with (folder / "agent.log").open("ab") as output:
        return subprocess.Popen(
            [sys.executable, "-m", "agent", "--url", server, "--name", "one"],
            cwd=PROJECT,
            env={**os.environ, "HYBRID_CI_TOKEN": token, "HYBRID_CI_STATE_DIR": str(folder / "agent")},
            stdout=output,
            stderr=output,
            start_new_session=True,
        )


def job_run(client: Client) -> dict[str, Any]:
    """Queue a job and wait for its end."""
    queued = client.post("/jobs", json={})
    assert queued.status_code == 201, queued.text

    def ended() -> Any:
        job = client.get(f"/jobs/{queued.json()['job_id']}").json()
        return job["status"] in ("completed", "failed", "cancelled", "timed_out") and job

    return dict(wait_for(ended, seconds=60))


def test_a_stage_is_deployed_used_updated_and_taken_away(
    cloud: Cloud,
    agents: list[subprocess.Popen[bytes]],
    repository: Repository,  # noqa: F811
    tmp_path: Path,
) -> None:
    tokens = cloud.python(PREPARE)
    assert "Deployment complete" in cloud.zappa("deploy")
    function = cloud.client("lambda").get_function(FunctionName=FUNCTION)["Configuration"]
    assert function["Handler"] == "controlplane.lambda_handler.handler"
    assert (function["Runtime"], function["MemorySize"], function["Timeout"]) == ("python3.11", 512, 29)

    host = f"{api_id(cloud)}.execute-api.localhost:{cloud.port}"
    with custom_domain(cloud.port, api_id(cloud)) as server:
        health = Client(server).get("/health")
        assert (health.status_code, health.json()["status"]) == (200, "healthy"), health.text
        assert Client(server).get("/info").json()["environment"] == STAGE

        # A person.
        person = Client(server)
        assert person.get("/dashboard/").status_code == 302
        sign_in(person, host)
        assert person.get("/dashboard/").status_code == 200
        assert person.get("/static/app.css").headers["Content-Type"].startswith("text/css")

        # A program, and the agent.
        client = Client(server, tokens["api"])
        pipeline = {"repository": repository.url, "default_ref": "main", "definition": None}
        assert client.put("/pipelines/self", json=pipeline).status_code in (200, 201)
        repository.define("printf 'from the cloud \\377\\n'")
        agents.append(start_agent(server, tokens["agents"], tmp_path))
        wait_for(lambda: [agent["status"] for agent in client.get("/agents").json()["agents"]] == ["healthy"])
        job = job_run(client)
        assert (job["status"], job["exit_code"]) == ("completed", 0), job
        assert b"from the cloud \xff" in client.get(f"/jobs/{job['job_id']}/log").content

        # The schedule, which puts logs away, fires by itself within its minute.
        (stored,) = wait_for(lambda: list((tmp_path / "logs").glob(f"{job['job_id']}*.log")), seconds=100)
        assert b"from the cloud \xff" in stored.read_bytes()
        assert b"from the cloud \xff" in client.get(f"/jobs/{job['job_id']}/log").content

        # By hand, too.
        assert "agents marked" in cloud.zappa("manage", "sweep")

        # An update goes live under the same address, and agents go on.
        before = function["CodeSha256"]
        assert "live" in cloud.zappa("update")
        after = cloud.client("lambda").get_function(FunctionName=FUNCTION)["Configuration"]
        assert after["CodeSha256"] == before, "the same sources make the same package"
        # The emulator ends the old version's processes at once, and with them what they were about to answer.
        wait_for(lambda: client.get("/agents").status_code == 200)
        assert job_run(client)["status"] == "completed"

    began = time.monotonic()
    cloud.zappa("undeploy", "--yes")
    assert time.monotonic() - began < 60
    with pytest.raises(ClientError) as gone:
        cloud.client("lambda").get_function(FunctionName=FUNCTION)
    assert gone.value.response["Error"]["Code"] == "ResourceNotFoundException"
    assert cloud.client("apigatewayv2").get_apis()["Items"] == []
    rules = cloud.client("events").list_rules()["Rules"]
    assert rules == []
    # What belongs to the infrastructure stays.
    assert cloud.client("dynamodb").list_tables()["TableNames"] != []
