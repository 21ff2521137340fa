"""What clients get while DynamoDB does not answer: 503 with Retry-After, soon enough."""

from collections.abc import Callable

import pytest
import requests

from controlplane.http.problems import CONTENT_TYPE
from tests.faults.conftest import Ask, Askers
from tests.faults.injection import Fault, outage
from tests.sources.hooks import connected, github_push, send

# API Gateway waits 29 seconds.
SOON = 15

PIPELINE = {"repository": "https://git.example.com/app.git", "default_ref": "main", "definition": None}

PROGRAM: tuple[tuple[str, str, object], ...] = (
    ("GET", "/auth/whoami", None),
    ("GET", "/jobs", None),
    ("GET", "/jobs/{job}", None),
    ("GET", "/jobs/{job}/log", None),
    ("GET", "/jobs/{job}/log?attempt=1&timestamps", None),
    ("GET", "/jobs/{job}/log/search?q=x", None),
    ("GET", "/jobs/{job}/artifacts", None),
    ("GET", "/runs/{job}/artifacts", None),
    ("GET", "/artifacts/{job}-{job}-1-00000000000000000000000000000000/download", None),
    ("GET", "/artifacts/{job}-{job}-1-00000000000000000000000000000000/provenance", None),
    ("GET", "/pipelines/self/caches", None),
    ("GET", "/jobs/{job}/tests", None),
    ("POST", "/jobs", {"git_ref": "main", "pipeline": "self"}),
    ("POST", "/jobs/{job}/cancel", {}),
    ("POST", "/jobs/{job}/retry", {}),
    ("GET", "/agents", None),
    ("GET", "/pipelines", None),
    ("GET", "/pipelines/self", None),
    ("GET", "/badges/self.svg", None),
    ("GET", "/pipelines/self/tests", None),
    ("GET", "/pipelines/self/coverage", None),
    (
        "PUT",
        "/pipelines/new",
        {"repository": "https://git.example.com/a.git", "default_ref": "main", "definition": None},
    ),
    ("POST", "/definitions/check", {"definition": "steps: [{run: make}]"}),
    ("POST", "/definitions/import", {"product": "github", "text": "jobs: {a: {steps: [{run: make}]}}"}),
    ("POST", "/pipelines/self/pause", {}),
    ("POST", "/pipelines/self/resume", {}),
    ("DELETE", "/pipelines/self", None),
    ("GET", "/environments", None),
    ("POST", "/environments", {"name": "production"}),
    ("GET", "/environments/production", None),
    ("PATCH", "/environments/production", {"wait_seconds": 60}),
    ("DELETE", "/environments/production", None),
    ("GET", "/deployments", None),
    ("GET", "/deployments?environment=production", None),
    ("GET", "/deployments?run_id={job}", None),
    ("POST", "/deployments", {"environment": "production", "pipeline": "self"}),
    ("GET", "/deployments/{job}", None),
    ("GET", "/deployments/{job}/changes", None),
    ("POST", "/deployments/{job}/approve", {}),
    ("POST", "/deployments/{job}/reject", {}),
    ("POST", "/deployments/{job}/rollback", {}),
    ("POST", "/deployments/{job}/redeploy", {}),
    ("GET", "/connections", None),
    ("POST", "/connections", {"connection_id": "hub", "provider": "github"}),
    ("GET", "/connections/hub", None),
    ("PATCH", "/connections/hub", {"name": "Hub"}),
    ("POST", "/connections/hub/webhook-secret", {}),
    ("GET", "/connections/hub/repositories", None),
    ("GET", "/connections/hub/installations", None),
    ("POST", "/connections/hub/pipelines", {"repository": "acme/shop"}),
    ("GET", "/connections/hub/events", None),
    ("GET", "/connections/hub/events/00000000000000000000000000000000", None),
    ("POST", "/connections/hub/events/00000000000000000000000000000000/redeliver", {}),
    ("POST", "/runs/{job}/allow", {}),
    ("GET", "/audit", None),
    ("GET", "/audit?action=job.created", None),
    ("GET", "/audit/seals", None),
    ("GET", "/audit?target=job:{job}", None),
    ("GET", "/audit/export?target=job:{job}", None),
    ("GET", "/audit/holds", None),
    ("POST", "/audit/holds", {"reason": "x"}),
    ("POST", "/audit/holds/{job}/release", {}),
    ("GET", "/audit/holds/{job}/events", None),
)

PAGES = (
    "/dashboard/",
    "/dashboard/jobs",
    "/dashboard/jobs/{job}",
    "/dashboard/agents",
    "/dashboard/runs",
    "/dashboard/runs/{job}",
    "/dashboard/runs/{job}/results",
    "/dashboard/environments",
    "/dashboard/environments/production",
    "/dashboard/environments/production/edit",
    "/dashboard/deployments/{job}",
    "/dashboard/deployments/{job}/changes",
    "/dashboard/pipelines",
    "/dashboard/pipelines/self",
    "/dashboard/pipelines/self/edit",
    "/dashboard/pipelines/self/tests",
    "/dashboard/webhooks",
    "/dashboard/webhooks/hub",
    "/dashboard/repositories",
    "/dashboard/connections/hub/repositories",
    "/dashboard/reports/access",
    "/dashboard/reports/agents/csv",
    "/dashboard/reports/integrity",
    "/dashboard/reports/rotations/csv",
    "/dashboard/reports/settings/print",
)

MACHINE: tuple[tuple[str, str, bytes], ...] = (
    ("POST", "jobs/{job}/start", b'{"attempt": 1}'),
    ("POST", "jobs/{job}/definition", b'{"attempt": 1, "text": "steps: [{run: make}]"}'),
    ("POST", "jobs/{job}/log/1/1", b"hello"),
    ("POST", "jobs/{job}/artifacts/1/fetch", b'{"jobs": []}'),
    ("POST", "jobs/{job}/caches/1/restore", b'{"key": "deps"}'),
    ("POST", "jobs/{job}/reports/1/0", b"<testsuite/>"),
    ("POST", "jobs/{job}/finish", b'{"attempt": 1, "exit_code": 0, "log_chunks": 1}'),
)

lasting_outages = pytest.mark.parametrize("kind", [Fault.THROTTLE, Fault.ERROR, Fault.TIMEOUT, Fault.REFUSED])


def check_retry_after(answer: requests.Response) -> None:
    assert answer.status_code == 503
    assert int(answer.headers["Retry-After"]) > 0


def check_unavailable(answer: requests.Response) -> None:
    check_retry_after(answer)
    assert answer.headers["Content-Type"] == CONTENT_TYPE
    assert answer.json()["status"] == 503
    assert answer.json()["code"] == "unavailable"


@lasting_outages
def test_a_program_gets_a_problem(askers: Askers, kind: Fault) -> None:
    with outage(kind):
        for method, path, body in PROGRAM:
            check_unavailable(askers.of_the_program(method, path, json=body)())


@lasting_outages
def test_a_program_whose_token_has_to_be_looked_up_gets_a_problem(askers: Askers, kind: Fault) -> None:
    askers.program.session.headers["Authorization"] = f"Bearer hcp_{'x' * 43}"
    with outage(kind):
        check_unavailable(askers.program.get("/jobs"))


@lasting_outages
def test_an_agent_gets_a_problem(askers: Askers, kind: Fault) -> None:
    with outage(kind):
        check_unavailable(askers.machine.heartbeat())
        for method, path, body in MACHINE:
            check_unavailable(askers.of_the_machine(method, path, body)())


@lasting_outages
def test_a_machine_that_enrols_gets_a_problem(askers: Askers, kind: Fault) -> None:
    body = {"token": f"hce_{'x' * 43}", "name": "new", "region": "eu", "labels": [], "slots": 1}
    with outage(kind):
        check_unavailable(askers.machine.post("/agents/enrol", json=body))


@lasting_outages
def test_a_provider_gets_a_problem_and_sends_its_webhook_again(askers: Askers, kind: Fault) -> None:
    connected()
    with outage(kind):
        check_unavailable(send(askers.program.server, github_push()))
        check_unavailable(send(askers.program.server, github_push(), connection="hub"))
    assert send(askers.program.server, github_push()).status_code == 202


@lasting_outages
def test_a_browser_gets_a_page(askers: Askers, kind: Fault) -> None:
    with outage(kind):
        for path in PAGES:
            answer = askers.of_the_browser(path)()
            check_retry_after(answer)
            assert answer.headers["Content-Type"].startswith("text/html")


@lasting_outages
def test_a_user_who_signs_in_gets_a_page(askers: Askers, kind: Fault) -> None:
    del askers.browser.session.cookies["sessionid"]
    form = askers.sign_in_form()
    with outage(kind):
        check_retry_after(askers.browser.post("/signin", data=form))


@lasting_outages
def test_health_does_not_depend_on_the_database(askers: Askers, kind: Fault) -> None:
    with outage(kind):
        assert askers.program.get("/health").status_code == 200


def test_all_is_well_again_when_the_outage_ends(askers: Askers) -> None:
    with outage(Fault.THROTTLE):
        check_unavailable(askers.program.get("/jobs"))
    assert askers.program.get("/jobs").status_code == 200
    assert askers.browser.get("/dashboard/").status_code == 200
    assert askers.machine.heartbeat(running=[{"job_id": askers.job_id, "attempt": 1}]).status_code == 200


ASKED: dict[str, Callable[[Askers], Ask]] = {
    "a program": lambda askers: askers.of_the_program("GET", "/jobs"),
    "a browser": lambda askers: askers.of_the_browser("/dashboard/"),
    "an agent": lambda askers: askers.machine.heartbeat,
}


@pytest.mark.parametrize("kind", [Fault.TIMEOUT, Fault.THROTTLE])
@pytest.mark.parametrize("who", ASKED)
def test_while_dynamodb_does_not_answer_requests_fail_soon(askers: Askers, who: str, kind: Fault) -> None:
    ask = ASKED[who](askers)
    with outage(kind) as waits:
        check_retry_after(ask())
    assert 0 < sum(waits) < SOON
