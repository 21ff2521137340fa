"""Test results on a job's page, and the page with the tests and the coverage of a pipeline."""

import html
import re

import pytest

from apps.dashboard.chart import HEIGHT, LINE_WIDTH, share_chart
from apps.jobs.reports.results import ReportKind
from apps.jobs.services import report_add
from controlplane.lib.actor import Actor
from tests.clients import Client
from tests.dashboard.scene import Scene
from tests.jobs.test_reports_read import COBERTURA, file

HOSTILE = "<script>alert(1)</script>"


def report(
    agent: Actor, job_id: str, number: int, data: bytes, kind: ReportKind = ReportKind.JUNIT, *, attempt: int = 1
) -> None:
    report_add(
        agent_id=agent.id,
        job_id=job_id,
        attempt=attempt,
        number=number,
        kind=kind,
        file=f"out/{HOSTILE}.xml",
        commit="4f1c2ad0" * 5,
        data=data,
    )


def coverage(covered: int) -> bytes:
    return COBERTURA.format(attributes=f'lines-valid="1000" lines-covered="{covered}"', lines="").encode()


def next_job(scene: Scene, agent: Actor) -> str:
    scene.job()
    return scene.start(agent)


def words(page: str) -> str:
    """The text of a page, in one line."""
    return " ".join(html.unescape(re.sub(r"<[^>]+>", " ", page)).split())


def test_a_page_shows_how_many_tests_passed_and_each_failure_with_message_and_duration(
    operator: Client, scene: Scene, agent: Actor, running_job: str
) -> None:
    report(agent, running_job, 0, file("jest"))
    report(agent, running_job, 1, file("gradle"))
    report(agent, running_job, 2, coverage(875), ReportKind.COBERTURA)
    address = f"/dashboard/jobs/{running_job}"
    assert "Cart removes" not in operator.get(address).text
    scene.finish(agent, running_job, exit_code=1)
    for page in (operator.get(address).text, operator.get(f"{address}/live?seen=running.1.").text):
        part = page[page.index('<div id="job-tests"') :]
        text = words(part)
        assert "1 failed" in text
        assert "2 passed" in text
        assert "1 skipped" in text
        assert "Coverage 87.5 %" in text
        (failure,) = re.findall(r"<details.*?</details>", part, re.S)
        assert "Error: expect(received).toBe(expected)" in words(failure)
        assert "5 ms" in words(failure)
        assert "at Object.<anonymous> (cart.test.js:9:5)" in words(failure)
        assert f'href="{address}#job-log"' in part
        assert 'href="/dashboard/pipelines/self/tests"' in part
        assert HOSTILE not in page


def test_a_page_of_a_job_without_reports_says_nothing_of_tests(
    operator: Client, scene: Scene, agent: Actor, running_job: str
) -> None:
    scene.finish(agent, running_job)
    assert "Slowest and flaky" not in operator.get(f"/dashboard/jobs/{running_job}").text


def test_hostile_names_are_shown_as_text(operator: Client, scene: Scene, agent: Actor, running_job: str) -> None:
    name = HOSTILE.replace("<", "&lt;")
    data = (
        f'<testsuite><testcase classname="{name}" name="{name}\u202e\u009b31m">'
        f'<failure message="{name}">{name}</failure></testcase></testsuite>'
    )
    report(agent, running_job, 0, data.encode())
    scene.finish(agent, running_job, exit_code=1)
    for page in (f"jobs/{running_job}", "pipelines/self/tests"):
        text = operator.get(f"/dashboard/{page}").text
        assert HOSTILE not in text
        assert "\u202e" not in text
        assert "\u009b" not in text


def test_a_pipelines_page_lists_its_slowest_and_flaky_tests_and_its_coverage(
    operator: Client, scene: Scene, agent: Actor, running_job: str
) -> None:
    passes = b'<testsuite><testcase name="Cart removes" classname="Cart removes"/></testsuite>'
    job_id = running_job
    for data, covered in ((file("jest"), 871), (passes, 875)):
        report(agent, job_id, 0, data)
        report(agent, job_id, 1, coverage(covered), ReportKind.COBERTURA)
        scene.finish(agent, job_id)
        last, job_id = job_id, next_job(scene, agent)
    page = operator.get("/dashboard/pipelines/self/tests").text
    latest = re.search(r'<a class="figure" id="coverage-latest" href="/dashboard/jobs/(\w+)">([^<]+)</a>', page)
    assert latest
    assert latest.groups() == (last, "87.5 %")
    assert "+0.4 points since the run before" in words(page)
    assert len(re.findall("<circle", page)) == 2
    flaky = page[page.index('id="flaky"') : page.index('id="slowest"')]
    assert re.findall(r'scope="row"[^>]*>([^<]+)<', flaky) == ["Cart removes "]
    assert f"/dashboard/jobs/{running_job}" in flaky
    slowest = page[page.index('id="slowest"') :]
    assert re.findall(r'scope="row"[^>]*>([^<]+)<', slowest) == ["Cart removes ", "Cart adds "]


def test_a_pipelines_page_without_reports_shows_how_to_name_them(operator: Client, scene: Scene) -> None:
    scene.pipeline()
    page = operator.get("/dashboard/pipelines/self/tests").text
    assert "junit:" in page
    assert 'href="/dashboard/pipelines/self/tests"' in operator.get("/dashboard/pipelines").text
    assert operator.get("/dashboard/pipelines/nothing/tests").status_code == 404


@pytest.mark.parametrize("shares", [[], [0.5], [0.0, 1.0], [1.0] * 50, [0.0], [0.871, 0.875], [0.993, 0.999]])
def test_a_chart_of_shares_stays_in_its_box(shares: list[float]) -> None:
    chart = share_chart(shares)
    assert 0 <= chart.low < chart.high <= 1.0001
    assert all(0 <= dot.x <= LINE_WIDTH and 0 <= dot.y <= HEIGHT for dot in chart.dots)
    assert chart.path.count("L") == max(0, len(shares) - 1)
