"""The overview and the pages of agents and pipelines: their figures and texts."""

import html
import re
from datetime import timedelta

from apps.dashboard.chart import HEIGHT, outcome_chart
from apps.jobs.selectors import DayOutcomes, job_get
from apps.jobs.selectors.queue import queue_registry
from apps.jobs.services import job_cancel, jobs_claim
from controlplane.lib import clock
from tests.clients import Client
from tests.dashboard.scene import Scene


def words(page: str) -> str:
    """The page's text with single spaces."""
    return " ".join(html.unescape(re.sub(r"<[^>]+>", " ", page)).split())


def test_the_overview_counts_agents_jobs_and_errors(operator: Client, scene: Scene) -> None:
    scene.pipeline()
    agent = scene.agent()
    scene.agent("build-02", region="cellar")
    for exit_code in (0, 0, 0, 1):
        scene.job()
        scene.finish(agent, scene.start(agent), exit_code=exit_code)
    scene.job(git_ref="running-ref")
    scene.start(agent)
    scene.job(git_ref="waiting-ref")
    text = words(operator.get("/dashboard/").text)
    assert "Agents healthy 2 of 2" in text
    assert "Completed today 3" in text
    assert "Error rate today 25 % 1 failed" in text
    assert "Running 1 1 waiting" in text
    assert text.index("running-ref") < text.index("waiting-ref")
    assert "Jobs ended, last 14 days" in text


def tile(page: str, name: str) -> tuple[str, str]:
    """The words of a tile's link, and its address."""
    found = re.search(rf'<a [^>]*id="tile-{name}" href="([^"]*)">(.*?)</a>', page, re.DOTALL)
    assert found, name
    return words(found[2]), html.unescape(found[1])


def listed(operator: Client, address: str, kind: str = "jobs") -> set[str]:
    """The ids on all pages of a list."""
    found: set[str] = set()
    while True:
        page = operator.get(address).text
        found |= set(re.findall(rf'<a [^>]*href="/dashboard/{kind}/(\w{{26}})"', page))
        older = re.search(r'rel="next"[^>]* href="([^"]+)"', page)
        if older is None:
            return found
        address = html.unescape(older[1])


def test_each_tile_leads_to_a_list_of_exactly_what_it_counts(operator: Client, scene: Scene) -> None:
    scene.pipeline()
    agent = scene.agent()
    with clock.shifted(timedelta(hours=-26)):
        scene.job()
        scene.finish(agent, scene.start(agent), exit_code=1)
        scene.job()
        late = scene.start(agent)
    failed = {late}
    scene.finish(agent, late, exit_code=1)
    for number in range(28):
        scene.job()
        job_id = scene.start(agent)
        scene.finish(agent, job_id, exit_code=number % 14)
        failed |= {job_id} if number % 14 else set()
    cancelled = scene.job()
    job_cancel(actor=scene.admin, job_id=cancelled)
    scene.job()
    running = scene.start(agent)
    scene.job()
    (offered,) = jobs_claim(agent=agent, sets=queue_registry().sets_for(()), limit=1)
    waiting = {scene.job(), scene.job()}
    page = operator.get("/dashboard/").text
    said, address = tile(page, "failed")
    assert said == "27 failed"
    assert listed(operator, address) == failed
    assert "27 jobs match" in operator.get(address).text
    said, address = tile(page, "completed")
    assert (said, len(listed(operator, address))) == ("2", 2)
    said, address = tile(page, "cancelled")
    assert (said, listed(operator, address)) == ("1 cancelled", {cancelled})
    said, address = tile(page, "running")
    assert (said, listed(operator, address)) == ("2", {running, offered.job_id})
    said, address = tile(page, "waiting")
    assert (said, listed(operator, address)) == ("2 waiting", waiting)


def test_the_tile_of_agents_leads_to_those_that_it_counts(operator: Client, scene: Scene) -> None:
    healthy = scene.agent()
    unfit = scene.agent("build-02")
    scene.heartbeat(unfit.id, fault="git is missing. Install it.")
    page = operator.get("/dashboard/").text
    for name, agent, words_of_it in (("agents", healthy, "1"), ("unhealthy", unfit, "1 unhealthy")):
        said, address = tile(page, name)
        assert (said, listed(operator, address, "agents")) == (words_of_it, {agent.id})


def test_the_newest_runs_are_a_part_of_the_overview_that_loads_later(operator: Client, scene: Scene) -> None:
    scene.pipeline()
    run_id = str(job_get(scene.job()).run_id)
    assert '/dashboard/recent"' in operator.get("/dashboard/").text
    part = operator.get("/dashboard/recent", headers={"HX-Request": "true"}).text
    assert f"/dashboard/runs/{run_id}" in part
    assert "<html" not in part
    assert "<html" in operator.get("/dashboard/recent").text


def test_an_empty_overview_shows_what_to_do_next(operator: Client) -> None:
    text = words(operator.get("/dashboard/").text)
    assert "none enrolled yet" in text
    assert "Add an agent first" in text
    assert "Error rate today –" in text


def test_the_overview_warns_when_jobs_wait_and_no_agent_is_healthy(operator: Client, scene: Scene) -> None:
    scene.pipeline()
    scene.job()
    assert "No agent is healthy" in words(operator.get("/dashboard/").text)


def test_agents_are_listed_by_region_with_their_load(operator: Client, scene: Scene) -> None:
    scene.pipeline()
    busy = scene.agent("build-01", region="office")
    scene.agent("build-02", region="cellar", heartbeat=False)
    scene.job()
    job_id = scene.start(busy)
    text = words(operator.get("/dashboard/agents").text)
    assert re.search(r"cellar .*build-02.*never.*office .*build-01.*41 %.*80 %.*90 %.*1 of 2", text)
    assert job_id[-8:] in text
    assert "build-02" not in words(operator.get("/dashboard/agents?region=office").text)
    assert "No agent matches" in words(operator.get("/dashboard/agents?status=dead").text)


def test_an_agents_page_shows_the_machine_and_its_jobs(operator: Client, scene: Scene) -> None:
    scene.pipeline()
    agent = scene.agent()
    scene.job()
    job_id = scene.start(agent)
    text = words(operator.get(f"/dashboard/agents/{agent.id}").text)
    assert "Up for 2 h" in text
    assert "1 of 2 slots" in text
    assert job_id[-8:] in text


def test_the_page_without_agents_shows_how_to_add_one_and_no_token(operator: Client) -> None:
    text = words(operator.get("/dashboard/agents").text)
    assert f'python3 agent.pyz --url "{operator.server}" --token "$TOKEN"' in text


def test_pipelines_are_listed_with_their_repository_and_definition(operator: Client, scene: Scene) -> None:
    assert "No pipelines yet" in words(operator.get("/dashboard/pipelines").text)
    scene.pipeline("kept-here", definition="steps:\n  - name: <b>\n    run: make\n")
    scene.pipeline("in-repository", definition=None)
    page = operator.get("/dashboard/pipelines").text
    assert "https://git.example.com/app.git" in page
    assert "name: &lt;b&gt;" in page
    assert ".hybrid-ci.yml" in page
    assert "/dashboard/jobs/new?pipeline=kept-here" in page


def test_the_chart_shows_every_outcome_that_happened_and_nothing_above_its_height() -> None:
    today = clock.now().date()
    days = [
        DayOutcomes(today - timedelta(days=1), created=0),
        DayOutcomes(today, created=1002, completed=1000, failed=1, cancelled=0, timed_out=1),
    ]
    chart = outcome_chart(days)
    assert [bar.total for bar in chart.bars] == [0, 1002]
    assert [segment.outcome for segment in chart.bars[1].segments] == ["completed", "timed_out", "failed"]
    assert all(segment.height >= 2 and 0 <= segment.y <= HEIGHT for segment in chart.bars[1].segments)
    assert chart.total == 1002


def test_pages_say_why_a_machine_that_sends_heartbeats_is_unhealthy(operator: Client, scene: Scene) -> None:
    agent = scene.agent()
    scene.heartbeat(agent.id, fault="git is missing. Install it.")
    listed, shown = (words(operator.get(path).text) for path in ("/dashboard/agents", f"/dashboard/agents/{agent.id}"))
    assert "Git is missing. Install it. Unhealthy" in listed
    assert "Unhealthy in office Git is missing. Install it." in shown
