"""The pages of runs and pipelines in a browser."""

import pytest
from axe_core_python.selenium import Axe
from django.core.cache import cache
from selenium.webdriver.common.keys import Keys

from apps.jobs.models import Job
from apps.jobs.selectors.runs import run_view
from controlplane.lib.actor import Actor
from tests.browser.conftest import Reader
from tests.dashboard.scene import Scene
from tests.dashboard.test_pipelines import PARAMETERS
from tests.dashboard.test_runs import GRAPH, Unlabelled, stored_artifact
from tests.jobs.runs import Worker, graph_pipeline


@pytest.fixture
def worker(agent: Actor) -> Worker:
    graph_pipeline()
    return Unlabelled(agent)


@pytest.fixture
def run_id(worker: Worker) -> str:
    return worker.run(GRAPH)


def test_a_job_opens_beside_the_graph_and_a_matrix_unfolds_without_leaving_the_page(
    reader: Reader, worker: Worker, run_id: str
) -> None:
    reader.open(f"/dashboard/runs/{run_id}")
    reader.script("window.stays = true")
    job_id = run_view(run_id).nodes["build"].job_id
    # With the keyboard: the link has the focus before and after.
    reader.script(f"document.getElementById('node-{job_id}').focus()")
    reader.press(Keys.ENTER)
    reader.wait_for_text("#beside", "Open job")
    reader.wait_for_text("#announcer", "Beside the graph: build: queued")
    assert reader.script("return document.activeElement.id") == f"node-{job_id}"
    ring = "return getComputedStyle(document.activeElement.querySelector('.node-box')).strokeWidth"
    assert reader.script(ring) == "3.5px"
    reader.click("#matrix-test .node-box")
    reader.wait(lambda: "test (2)" in str(reader.script("return document.querySelector('.graph').outerHTML")))
    assert "open=test&job=build" in reader.driver.current_url
    # What was chosen stays when the run goes on, and what its jobs have stored appears.
    stored_artifact(Job.get(job_id))
    worker.finish_named(run_id)
    reader.wait_for_text("#beside", "Completed")
    reader.wait_for_text("#announcer", "2 of 7 jobs ended")
    assert reader.script("return document.querySelectorAll('.node[aria-label^=\"test (\"]').length") == 3
    reader.wait_for_text("#artifacts", "reports")
    reader.click("#beside-close")
    reader.wait(lambda: not reader.script("return document.getElementById('beside')"))
    reader.wait(lambda: reader.script("return document.activeElement.id") == f"node-{job_id}")
    reader.click("#matrix-test .node-box")
    reader.wait(lambda: "open=" not in reader.driver.current_url)
    assert reader.script("return window.stays")


def test_a_refresh_keeps_the_place_in_the_graph_and_the_focus(reader: Reader, worker: Worker, run_id: str) -> None:
    reader.look(width=390)
    reader.open(f"/dashboard/runs/{run_id}")
    job_id = run_view(run_id).nodes["ship"].job_id
    reader.script(f"document.getElementById('node-{job_id}').focus()")
    reader.script("document.getElementById('graph-scroll').scrollTo(300, 0)")
    worker.finish_named(run_id)
    reader.wait(lambda: "3 queued" in str(reader.script("return document.querySelector('.graph').outerHTML")))
    assert reader.script("return document.getElementById('graph-scroll').scrollLeft") == 300
    assert reader.script("return document.activeElement.id") == f"node-{job_id}"


def test_the_form_shows_the_parameters_of_the_chosen_pipeline(reader: Reader, scene: Scene) -> None:
    scene.pipeline("asks", definition=PARAMETERS)
    scene.pipeline("plain")
    reader.open("/dashboard/jobs/new?pipeline=plain")
    assert reader.text("#job-parameters").strip() == ""
    reader.script(
        "const choice = document.getElementById('id_pipeline'); choice.value = 'asks';"
        "choice.dispatchEvent(new Event('change', {bubbles: true}))"
    )
    reader.wait_for_text("#job-parameters", "Why it runs")
    reader.script("document.getElementById('id_parameter-note').value = 'now'")
    reader.click("form .button-primary")
    reader.wait_for_text(".run-facts", "note=now")


def test_axe_finds_nothing_on_the_pages_of_runs_and_pipelines(
    reader: Reader, scene: Scene, worker: Worker, run_id: str
) -> None:
    worker.finish(worker.take())
    stored_artifact(Job.get(run_view(run_id).nodes["build"].job_id))
    scene.pipeline("asks", definition=PARAMETERS)
    run = f"/dashboard/runs/{run_id}"
    paths = [f"{run}?open=test&job=gpu", "/dashboard/runs", "/dashboard/pipelines/graph"]
    forms = ["/dashboard/jobs/new?pipeline=asks", "/dashboard/pipelines/asks/edit"]
    for path in [*paths, *forms, run]:
        cache.clear()
        for width, dark in ((1280, False), (390, True)):
            reader.look(width=width, dark=dark)
            reader.open(path)
            only = {"runOnly": {"type": "rule", "values": ["color-contrast"]}} if dark else {}
            options = {"resultTypes": ["violations"], **only}
            found = Axe().run(reader.driver, options=options)["violations"]
            assert [(each["id"], [node["html"] for node in each["nodes"]]) for each in found] == [], path
            if width == 390:
                assert reader.script("return document.documentElement.scrollWidth") == 390, path
