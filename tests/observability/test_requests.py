"""The log line of a request, and the id that finds it."""

import json
import logging
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from django.core.management import call_command
from django.test import override_settings

from controlplane import schedules
from controlplane.lib.errors import Unavailable
from controlplane.observability.logs import TextFormatter
from tests.clients import Client, problem
from tests.observability.conftest import Written
from tests.polling import polled
from tests.signing import AgentClient
from tests.zappa.events import http_api_event


@pytest.fixture
def broken(server: str) -> Iterator[Client]:
    with override_settings(ROOT_URLCONF="tests.http.broken_urls"):
        yield Client(server)


def test_a_request_has_one_line_with_actor_route_and_cost(operator: Client, written: Written) -> None:
    operator.get("/jobs?limit=5")
    (line,) = written.requests
    assert (line["level"], line["method"], line["route"], line["status"]) == ("INFO", "GET", "/jobs", 200)
    assert line["actor_kind"] == "token"
    assert line["dynamodb_calls"] >= 3
    assert line["read_units"] > 0
    assert line["milliseconds"] > 0


def test_the_line_names_the_job_and_the_agent(
    agent: AgentClient, make_job: Callable[..., str], written: Written
) -> None:
    job_id = make_job()
    assignment = agent.take()
    agent.finish(assignment)
    heartbeat, start, finish = written.requests
    assert [line["route"] for line in (heartbeat, start, finish)] == [
        "/agents/{agent_id}/heartbeat",
        "/agents/{agent_id}/jobs/{job_id}/start",
        "/agents/{agent_id}/jobs/{job_id}/finish",
    ]
    for line in (heartbeat, start, finish):
        assert (line["actor_kind"], line["actor_id"]) == ("agent", agent.agent_id)
        assert (line["agent_id"], line["job_id"]) == (agent.agent_id, job_id)


def test_the_line_of_a_request_that_created_a_job_names_the_job(
    operator: Client, pipeline: str, written: Written
) -> None:
    job_id = operator.post("/jobs", json={"git_ref": "main"}).json()["job_id"]
    assert written.requests[-1]["job_id"] == job_id


def test_the_line_of_a_refused_request_has_the_error_code(outsider: Client, written: Written) -> None:
    outsider.get("/jobs")
    (line,) = written.requests
    assert (line["level"], line["status"], line["code"]) == ("INFO", 401, "not_authenticated")
    assert "exception" not in line


def test_a_path_that_matches_no_route_is_not_logged(outsider: Client, written: Written) -> None:
    outsider.get("/no/such/path")
    (line,) = written.requests
    assert line["route"] == "unmatched"
    assert "knows" not in written.text


@pytest.mark.parametrize(
    ("path", "route"),
    [
        ("/admin/", "/admin/"),
        ("/admin/jobs/job/", "/admin/"),
        ("/dashboard/jobs/01ka0admn00000000000000000", "/dashboard/jobs/{job_id}"),
        ("/agents/01ka0admn00000000000000000/config", "/agents/{agent_id}/config"),
    ],
)
def test_the_line_has_the_pattern_of_the_path(outsider: Client, written: Written, path: str, route: str) -> None:
    outsider.get(path)
    assert written.requests[-1]["route"] == route


def test_every_response_has_its_request_id_and_a_client_cannot_choose_it(outsider: Client, written: Written) -> None:
    answer = outsider.get("/health", headers={"X-Request-Id": "forged", "X-Amzn-RequestId": "forged"})
    assert answer.headers["X-Request-Id"] == written.requests[-1]["request_id"] != "forged"
    assert outsider.get("/health").headers["X-Request-Id"] != answer.headers["X-Request-Id"]


def test_on_lambda_the_id_is_that_of_the_gateway(tables: None, written: Written) -> None:
    from controlplane.lambda_handler import handler

    event = http_api_event("GET", "/health", headers={"x-request-id": "forged"})
    event["requestContext"]["requestId"] = "JKJaXmPLvHcESHA="
    assert handler(event, None)["headers"]["x-request-id"] == "JKJaXmPLvHcESHA="
    assert written.requests[-1]["request_id"] == "JKJaXmPLvHcESHA="


def test_a_bug_has_one_line_with_its_traceback_and_the_clients_request_id(broken: Client, written: Written) -> None:
    answer = broken.get("/api-bug")
    body = problem(answer, 500, "internal_error")
    (line,) = written.lines
    assert line["level"] == "ERROR"
    assert line["request_id"] == body["request_id"] == answer.headers["X-Request-Id"]
    assert (line["route"], line["status"]) == ("/api-bug", 500)
    assert line["exception_name"] == "RuntimeError"
    assert "broken_urls.py" in line["exception"]


def test_the_error_page_shows_the_request_id(broken: Client) -> None:
    answer = broken.get("/plain-bug", headers={"Accept": "text/html"})
    assert answer.headers["X-Request-Id"] in answer.text


def test_a_database_failure_is_a_warning_with_its_cause(broken: Client, written: Written) -> None:
    body = problem(broken.get("/plain-unavailable"), 503, "unavailable")
    (line,) = written.lines
    assert (line["level"], line["code"], line["request_id"]) == ("WARNING", "unavailable", body["request_id"])
    assert "Unavailable" in line["exception"]


def test_at_level_warning_only_failures_are_logged(outsider: Client, broken: Client, written: Written) -> None:
    logging.getLogger("controlplane").setLevel(logging.WARNING)
    outsider.get("/health")
    outsider.get("/jobs")
    broken.get("/plain-bug")
    assert [line["status"] for line in written.lines] == [500]


def test_the_line_names_the_trace(outsider: Client, written: Written, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("_X_AMZN_TRACE_ID", "Root=1-5759e988-bd862e3fe1be46a994272793;Parent=53995c3f42cd8ad8;Sampled=0")
    outsider.get("/health")
    assert written.requests[-1]["xray_trace_id"] == "1-5759e988-bd862e3fe1be46a994272793"


class Context:
    aws_request_id = "c6af9ac6-7b61-11e6-9a41-93e8deadbeef"


def test_a_schedule_has_a_line_with_the_id_of_its_invocation(tables: None, written: Written) -> None:
    schedules.sweep({}, Context())
    (line,) = written.lines
    assert (line["route"], line["request_id"]) == ("sweep", Context.aws_request_id)
    assert line["dynamodb_calls"] > 0


def test_a_failed_schedule_is_logged_and_fails(tables: None, written: Written, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> int:
        raise Unavailable

    monkeypatch.setattr(schedules, "EACH_MINUTE", (schedules.Task("agents_mark_silent", fail),))
    with pytest.raises(Unavailable):
        call_command("sweep")
    (line,) = written.lines
    assert (line["level"], line["route"], line["code"]) == ("ERROR", "sweep", "unavailable")
    assert "Traceback" in line["exception"]


def test_a_dead_agent_and_its_requeued_job_are_warnings(
    agent: AgentClient, make_job: Callable[..., str], written: Written
) -> None:
    job_id = make_job()
    agent.take()
    # A poll of another agent queues the job again, and the sweep after that marks the agent.
    with polled(310):
        call_command("sweep")
    warnings = [line for line in written.lines if line["level"] == "WARNING"]
    taken, silent = warnings
    assert "agent is dead" in silent["message"]
    assert (silent["agent_id"], taken["agent_id"], taken["job_id"]) == (agent.agent_id, agent.agent_id, job_id)
    assert "the job is queued again" in taken["message"]


def test_a_text_line_ends_with_the_request_id(outsider: Client, written: Written) -> None:
    written.handler.setFormatter(TextFormatter("%(levelname)s %(message)s"))
    answer = outsider.get("/health")
    text = written.text.splitlines()[0]
    assert text.startswith("INFO GET /health: 200 in ")
    assert text.endswith(f"(request {answer.headers['X-Request-Id']})")


def test_each_line_is_one_json_object_whatever_is_in_it(written: Written) -> None:
    hostile: Any = 'one\ntwo "three" \\ {"_aws": {}} \u2028 \x00'
    logging.getLogger("apps.test").warning("%s", hostile, extra={"job_id": hostile})
    (line,) = written.lines
    assert (line["message"], line["job_id"]) == (hostile, hostile)
    assert json.dumps(line)
