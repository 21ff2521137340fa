"""The story of a job in a browser: the tab follows its state, and everyone can read what the pages say about it."""

import json

from django.core.cache import cache
from selenium.webdriver.common.keys import Keys

from apps.jobs.reports.results import ReportKind
from apps.jobs.selectors.queue import queue_registry
from apps.jobs.services import attempt_expire, job_cancel, job_retry, jobs_claim
from controlplane.lib import clock
from controlplane.lib.actor import Actor
from tests.browser.conftest import Reader
from tests.dashboard.scene import Scene
from tests.dashboard.test_tests import coverage, report
from tests.jobs.test_reports_read import file


def icon(reader: Reader) -> str:
    """The shape and the colour of the tab's icon."""
    address = str(reader.script("return document.getElementById('favicon').getAttribute('href')"))
    return address.rpartition("/favicons/")[2].partition(".")[0]


def test_the_title_and_the_icon_of_the_tab_follow_the_state(reader: Reader, scene: Scene, agent: Actor) -> None:
    scene.pipeline()
    job_id = scene.job()
    reader.open(f"/dashboard/jobs/{job_id}")
    assert (reader.driver.title.partition(":")[0], icon(reader)) == ("Queued", "clock-idle")
    scene.start(agent)
    reader.wait(lambda: icon(reader) == "play-busy")
    assert reader.driver.title == f"Running: self main {job_id[-8:]} · Hybrid CI"
    attempt_expire(agent_id=agent.id, job_id=job_id, attempt=1, heartbeat_at=None, reason="no power")
    reader.wait(lambda: reader.driver.title.startswith("Queued again: "))
    assert icon(reader) == "clock-idle"
    reader.wait_for_text("#attempts", "lost: no power")
    scene.start(agent)
    reader.wait(lambda: icon(reader) == "play-busy")
    scene.finish(agent, job_id, attempt=2, exit_code=1)
    reader.wait(lambda: icon(reader) == "cross-bad")
    assert reader.driver.title.startswith("Failed: ")
    # The browser draws each icon under the content policy.
    drawn = "const image = new Image(); image.src = arguments[0]; return image.decode().then(() => image.naturalWidth)"
    address = reader.script("return document.getElementById('favicon').href")
    assert int(str(reader.script(drawn, address))) > 0


def test_axe_finds_nothing_where_pages_tell_a_jobs_story(reader: Reader, scene: Scene, agent: Actor) -> None:
    def check(path: str) -> None:
        cache.clear()
        reader.look()
        reader.open(path)
        for width, dark in ((1280, False), (390, True)):
            reader.look(width=width, dark=dark)
            # The log has such a test of its own.
            parts = {"exclude": [["[aria-labelledby=log-title]"]]}
            # What depends on colours is what a dark page can do worse than a light one.
            problems = reader.violations(context=parts, rule="color-contrast" if dark else None)
            assert problems == [], f"{path}, {width}: {json.dumps(problems, indent=1)}"
            assert reader.script("return document.documentElement.scrollWidth <= innerWidth"), path

    scene.pipeline()
    check(f"/dashboard/jobs/{scene.job(labels=['gpu'], git_ref='функция/ünïcode')}")
    job_id = scene.job()
    jobs_claim(agent=agent, sets=queue_registry().sets_for(()), limit=1)
    check(f"/dashboard/jobs/{job_id}")
    attempt_expire(agent_id=agent.id, job_id=job_id, attempt=1, heartbeat_at=None, reason="no power")
    scene.start(agent)
    job_cancel(actor=scene.admin, job_id=job_id)
    check(f"/dashboard/jobs/{job_id}")
    report(agent, job_id, 0, file("surefire"), attempt=2)
    report(agent, job_id, 1, coverage(875), ReportKind.COBERTURA, attempt=2)
    scene.finish(agent, job_id, attempt=2, exit_code=1)
    job_retry(actor=scene.admin, job_id=job_id)
    for path in (
        *(f"/dashboard/jobs/{job_id}", "/dashboard/", f"/dashboard/jobs?status=cancelled&ended={clock.now().date()}"),
        "/dashboard/pipelines/self/tests",
        *("/docs/other-ci", "/guide", "/dashboard/jobs/01kb0000000000000000000000"),
    ):
        check(path)
    # The browser writes to its console that a page was not found.
    assert all("404" in complaint for complaint in reader.complaints())


def test_the_keyboard_leads_from_a_page_that_is_not_found_back_to_the_jobs(reader: Reader) -> None:
    reader.open("/dashboard/jobs/01kb0000000000000000000000")
    reached = []
    for _ in range(12):
        reader.press(Keys.TAB)
        reached.append(str(reader.script("return document.activeElement.innerText || document.activeElement.id")))
    assert [name for name in reached if name in ("Jobs", "All jobs", "find-ref")] == ["Jobs", "All jobs", "find-ref"]
    reader.script("document.getElementById('find-ref').focus()")
    reader.press("функция/x" + Keys.ENTER)
    reader.wait_for_text("main", "No job matches")
    assert reader.script("return document.getElementById('filter-ref').value") == "функция/x"
    assert all("404" in complaint for complaint in reader.complaints())
