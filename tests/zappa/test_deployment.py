"""The life of a stage with the real commands, against an emulated AWS that runs the package.

By day it is short: it deploys once, the package that the other tests have built; the next version is published without
a deployment, and the schedule's function is invoked at once. At night each deployment builds its package, the second
one updates the stage, and the schedule itself is awaited.
"""

import json
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

from controlplane.lib.clock import now, timestamp
from tests.clients import Client
from tests.conftest import PASSWORD
from tests.endtoend.conftest import Repository, repository, wait_for  # noqa: F401 — a fixture
from tests.zappa.calls import assert_the_deployers_role_is_what_was_called, recorded_actions
from tests.zappa.cloud import ACCOUNT, FUNCTION, PROJECT, STAGE, Cloud, custom_domain, running_cloud

pytestmark = [pytest.mark.deploy, pytest.mark.slow]

EVENTS = json.loads((PROJECT / "zappa_settings.json").read_text())["base"]["events"]

# What an operator does after the first deployment: create an admin with a token, and a token for agents.
PREPARE = f"""
import json
from datetime import timedelta
from apps.accounts.services import api_token_create, api_token_verify, user_create
from apps.agents.services import enrolment_token_create
from controlplane.lib import clock
from controlplane.lib.actor import SYSTEM
user = user_create(email="admin@example.com", password={PASSWORD!r}, name="Admin", role="admin", actor=SYSTEM)
secret = api_token_create(user=user, name="tests", actor=SYSTEM)[1]
expires_at = clock.now() + timedelta(hours=1)
agents = enrolment_token_create(uses=1, expires_at=expires_at, actor=api_token_verify(secret))[1]
print(json.dumps({{"api": secret, "agents": agents}}))
"""


@pytest.fixture
def cloud(tmp_path: Path) -> Iterator[Cloud]:
    """An empty emulated AWS."""
    with running_cloud(tmp_path) as cloud:
        yield cloud


@pytest.fixture
def agents() -> Iterator[list[subprocess.Popen[bytes]]]:
    started: list[subprocess.Popen[bytes]] = []
    yield started
    for process in started:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGTERM)
        process.wait(20)


def sign_in(client: Client, host: str) -> None:
    """Sign in with the form, as a browser does."""
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

    return dict(wait_for(ended, seconds=60, every=0.5))


def deploy(cloud: Cloud, server: str, *more: str) -> str:
    """Deploy with short watching: the emulator measures nothing."""
    return cloud.manage("deploy", "--stage", STAGE, "--yes", "--url", server, "--watch", "1", *more)


def release(cloud: Cloud, *arguments: str, code: int = 0) -> str:
    action, *rest = arguments
    return cloud.manage("release", action, "--stage", STAGE, *rest, code=code)


def live(cloud: Cloud) -> dict[str, Any]:
    """The configuration of the version that is live."""
    return dict(cloud.client("lambda").get_function_configuration(FunctionName=FUNCTION, Qualifier="live"))


def version_publish(cloud: Cloud, **changed: str) -> str:
    """Publish a version with these settings, without a deployment and its checks."""
    client = cloud.client("lambda")
    settings = client.get_function_configuration(FunctionName=FUNCTION)["Environment"]["Variables"]
    client.update_function_configuration(FunctionName=FUNCTION, Environment={"Variables": settings | changed})
    client.get_waiter("function_updated_v2").wait(FunctionName=FUNCTION)
    return str(client.publish_version(FunctionName=FUNCTION)["Version"])


def stored_log(cloud: Cloud, job_id: str) -> bytes:
    """The job's log in the stage's bucket. Empty if it is not archived yet."""
    client, bucket = cloud.client("s3"), f"hybrid-ci-cd-job-logs-{STAGE}-eu-central-1-{ACCOUNT}"
    keys = [found["Key"] for found in client.list_objects_v2(Bucket=bucket).get("Contents", ())]
    found = [key for key in keys if job_id in key]
    return client.get_object(Bucket=bucket, Key=found[0])["Body"].read() if found else b""


@pytest.mark.parametrize("whole", [False, pytest.param(True, marks=pytest.mark.nightly)])
def test_a_stage_is_deployed_used_updated_rolled_back_and_undeployed(
    cloud: Cloud,
    agents: list[subprocess.Popen[bytes]],
    repository: Repository,  # noqa: F811
    package: Path,
    tmp_path: Path,
    *,
    whole: bool,
) -> None:
    cloud.prepare()
    with custom_domain(cloud) as server:
        assert f"{server} passes the smoke test." in deploy(
            cloud, server, *([] if whole else ["--package", str(package)])
        )
        first = live(cloud)
        assert first["Handler"] == "controlplane.lambda_entry.handler"
        assert (first["Runtime"], first["MemorySize"], first["Timeout"]) == ("python3.11", 512, 29)
        assert_only_live_is_invoked(cloud)
        assert Client(server).get("/info").json()["environment"] == STAGE
        tokens = cloud.python(PREPARE)

        # A person.
        person = Client(server)
        assert person.get("/dashboard/").status_code == 302
        sign_in(person, cloud.api_host)
        assert person.get("/dashboard/").status_code == 200
        assert person.get("/static/app.css").headers["Content-Type"].startswith("text/css")

        # A program, and the agent.
        client = Client(server, tokens["api"])
        pipeline = {"repository": repository.url, "default_ref": "main", "definition": None}
        assert client.put("/pipelines/self", json=pipeline).status_code in (200, 201)
        repository.define("printf 'from the cloud \\377\\n'")
        agents.append(start_agent(server, tokens["agents"], tmp_path))
        wait_for(
            lambda: [agent["status"] for agent in client.get("/agents").json()["agents"]] == ["healthy"], every=0.5
        )
        job = job_run(client)
        assert (job["status"], job["exit_code"]) == ("completed", 0), job
        assert b"from the cloud \xff" in client.get(f"/jobs/{job['job_id']}/log").content

        # The commands work by hand, too.
        if whole:
            assert "agents marked" in cloud.zappa("manage", "sweep")
            assert "hybrid-ci-cd-staging" in cloud.zappa("status")
        assert_the_gateway_and_the_schedules_are_complete(cloud)

        # A new version goes live under the same address, and agents go on.
        if whole:
            assert_an_update_is_live(cloud, server, first)
        else:
            assert version_publish(cloud, SESSION_IDLE_SECONDS="1800") == "2"
            assert "Version 2 is live." in release(cloud, "shift", "--to", "2", "--url", server, "--watch", "1")
        assert live(cloud)["Environment"]["Variables"]["SESSION_IDLE_SECONDS"] == "1800"
        assert_only_live_is_invoked(cloud)
        assert job_run(client)["status"] == "completed"

        # One that is broken does not.
        broken = version_publish(cloud, LOG_LEVEL="NONE")
        assert f"Version {broken} fails at /health" in release(cloud, "shift", "--to", broken, code=1)
        assert live(cloud)["Version"] == "2"

        # And back.
        began = time.monotonic()
        assert "All requests go to version 1." in release(cloud, "rollback")
        assert time.monotonic() - began < 20
        assert "SESSION_IDLE_SECONDS" not in live(cloud)["Environment"]["Variables"]
        assert re.findall(r"^ +(\d+) .* (\d+ %)", release(cloud, "list"), re.MULTILINE) == [("1", "100 %")]
        assert job_run(client)["status"] == "completed"

        # The schedule, which archives logs, has run within its minute.
        if not whole:
            schedules_run(cloud)
        wait_for(lambda: b"from the cloud \xff" in stored_log(cloud, job["job_id"]), seconds=100, every=0.5)
        assert b"from the cloud \xff" in client.get(f"/jobs/{job['job_id']}/log").content

    began = time.monotonic()
    cloud.zappa("undeploy", "--yes")
    assert time.monotonic() - began < 60
    with pytest.raises(ClientError) as gone:
        cloud.client("lambda").get_function(FunctionName=FUNCTION)
    assert gone.value.response["Error"]["Code"] == "ResourceNotFoundException"
    assert cloud.client("apigatewayv2").get_apis()["Items"] == []
    assert cloud.client("events").list_rules()["Rules"] == []
    # The resources of the infrastructure are kept.
    assert cloud.client("dynamodb").list_tables()["TableNames"] != []
    if whole:
        assert_the_deployers_role_is_what_was_called(recorded_actions(cloud.calls))


def assert_an_update_is_live(cloud: Cloud, server: str, first: dict[str, Any]) -> None:
    """Deploy another setting, and assert that it goes live in steps."""
    cloud.settings |= {"SESSION_IDLE_SECONDS": "1800", "PROVISIONED_CONCURRENCY": "1"}
    said = deploy(cloud, server)
    assert "10 % of all requests go to version 2, the rest to 1." in said
    assert "Version 2 is live." in said
    assert live(cloud)["CodeSha256"] == first["CodeSha256"], "the same sources make the same package"


def schedules_run(cloud: Cloud) -> None:
    """Do what the stage's rules do each minute: invoke their targets with their events."""
    events = cloud.client("events")
    for rule in events.list_rules()["Rules"]:
        event = {"detail-type": "Scheduled Event", "resources": [rule["Arn"]], "time": timestamp(now())}
        for target in events.list_targets_by_rule(Rule=rule["Name"])["Targets"]:
            answer = cloud.client("lambda").invoke(FunctionName=target["Arn"], Payload=json.dumps(event))
            assert "FunctionError" not in answer, answer["Payload"].read()


def assert_the_gateway_and_the_schedules_are_complete(cloud: Cloud) -> None:
    """Assert what Zappa's settings have no words for: access log, limit of requests, queue of failed schedules."""
    gateway = cloud.client("apigatewayv2")
    (api,) = gateway.get_apis()["Items"]
    stage = gateway.get_stage(ApiId=api["ApiId"], StageName=STAGE)
    assert stage["AccessLogSettings"]["DestinationArn"].endswith(f"/aws/vendedlogs/apis/{FUNCTION}")
    # The emulator's API does not report the limit that its CloudFormation has set.
    template = cloud.client("cloudformation").get_template(StackName=FUNCTION)["TemplateBody"]
    parsed = json.loads(template) if isinstance(template, str) else template
    limits = parsed["Resources"]["StageV2"]["Properties"]["DefaultRouteSettings"]
    assert limits == {"ThrottlingRateLimit": 200, "ThrottlingBurstLimit": 400}
    queue = f"arn:aws:sqs:eu-central-1:{ACCOUNT}:hybrid-ci-cd-schedules-{STAGE}"
    events = cloud.client("events")
    for event in EVENTS:
        (target,) = events.list_targets_by_rule(Rule=f"{FUNCTION}-{event['function']}")["Targets"]
        assert target["DeadLetterConfig"] == {"Arn": queue}
    kept = cloud.client("lambda").get_function_event_invoke_config(FunctionName=FUNCTION, Qualifier="live")
    assert kept["DestinationConfig"]["OnFailure"] == {"Destination": queue}


def assert_only_live_is_invoked(cloud: Cloud) -> None:
    """Assert that the API and every rule invoke the alias, and that nothing else has the permission."""
    arn = f"arn:aws:lambda:eu-central-1:{ACCOUNT}:function:{FUNCTION}:live"
    (api,) = cloud.client("apigatewayv2").get_apis()["Items"]
    integrations = cloud.client("apigatewayv2").get_integrations(ApiId=api["ApiId"])["Items"]
    assert [integration["IntegrationUri"] for integration in integrations] == [arn]
    events = cloud.client("events")
    rules = [rule["Name"] for rule in events.list_rules()["Rules"]]
    assert sorted(rules) == sorted(f"{FUNCTION}-{event['function']}" for event in EVENTS)
    for rule in rules:
        assert [target["Arn"] for target in events.list_targets_by_rule(Rule=rule)["Targets"]] == [arn]
    policy = json.loads(cloud.client("lambda").get_policy(FunctionName=FUNCTION)["Policy"])["Statement"]
    assert {statement["Resource"] for statement in policy} == {arn}
    assert len(policy) == len(rules) + 1
