"""The page of a run with the graph of its jobs, the list of runs, and their buttons."""

import html
import re
from datetime import timedelta
from typing import Any

import pytest
from django.core.cache import cache

from apps.jobs.models import Artifact, Job, Run
from apps.jobs.selectors.queue import queue_registry
from apps.jobs.selectors.runs import run_view
from apps.jobs.services import job_cancel, job_create, jobs_claim, outbox_work, run_cancel
from controlplane.lib import clock
from controlplane.lib.actor import Actor
from tests.clients import Client
from tests.conftest import OPERATOR
from tests.dashboard.conftest import csrf_token
from tests.dashboard.scene import Scene
from tests.dashboard.test_tests import report, words
from tests.jobs.checked import HEAD, SHOP, checked_job
from tests.jobs.runs import Worker, graph_pipeline, states, status
from tests.jobs.test_reports_read import file
from tests.metering import dynamodb_calls
from tests.sources.conftest import connection_of
from tests.sources.conftest import provider as provider
from tests.sources.fake_provider import FakeProvider

STEPS = "steps: [{run: make}]"
GRAPH = f"""
jobs:
  build: {{{STEPS}}}
  test: {{needs: build, matrix: {{axes: {{n: [1, 2, 3]}}}}, {STEPS}}}
  docs: {{if: "tag != ''", {STEPS}}}
  gpu: {{labels: [gpu], {STEPS}}}
  ship: {{needs: test, concurrency: {{group: prod}}, {STEPS}}}
"""


class Unlabelled(Worker):
    """An agent that gets no job which requires a label."""

    def claim(self, *, limit: int = 1) -> list[str]:
        claimed = jobs_claim(agent=self.agent, sets=queue_registry().sets_for(()), limit=limit)
        return [assignment.job_id for assignment in claimed]


@pytest.fixture
def worker(agent: Actor) -> Worker:
    graph_pipeline()
    return Unlabelled(agent)


@pytest.fixture
def run_id(worker: Worker) -> str:
    return worker.run(GRAPH)


def page_of(browser: Client, run_id: str, query: str = "") -> str:
    answer = browser.get(f"/dashboard/runs/{run_id}{query}")
    assert answer.status_code == 200
    return html.unescape(answer.text)


def job_of(run_id: str, name: str) -> Job:
    return Job.get(run_view(run_id).nodes[name].job_id)


def node(page: str, name: str) -> str:
    """What the graph says about a job or a matrix."""
    found = re.search(rf'aria-label="({re.escape(name)}: [^"]*)"', page)
    return found[1] if found else ""


def test_the_run_page_draws_the_graph_with_the_state_of_each_job_and_folded_matrices(
    operator: Client, worker: Worker, run_id: str
) -> None:
    worker.finish_named(run_id)
    page = page_of(operator, run_id)
    assert '<svg class="graph"' in page
    assert node(page, "build") == "build: completed"
    assert node(page, "test") == "test: 3 jobs: 3 queued. Unfold"
    assert node(page, "ship") == "ship: waiting"
    assert node(page, "docs") == "docs: skipped"
    for name in ("test (1)", "test (2)", "test (3)"):
        assert not node(page, name)
        assert node(page_of(operator, run_id, "?open=test"), name) == f"{name}: queued"
    assert "#clock" in page
    assert "#tick" in page


def test_the_page_says_why_each_job_waits_was_skipped_or_failed(operator: Client, worker: Worker, run_id: str) -> None:
    text = words(page_of(operator, run_id))
    assert re.search(r"ship Waiting for .*; it needs test \(1\), test \(2\), test \(3\) to end\.", text)
    assert re.search(r"docs its condition is false: tag != '' Skipped", text)
    assert "no agent has label gpu: start an agent that has" in text
    worker.finish_named(run_id, build=1)
    text = words(page_of(operator, run_id))
    assert "test 3 jobs 3 skipped" in text
    assert re.search(r"ship test \(1\) was skipped Skipped", text)


def test_a_run_in_which_no_agent_can_do_anything_says_so_at_the_top(
    operator: Client, worker: Worker, run_id: str
) -> None:
    cache.clear()
    assert 'id="stuck"' not in page_of(operator, run_id)
    worker.finish_named(run_id, build=1)
    assert 'id="stuck" data-code="no_agent_with_labels"' in page_of(operator, run_id)


def test_a_job_opens_beside_the_graph_with_a_link_to_its_own_page(
    operator: Client, worker: Worker, run_id: str
) -> None:
    job = worker.take()
    assert 'id="beside"' not in page_of(operator, run_id)
    page = page_of(operator, run_id, "?job=build&open=test")
    beside = page[page.index('id="beside"') :]
    assert f'id="beside-open" href="/dashboard/jobs/{job.job_id}"' in beside
    assert "Running" in words(beside)
    assert 'aria-current="true" aria-label="build: running"' in page
    # What the reader has chosen stays, in links and in the refresh.
    assert "?open=test&job=build&seen=running" in page
    assert "Needs test" in words(page_of(operator, run_id, "?job=ship"))
    assert 'id="beside"' not in page_of(operator, run_id, "?job=unknown&open=unknown")


def test_a_job_that_waits_says_so_beside_the_graph(operator: Client, worker: Worker) -> None:
    text = f"jobs: {{ship: {{concurrency: {{group: prod}}, {STEPS}}}}}"
    first, second = worker.run(text), worker.run(text)
    page = page_of(operator, second, "?job=ship")
    assert 'id="beside-waiting" data-code="group_held"' in page
    assert f"taken by ship of run {first}" in page


def test_the_page_of_a_job_leads_to_its_run_and_has_its_name_there(
    operator: Client, worker: Worker, run_id: str
) -> None:
    page = html.unescape(operator.get(f"/dashboard/jobs/{job_of(run_id, 'ship').job_id}").text)
    assert f'id="fact-run" class="mono" href="/dashboard/runs/{run_id}"' in page
    assert "graph ship main" in words(page)
    assert "it needs test (1), test (2), test (3) to end" in page
    skipped = operator.get(f"/dashboard/jobs/{job_of(run_id, 'docs').job_id}").text
    assert "skip-idle.svg" in skipped
    assert "notice-error" not in skipped
    assert "The job did not run, so it has no log." in skipped


def test_the_lists_name_jobs_by_their_name_in_the_run(operator: Client, worker: Worker, run_id: str) -> None:
    listed = words(operator.get("/dashboard/jobs?status=waiting").text)
    assert "graph test (2)" in listed
    assert "graph docs" in words(operator.get("/dashboard/jobs?status=skipped").text)
    assert "graph ship" in words(operator.get("/dashboard/").text)


def test_a_refresh_has_the_head_only_when_it_has_changed(operator: Client, worker: Worker, run_id: str) -> None:
    asked = re.search(r'id="run" class="live" hx-get="([^"]+)"', operator.get(f"/dashboard/runs/{run_id}").text)
    assert asked
    address, headers = html.unescape(asked[1]), {"HX-Request": "true"}
    part = operator.get(address, headers=headers).text
    assert part.startswith('<div id="run"')
    assert "run-head" not in part
    worker.finish_named(run_id, build=1)
    assert 'id="run-head" class="page-head" hx-swap-oob="true"' in operator.get(address, headers=headers).text


def test_an_ended_run_is_not_refreshed(operator: Client, worker: Worker) -> None:
    run_id = worker.run(f"jobs: {{a: {{{STEPS}}}, b: {{needs: a, {STEPS}}}}}")
    worker.finish_named(run_id)
    assert 'class="live" hx-get="/dashboard/runs/' in page_of(operator, run_id).partition("run-results")[0]
    worker.finish_named(run_id)
    page = page_of(operator, run_id)
    assert 'hx-get="/dashboard/runs/' not in page.partition("run-results")[0]
    assert "tick-good.svg" in page


def press(browser: Client, run_id: str, action: str, **members: str) -> str:
    token = csrf_token(browser.get("/dashboard/").text)
    answer = browser.post(f"/dashboard/runs/{run_id}/{action}", data={"csrfmiddlewaretoken": token, **members})
    assert answer.status_code == 302, answer.text
    return page_of(browser, run_id)


def test_the_run_is_cancelled_and_its_failed_jobs_or_all_run_again(
    operator: Client, worker: Worker, run_id: str
) -> None:
    assert "Cancel run" in page_of(operator, run_id)
    worker.finish_named(run_id, build=1)
    job_cancel(actor=OPERATOR, job_id=job_of(run_id, "gpu").job_id)
    page = page_of(operator, run_id)
    assert "Cancel run" not in page
    assert "Run all again" in page
    before = run_view(run_id).nodes
    page = press(operator, run_id, "retry")
    assert states(run_id)["build"] == "queued"
    after = run_view(run_id).nodes
    assert after["docs"].job_id == before["docs"].job_id
    assert f'retry of <a class="mono" href="/dashboard/jobs/{before["build"].job_id}"' in page
    press(operator, run_id, "cancel")
    assert status(run_id) == "cancelled"
    press(operator, run_id, "retry", everything="true")
    assert run_view(run_id).nodes["docs"].job_id != before["docs"].job_id
    assert status(run_id) == "running"


def test_a_button_that_comes_too_late_shows_an_error(operator: Client, worker: Worker) -> None:
    run_id = worker.run(f"jobs: {{a: {{{STEPS}}}, b: {{{STEPS}}}}}")
    worker.finish_named(run_id)
    assert "ended already" in press(operator, run_id, "cancel")
    assert "notice-error" in press(operator, run_id, "retry")


def test_a_viewer_sees_a_run_without_buttons_and_cannot_press_them(viewer: Client, worker: Worker, run_id: str) -> None:
    page = page_of(viewer, run_id)
    assert "Cancel run" not in page
    assert "/retry" not in page
    token = csrf_token(page)
    for action in ("cancel", "retry"):
        answer = viewer.post(f"/dashboard/runs/{run_id}/{action}", data={"csrfmiddlewaretoken": token})
        assert answer.status_code == 403
    assert status(run_id) == "running"


def test_jobs_that_took_an_earlier_result_lead_to_it_and_the_page_says_how_much_time_that_saved(
    operator: Client, worker: Worker, run_id: str
) -> None:
    earlier = job_of(run_id, "docs").job_id
    for name, seconds in (("build", 200), ("test (1)", 40)):
        record = job_of(run_id, name)
        record.update(actions=[Job.reused_from.set(earlier), Job.saved_seconds.set(seconds)])
    page = page_of(operator, run_id, "?job=build")
    assert "saved 4 min: 2 jobs took the result of an earlier one" in words(page)
    assert f'id="beside-origin" class="mono" href="/dashboard/jobs/{earlier}"' in page
    assert "Saved 3 min 20 s" in words(page)
    own = operator.get(f"/dashboard/jobs/{job_of(run_id, 'build').job_id}").text
    assert f'id="reused-from" class="mono" href="/dashboard/jobs/{earlier}"' in own


def test_the_only_job_of_a_run_is_shown_without_a_graph(
    operator: Client, scene: Scene, agent: Actor, running_job: str
) -> None:
    run_id = str(Job.get(running_job).run_id)
    page = page_of(operator, run_id)
    assert '<svg class="graph"' not in page
    assert f'id="beside-open" href="/dashboard/jobs/{running_job}"' in page
    scene.finish(agent, running_job, exit_code=1)
    page = page_of(operator, run_id)
    assert "Failed" in words(page)
    press(operator, run_id, "retry", everything="true")
    assert Job.get(running_job).retried_by


def stored_artifact(job: Job, *, name: str = "reports") -> Artifact:
    artifact = Artifact(
        job.run_id,
        f"{job.job_id}-1-{'a' * 32}",
        job_id=job.job_id,
        attempt=1,
        size=2_500_000,
        sha256="0" * 64,
        checksum="",
        media="application/x-tar+gzip",
        stored_name="nothing/there",
        created_at=job.created_at,
        stored_at=clock.timestamp(clock.now()),
        expires_at=clock.now() + timedelta(days=1),
        name=name,
        node=job.node,
        pipeline=job.pipeline,
        files=12,
        expire_in=86_400,
    )
    artifact.save()
    return artifact


def test_artifacts_are_listed_on_the_pages_of_job_and_run_and_deleted_by_operators(
    operator: Client, viewer: Client, worker: Worker, run_id: str
) -> None:
    worker.finish(worker.take())
    artifact = stored_artifact(job_of(run_id, "build"))
    job_page = f"/dashboard/jobs/{artifact.job_id}"
    for page in (page_of(operator, run_id), operator.get(job_page).text):
        assert f'href="/artifacts/{artifact.artifact_id}/download"' in page
        assert re.search(r"reports .*build .* 12 2.4.MB in (23 h|1 d)", words(page))
    assert f"/runs/{run_id}/artifacts.zip" in page_of(operator, run_id)
    delete = f"/dashboard/artifacts/{artifact.artifact_id}/delete"
    assert delete not in page_of(viewer, run_id)
    token = csrf_token(viewer.get("/dashboard/").text)
    assert viewer.post(delete, data={"csrfmiddlewaretoken": token}).status_code == 403
    token = csrf_token(operator.get("/dashboard/").text)
    # A job that took this one's result has its artifacts, too.
    other = job_of(run_id, "ship")
    other.update(actions=[Job.reused_from.set(artifact.job_id), Job.saved_seconds.set(1)])
    assert delete in operator.get(f"/dashboard/jobs/{other.job_id}").text
    answer = operator.post(delete, data={"csrfmiddlewaretoken": token, "back": "job"})
    assert answer.headers["Location"] == job_page
    assert delete not in page_of(operator, run_id)


def test_behind_a_gateway_the_page_offers_a_zip_up_to_its_limit_and_says_that_a_large_one_takes_time(
    viewer: Client, worker: Worker, run_id: str, monkeypatch: pytest.MonkeyPatch, settings: Any
) -> None:
    monkeypatch.setattr("apps.dashboard.views.artifacts.behind_gateway", lambda _request: True)
    settings.ARTIFACT_BUCKET = "artifacts"
    worker.finish(worker.take())
    artifact = stored_artifact(job_of(run_id, "build"))
    for size, is_offered, takes_time in ((3_900_000, True, False), (249e6, True, True), (251e6, False, True)):
        artifact.update(actions=[Artifact.size.set(int(size))])
        page = page_of(viewer, run_id)
        assert (f"/runs/{run_id}/artifacts.zip" in page) is is_offered
        assert ("begins within 20 seconds" in page) is (is_offered and takes_time)


def test_failures_of_tests_are_on_the_page_of_the_run(
    operator: Client, agent: Actor, worker: Worker, run_id: str
) -> None:
    job = worker.take()
    report(agent, job.job_id, 0, file("jest"))
    worker.finish(job, exit_code=1)
    assert "1 failed" in words(page_of(operator, run_id))
    part = operator.get(f"/dashboard/runs/{run_id}/results", headers={"HX-Request": "true"}).text
    assert part.startswith('<div id="run-results"')
    assert f'id="tests-{job.job_id}"' in part


def test_a_test_that_fails_in_several_jobs_is_shown_once_with_these_jobs(
    operator: Client, agent: Actor, worker: Worker, run_id: str
) -> None:
    worker.finish(worker.take())
    cells = [worker.take() for _ in range(3)]
    for cell in cells:
        report(agent, cell.job_id, 0, file("jest"))
    other = b'<testsuite><testcase name="alone"><failure message="broken"/></testcase></testsuite>'
    report(agent, cells[0].job_id, 1, other)
    for cell in cells:
        worker.finish(cell, exit_code=1)
    page = page_of(operator, run_id)
    tests = page[page.index('id="tests"') :]
    assert [page.count(f'id="tests-{cell.job_id}"') for cell in cells] == [1, 1, 1]
    assert tests.count("Slowest and flaky tests") == 1
    common, alone = (words(part) for part in re.findall(r"<details.*?</details>", tests, re.S))
    assert "in 3 jobs" in common
    assert all(f"test ({n})" in common for n in (1, 2, 3))
    assert "alone broken" in alone
    assert "jobs" not in alone


def test_a_run_page_costs_one_query_a_read_for_each_100_jobs_and_little_more(operator: Client, worker: Worker) -> None:
    matrix = f"matrix: {{axes: {{n: {[*range(150)]}}}}}"
    run_id = worker.run(f"jobs: {{a: {{{matrix}, {STEPS}}}, b: {{needs: a, {STEPS}}}}}")
    run_cancel(actor=OPERATOR, run_id=run_id)
    with dynamodb_calls() as metering:
        page = page_of(operator, run_id)
    assert node(page, "a") == "a: 150 jobs: 150 cancelled. Unfold"
    # The session and its user, the run, and its 152 jobs; then artifacts, tests and coverage.
    assert metering.operations == ["GetItem", "GetItem", "Query", "BatchGetItem", "BatchGetItem", *["Query"] * 3]
    with dynamodb_calls() as metering:
        operator.get(f"/dashboard/runs/{run_id}", headers={"HX-Request": "true"})
    assert metering.calls == 5
    unfolded = page_of(operator, run_id, "?open=a&job=b")
    assert "52 more jobs are in the graph" in words(unfolded)


def test_a_run_with_checks_says_where_they_are_and_why_one_is_not_shown(
    operator: Client, worker: Worker, provider: FakeProvider
) -> None:
    provider.repository_add(SHOP)
    connection_of(provider, "gitea", connection_id="github", token=provider.token_add(contents="read")).save()
    run_id = str(checked_job().run_id)
    outbox_work(seconds=5)
    assert f"Checks 0 at {SHOP} Not all are shown: {provider.url} answers with the status 403" in words(
        page_of(operator, run_id)
    )
    connection_of(provider, "gitea", connection_id="github", token=provider.token_add()).save()
    with clock.shifted(timedelta(minutes=16)):
        outbox_work(seconds=5)
    page = words(page_of(operator, run_id))
    assert f"Checks 1 at {SHOP}" in page
    assert "Not all are shown" not in page
    assert operator.get(f"/runs/{run_id}").json()["checks"] == {
        "connection_id": "github",
        "repository": SHOP,
        "commit": HEAD,
        "shown": 1,
        "problem": None,
    }
    assert 'id="checks"' not in page_of(operator, worker.run(f"jobs: {{one: {{{STEPS}}}}}"))


def test_runs_are_filtered_by_pipeline_branch_status_event_and_who_and_paged(operator: Client, scene: Scene) -> None:
    scene.pipeline()
    scene.pipeline("other")
    many = [str(Job.get(scene.job()).run_id) for _ in range(26)]
    event = str(job_create(actor=OPERATOR, pipeline="other", git_ref="v2").run_id)
    first = operator.get("/dashboard/runs").text
    older = re.search(r'id="next-page" href="([^"]+)"', first)
    assert older
    second = operator.get(html.unescape(older[1])).text
    for run_id in [*many, event]:
        assert (f"/dashboard/runs/{run_id}" in first) != (f"/dashboard/runs/{run_id}" in second)
    for query in ("pipeline=other", "branch=v2", "status=queued&pipeline=other", "event=api&branch=v2"):
        narrowed = operator.get(f"/dashboard/runs?{query}").text
        assert f"/dashboard/runs/{event}" in narrowed
        assert many[-1] not in narrowed
    assert event not in operator.get("/dashboard/runs?requested_by=Ada").text
    assert many[-1] in operator.get("/dashboard/runs?requested_by=Ada").text
    assert "No run matches" in operator.get("/dashboard/runs?event=page").text
    part = operator.get("/dashboard/runs", headers={"HX-Request": "true"}).text
    assert part.startswith('<div id="runs"')


def test_a_flag_is_shown_as_pipeline_files_write_it(operator: Client, worker: Worker) -> None:
    text = f"parameters: {{fail: {{type: flag, default: false}}}}\njobs: {{a: {{{STEPS}}}}}"
    assert "fail=false" in page_of(operator, worker.run(text))


def test_a_run_started_by_the_form_opens_the_run_page_and_says_that_the_page_started_it(
    operator: Client, scene: Scene
) -> None:
    scene.pipeline()
    form = operator.get("/dashboard/jobs/new").text
    data = {"csrfmiddlewaretoken": csrf_token(form), "pipeline": "self", "parameters": "level=high", "fresh": "on"}
    address = operator.post("/dashboard/jobs/new", data=data).headers["Location"]
    run_id = address.removeprefix("/dashboard/runs/")
    run = Run.get(run_id, "run")
    assert (run.event, run.reuse) == ("page", False)
    assert "Operator on the page" in words(page_of(operator, run_id))
    assert run_id in operator.get("/dashboard/runs?event=page").text
