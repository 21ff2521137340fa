"""Runs in the admin."""

import re
from html import unescape

import pytest

from apps.audit.actions import Action
from apps.jobs.models import Job
from apps.jobs.selectors import run_view
from tests.admin.conftest import Browser, keys, rows
from tests.audit.trail import event, write
from tests.dashboard.scene import Scene
from tests.jobs.runs import DIAMOND, STEPS, Worker, graph_pipeline
from tests.metering import dynamodb_calls

RUNS = "/admin/jobs/run/"


def listed(page: str) -> list[str]:
    return [row.split()[0] for row in rows(page)]


@pytest.fixture
def worker(scene: Scene) -> Worker:
    graph_pipeline()
    return Worker(scene.agent())


@pytest.fixture
def runs(scene: Scene, worker: Worker) -> dict[str, str]:
    """A run of a graph that has failed, one of one job that an agent runs, and one that waits."""
    graph = worker.run(f"jobs: {{only: {{{STEPS}}}}}")
    worker.finish_named(graph, only=1)
    scene.pipeline()
    running = run_of(scene.job())
    worker.take()
    return {"graph": graph, "running": running, "waiting": run_of(scene.job())}


def run_of(job_id: str) -> str:
    return str(Job.get(job_id).run_id)


def test_runs_are_listed_newest_first_with_the_status_that_users_see(viewer: Browser, runs: dict[str, str]) -> None:
    page = viewer.page(RUNS)
    assert listed(page) == [runs["waiting"], runs["running"], runs["graph"]]
    waiting, running, graph = rows(page)
    assert re.search(r"self main api queued Ada \d{4}-\d\d-\d\d \d\d:\d\d:\d\d -$", waiting), waiting
    assert " running " in running
    assert re.search(r"graph main api failed operator [\d: -]+ \d+ s$", graph), graph
    assert keys(page) == []


def test_those_that_have_not_ended_and_those_of_a_pipeline_are_found(viewer: Browser, runs: dict[str, str]) -> None:
    unended = [runs["waiting"], runs["running"]]
    assert listed(viewer.page(RUNS, params={"open": "open"})) == unended
    assert listed(viewer.page(RUNS, params={"q": "Graph"})) == [runs["graph"]]
    assert listed(viewer.page(RUNS, params={"q": "self", "open": "open"})) == unended
    assert listed(viewer.page(RUNS, params={"q": "graph", "open": "open"})) == []
    assert listed(viewer.page(RUNS, params={"q": runs["graph"].upper()})) == [runs["graph"]]
    assert listed(viewer.page(RUNS, params={"q": runs["graph"], "open": "open"})) == []
    for query in ("status=failed", "event=api", "pipeline=graph", "open=due"):
        assert viewer.get(f"{RUNS}?{query}", allow_redirects=False).status_code in (302, 400)


def test_a_list_of_runs_goes_on_page_by_page(
    viewer: Browser, runs: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("apps.jobs.admin.RunAdmin.list_per_page", 2)
    first = viewer.page(RUNS)
    older = re.search(r'href="(\?p=[^"]+)"[^>]*rel="next"', first)
    assert older, first
    assert listed(first) + listed(viewer.page(RUNS + unescape(older[1]))) == [
        runs["waiting"],
        runs["running"],
        runs["graph"],
    ]


def test_a_page_of_runs_is_as_many_calls_however_many_there_are(viewer: Browser, runs: dict[str, str]) -> None:
    """After the session and the user: the days with jobs, the index, the runs, and the jobs of those that are open."""
    viewer.page(RUNS)
    for query, own in (
        ("", ["Query", "Query", "BatchGetItem", "BatchGetItem"]),
        ("?open=open", ["Query", "BatchGetItem", "BatchGetItem"]),
        ("?q=graph", ["Query", "BatchGetItem"]),
        (f"?q={runs['graph']}", ["GetItem"]),
    ):
        with dynamodb_calls() as counted:
            viewer.page(RUNS + query)
        assert counted.operations[-len(own) :] == own, query
        assert counted.calls <= len(own) + 2
    with dynamodb_calls() as counted:
        viewer.page(f"{RUNS}{runs['graph']}/change/")
    assert counted.operations[-2:] == ["GetItem", "Query"]


def test_a_run_links_to_its_jobs_its_pipeline_and_the_dashboard(viewer: Browser, worker: Worker) -> None:
    run_id = worker.run(DIAMOND)
    page = viewer.page(f"{RUNS}{run_id}/change/")
    nodes = run_view(run_id).nodes
    links = re.findall(r'<a href="/admin/jobs/job/(\w+)/change/">(\w+)</a>', page)
    assert sorted(links) == sorted((node.job_id, name) for name, node in nodes.items())
    assert "more" not in re.findall(r"</a>([^<]*)</div>", page)
    assert f'href="/dashboard/runs/{run_id}"' in page
    assert 'href="/admin/pipelines/pipeline/graph/change/"' in page
    assert 'name="_save"' not in page
    job = viewer.page(f"/admin/jobs/job/{nodes['build'].job_id}/change/")
    assert f'href="/admin/jobs/run/{run_id}/change/"' in job


def test_a_run_of_many_jobs_names_the_first_ones(
    viewer: Browser, worker: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("apps.jobs.admin._JOBS_NAMED", 2)
    run_id = worker.run(DIAMOND)
    page = viewer.page(f"{RUNS}{run_id}/change/")
    assert len(re.findall(r'href="/admin/jobs/job/', page)) == 2 + 1
    assert " and 3 more, which are on the dashboard" in page


def test_a_run_of_one_job_links_to_that(viewer: Browser, runs: dict[str, str]) -> None:
    page = viewer.page(f"{RUNS}{runs['running']}/change/")
    (job,) = re.findall(r'<a href="/admin/jobs/job/(\w+)/change/">\1</a>', page)
    assert run_of(job) == runs["running"]
    assert '<div class="readonly">running</div>' in page


def test_a_run_is_shown_without_what_it_was_given_to_keep(admin: Browser, scene: Scene) -> None:
    scene.pipeline()
    run_id = run_of(scene.job(env={"TOKEN": "do not show this"}))
    for path in (RUNS, f"{RUNS}{run_id}/change/", f"{RUNS}{run_id}/history/"):
        assert "do not show this" not in admin.page(path)


def test_the_history_of_a_run_begins_with_the_creation_of_its_first_job(viewer: Browser, worker: Worker) -> None:
    run_id = worker.run(DIAMOND)
    write([event(f"run:{run_id}", action=Action.RUN_CANCELLED), event("run:another", action=Action.RUN_EXTENDED)])
    acts = [re.search(r"((?:job|run) \w+)", line)[1] for line in rows(viewer.page(f"{RUNS}{run_id}/history/"))]
    assert acts[0] == "run cancelled"
    assert acts[-1] == "job created"
    assert "run expanded" in acts
    assert "run extended" not in acts


@pytest.mark.parametrize("key", ["x", "01ka0000000000000000000000", "heads_23graph_23main"])
def test_a_run_that_does_not_exist_leads_to_the_list(viewer: Browser, worker: Worker, key: str) -> None:
    worker.run(DIAMOND)
    assert "This run does not exist." in viewer.said(viewer.get(f"{RUNS}{key}/change/"))


@pytest.mark.parametrize("tail", ["add/", "{}/delete/"])
def test_no_run_is_added_or_deleted_here(admin: Browser, runs: dict[str, str], tail: str) -> None:
    assert admin.get(RUNS + tail.format(runs["graph"])).status_code == 403
    assert admin.post(f"{RUNS}{runs['graph']}/change/", data={"status": "completed"}).status_code == 403
