"""The permissions of the pages, and the database calls that they cost."""

import re

import pytest

from tests.clients import Client
from tests.dashboard.conftest import csrf_token
from tests.dashboard.scene import Scene
from tests.faults.injection import Fault, outage
from tests.metering import dynamodb_calls

# An identifier that no record has.
UNKNOWN_ID = "01kb0000000000000000000000"

PAGES = [
    "/dashboard/",
    "/dashboard/latest",
    "/dashboard/status",
    "/dashboard/recent",
    "/dashboard/jobs",
    "/dashboard/jobs/new",
    f"/dashboard/jobs/{UNKNOWN_ID}",
    f"/dashboard/jobs/{UNKNOWN_ID}/live",
    "/dashboard/agents",
    f"/dashboard/agents/{UNKNOWN_ID}",
    "/dashboard/environments",
    "/dashboard/environments/nothing",
    f"/dashboard/deployments/{UNKNOWN_ID}",
    "/dashboard/pipelines",
    "/dashboard/pipelines/nothing/tests",
    "/dashboard/pipelines/nothing",
    "/dashboard/pipelines/nothing/edit",
    "/dashboard/new-pipeline",
    "/dashboard/runs",
    f"/dashboard/runs/{UNKNOWN_ID}",
    f"/dashboard/runs/{UNKNOWN_ID}/results",
    "/dashboard/audit",
    "/dashboard/audit/nothing",
    "/dashboard/reports",
    "/dashboard/reports/access",
]


@pytest.mark.parametrize("page", PAGES)
def test_a_page_without_a_session_redirects_to_the_sign_in_and_back(outsider: Client, page: str) -> None:
    answer = outsider.get(page)
    assert answer.status_code == 302
    assert answer.headers["Location"] == f"/signin?next={page}"


def test_a_part_of_a_page_whose_session_has_expired_redirects_the_whole_page_to_the_sign_in(outsider: Client) -> None:
    answer = outsider.get(
        "/dashboard/", headers={"HX-Request": "true", "HX-Current-URL": f"{outsider.server}/dashboard/"}
    )
    assert answer.headers["HX-Redirect"] == "/signin?next=/dashboard/"
    assert "Sign in" not in answer.text


@pytest.mark.parametrize(
    "page",
    [f"/dashboard/{name}" for name in ("", "recent", "runs", "jobs", "agents", "pipelines", "pipelines/self")],
)
def test_a_viewer_sees_the_pages_without_the_buttons(viewer: Client, scene: Scene, page: str) -> None:
    scene.pipeline()
    scene.job()
    answer = viewer.get(page)
    assert answer.status_code == 200
    assert "/dashboard/jobs/new" not in answer.text


def test_a_viewer_can_neither_queue_nor_cancel_nor_retry_a_job(viewer: Client, scene: Scene) -> None:
    scene.pipeline()
    job_id = scene.job()
    token = csrf_token(viewer.get("/dashboard/").text)
    for path in ("jobs/new", f"jobs/{job_id}/cancel", f"jobs/{job_id}/retry"):
        answer = viewer.post(f"/dashboard/{path}", data={"csrfmiddlewaretoken": token, "pipeline": "self"})
        assert answer.status_code == 403
    assert "Queued" in viewer.get(f"/dashboard/jobs/{job_id}").text


@pytest.mark.parametrize("action", ["cancel", "retry"])
def test_a_button_without_its_csrf_token_does_nothing(operator: Client, scene: Scene, action: str) -> None:
    scene.pipeline()
    job_id = scene.job()
    assert operator.post(f"/dashboard/jobs/{job_id}/{action}").status_code == 403
    assert "Queued" in operator.get(f"/dashboard/jobs/{job_id}").text


@pytest.mark.parametrize("action", ["cancel", "retry"])
def test_a_get_request_cannot_cancel_or_retry_a_job(operator: Client, scene: Scene, action: str) -> None:
    scene.pipeline()
    job = f"/dashboard/jobs/{scene.job()}"
    answer = operator.get(f"{job}/{action}", allow_redirects=False)
    assert (answer.status_code, answer.headers["Location"]) == (302, job)
    assert "Queued" in operator.get(job).text


@pytest.mark.parametrize(
    ("path", "page"),
    [
        ("pipelines/self/new-schedule", "pipelines/self/schedules"),
        ("new-connection", "webhooks"),
        ("webhooks/hub/change", "webhooks/hub"),
        ("connections/hub/pipelines", "connections/hub/repositories"),
        ("environments/production/deploy", "environments/production"),
        ("notifications/new-target", "notifications"),
        ("notifications/targets/a/secret", "notifications/targets/a"),
        ("notifications/failed/a/retry", "notifications"),
        ("artifacts/" + "-".join([UNKNOWN_ID, UNKNOWN_ID, "1", "0" * 32]) + "/delete", ""),
    ],
)
def test_the_address_of_a_refused_form_leads_to_the_page_with_the_form(outsider: Client, path: str, page: str) -> None:
    answer = outsider.get(f"/dashboard/{path}", allow_redirects=False)
    assert (answer.status_code, answer.headers["Location"]) == (302, f"/dashboard/{page}")
    assert outsider.put(f"/dashboard/{path}").status_code in (403, 405)


@pytest.mark.parametrize(
    ("path", "page"),
    [
        ("/dashboard", "/dashboard/"),
        ("/dashboard/runs/?pipeline=a%20b", "/dashboard/runs?pipeline=a%20b"),
        ("/dashboard/pipelines/a%3Fb/", "/dashboard/pipelines/a%3Fb"),
        ("/docs/", "/docs"),
        ("/guide/", "/guide"),
        ("/signin/", "/signin"),
        ("/account/tokens/", "/account/tokens"),
    ],
)
def test_a_slash_too_many_or_too_few_leads_to_the_page(outsider: Client, path: str, page: str) -> None:
    answer = outsider.get(path, allow_redirects=False)
    assert (answer.status_code, answer.headers["Location"]) == (302, page)


@pytest.mark.parametrize("path", ["/jobs/", "/docs//", "/dashboard/nothing/", "/runs/"])
def test_other_addresses_are_taken_as_they_are_written(outsider: Client, path: str) -> None:
    assert outsider.get(path, allow_redirects=False).status_code == 404
    assert outsider.post("/dashboard/runs/").status_code in (403, 404)


@pytest.mark.parametrize(
    "path",
    [
        f"jobs/{UNKNOWN_ID}",
        f"jobs/{UNKNOWN_ID}/live",
        f"agents/{UNKNOWN_ID}",
        "jobs/no-such-thing",
        "agents/%00",
        "nothing",
    ],
)
def test_an_unknown_address_or_identifier_shows_a_not_found_page(operator: Client, path: str) -> None:
    answer = operator.get(f"/dashboard/{path}")
    assert answer.status_code == 404
    assert answer.headers["Content-Type"].startswith("text/html")
    assert "Not found" in answer.text
    assert "Traceback" not in answer.text


@pytest.mark.parametrize(
    ("path", "back"),
    [
        (f"/dashboard/runs/{UNKNOWN_ID}", "All runs"),
        (f"/dashboard/jobs/{UNKNOWN_ID}", "All jobs"),
        (f"/dashboard/agents/{UNKNOWN_ID}", "All agents"),
        ("/dashboard/pipelines/unknown", "All pipelines"),
        ("/dashboard/environments/unknown", "All environments"),
        (f"/dashboard/deployments/{UNKNOWN_ID}", "All environments"),
        ("/dashboard/secrets/UNKNOWN", "All secrets"),
        ("/dashboard/nothing", "Go to the overview"),
        ("/nothing", "Go to the overview"),
    ],
)
def test_a_page_that_is_not_found_keeps_the_navigation_and_leads_back(operator: Client, path: str, back: str) -> None:
    with dynamodb_calls() as metering:
        answer = operator.get(path)
    assert answer.status_code == 404
    assert 'href="/dashboard/agents"' in navigation(answer.text)
    assert f">{back}</a>" in answer.text
    assert "Find jobs by their ref" in answer.text
    # What an unknown address costs does not depend on the page: it reads nothing for its navigation.
    assert metering.calls <= 3


def navigation(page: str) -> str:
    found = re.search(r'<nav class="nav" aria-label="Main">.*?</nav>', page, re.DOTALL)
    return found[0] if found else ""


def test_an_outsider_gets_no_navigation_and_a_program_gets_a_problem(outsider: Client, operator: Client) -> None:
    page = outsider.get("/nothing")
    assert (page.status_code, navigation(page.text)) == (404, "")
    for path in ("/nothing", f"/jobs/{UNKNOWN_ID}"):
        answer = operator.get(path, headers={"Accept": "application/json"})
        assert answer.headers["Content-Type"] == "application/problem+json"
        assert answer.status_code == 404


def test_refusals_and_failures_keep_the_navigation(operator: Client, viewer: Client) -> None:
    forbidden = viewer.get("/dashboard/jobs/new")
    assert (forbidden.status_code, bool(navigation(forbidden.text))) == (403, True)
    without_token = operator.post("/dashboard/jobs/new")
    assert (without_token.status_code, bool(navigation(without_token.text))) == (403, True)
    with outage(Fault.REFUSED):
        failed = operator.get("/dashboard/jobs")
    assert (failed.status_code, bool(navigation(failed.text))) == (503, True)


@pytest.mark.parametrize(
    "query",
    [
        "jobs?cursor=forged",
        "jobs?cursor=%F0%9F%99%82",
        "jobs?status=sleeping",
        "jobs?agent_id=%00",
        "jobs?git_ref=" + "x" * 3000,
        "runs?cursor=forged",
        "runs?status=sleeping",
        "runs?event=%00",
        "runs?branch=" + "x" * 3000,
        "runs?requested_by=%00",
        "jobs/new?pipeline=%00",
        "pipelines/%00",
        "agents?region=../..",
        "agents?status=asleep",
        "agents?cursor=forged",
        "pipelines?cursor=forged",
        f"jobs/{UNKNOWN_ID}/live?offset=-1",
        f"jobs/{UNKNOWN_ID}?offset=ten",
    ],
)
def test_an_invalid_query_never_causes_a_server_error(operator: Client, query: str) -> None:
    answer = operator.get(f"/dashboard/{query}")
    assert answer.status_code in {200, 400, 404}
    assert answer.headers["Content-Type"].startswith("text/html")


@pytest.mark.parametrize(
    "query", ["jobs?cursor=forged", "agents?cursor=forged", "pipelines?cursor=forged", "jobs?status=x"]
)
def test_a_forged_cursor_or_unknown_filter_shows_the_invalid_request_page(operator: Client, query: str) -> None:
    answer = operator.get(f"/dashboard/{query}")
    assert answer.status_code == 400
    assert "Invalid request" in answer.text


@pytest.mark.parametrize("page", PAGES)
def test_pages_send_and_obey_a_strict_content_security_policy(operator: Client, page: str) -> None:
    answer = operator.get(page)
    if answer.status_code == 200:
        policy = answer.headers["Content-Security-Policy"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
    for forbidden in (" style=", "<style", "<script>", " onclick", " onload"):
        assert forbidden not in answer.text


@pytest.mark.parametrize("jobs", [0, 25])
def test_the_overview_costs_six_calls_however_many_jobs_there_are(operator: Client, scene: Scene, jobs: int) -> None:
    scene.pipeline()
    scene.agent()
    for _ in range(jobs):
        scene.job()
    with dynamodb_calls() as metering:
        assert operator.get("/dashboard/").status_code == 200
    assert metering.calls <= 6, metering.operations
    assert metering.write_units == 0


def test_a_running_jobs_page_and_its_refresh_cost_six_calls(operator: Client, scene: Scene) -> None:
    scene.pipeline()
    agent = scene.agent()
    scene.job()
    job_id = scene.start(agent)
    scene.log(agent, job_id, b"line\n" * 100)
    for path in ("", "/live?offset=0"):
        with dynamodb_calls() as metering:
            assert operator.get(f"/dashboard/jobs/{job_id}{path}").status_code == 200
        assert metering.calls <= 6, metering.operations


def test_a_page_may_not_be_stored_by_a_shared_cache(operator: Client) -> None:
    headers = operator.get("/dashboard/").headers
    assert "private" in headers["Cache-Control"]
    assert "HX-Request" in headers["Vary"]
