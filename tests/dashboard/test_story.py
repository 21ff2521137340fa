"""The story of a job on its page: its attempts, what it waits for, its retries, and the state in the tab."""

import html
import re
from pathlib import Path

import pytest
from django.core.cache import cache

from apps.dashboard.templatetags.dashboard import _LOOKS, favicon
from apps.jobs.selectors import job_get
from apps.jobs.selectors.queue import queue_registry
from apps.jobs.services import AttemptResult, attempt_expire, attempt_finish, attempt_release, job_retry, jobs_claim
from apps.jobs.services.losses import attempt_pass_on
from controlplane.lib.actor import Actor
from tests.clients import Client
from tests.dashboard.scene import Scene
from tests.dashboard.test_overview import words

STATIC = Path(__file__).parents[2] / "static"


def shown(operator: Client, job_id: str) -> str:
    """The page, whatever the process has read of the fleet before."""
    cache.clear()
    return operator.get(f"/dashboard/jobs/{job_id}").text


def lose(agent: Actor, job_id: str, attempt: int = 1) -> None:
    attempt_expire(
        agent_id=agent.id,
        job_id=job_id,
        attempt=attempt,
        heartbeat_at=None,
        reason="its agent sent no heartbeat for 45 s",
    )


def tab(page: str) -> tuple[str, str]:
    """The title and the icon of the page, which its head must have again for the script."""
    title = re.search(r"<title>(.*?)</title>", page)
    icon = re.search(r'<link rel="icon" id="favicon"[^>]* href="([^"]+)"', page)
    assert title
    assert icon
    live = re.search(r'data-title="([^"]+)" data-favicon="([^"]+)"', page)
    assert live
    assert live.groups() == (title[1], icon[1])
    return html.unescape(title[1]), icon[1]


def test_a_lost_job_names_its_agent_and_says_what_happens_next(
    operator: Client, scene: Scene, agent: Actor, running_job: str
) -> None:
    scene.log(agent, running_job, b"it had begun\n")
    lose(agent, running_job)
    page = shown(operator, running_job)
    text = words(page)
    assert "it had begun" in text
    assert "none yet" not in text
    assert "The log begins when" not in text
    assert "none now; the last one was build-01" in text
    assert "1. build-01 lost: no heartbeat for 45 s" in text
    assert "Retries left: 1. After that, a lost attempt fails the job." in text
    assert re.search(r"Queued again \d s ago; an agent will take it within seconds\.", text)
    assert tab(page)[0].startswith("Queued again: self main ")


def test_a_first_attempt_is_listed_too(operator: Client, scene: Scene, agent: Actor, running_job: str) -> None:
    assert re.search(r"1\. build-01 Running began now", words(shown(operator, running_job)))
    scene.finish(agent, running_job, exit_code=3)
    assert "1. build-01 failed: exit code 3" in words(shown(operator, running_job))


def test_the_chooser_of_the_log_says_how_each_attempt_ended(
    operator: Client, scene: Scene, agent: Actor, running_job: str
) -> None:
    attempt_pass_on(job=job_get(running_job), actor=agent, labels=[], lacking=["gpu"])
    jobs_claim(agent=agent, sets=queue_registry().sets_for(()), limit=1)
    attempt_release(agent_id=agent.id, job_id=running_job, attempt=2)
    text = words(shown(operator, running_job))
    assert re.search(r"Moved Attempt 1 was moved away from agent build-01 after \S+ s needs label gpu", text)
    assert re.search(
        r"Not started Attempt 2 was not started by agent build-01 after \S+ s the agent did not acknowledge it", text
    )


def test_a_queued_job_says_which_label_is_missing_and_where_to_look(operator: Client, scene: Scene) -> None:
    scene.agent()
    scene.pipeline()
    page = shown(operator, scene.job(labels=["gpu"]))
    assert 'class="notice notice-warning" id="waiting" data-code="no_agent_with_labels"' in page
    assert "no agent has label gpu: start an agent that has. Look at the agents" in words(page)


def test_an_offered_job_says_what_happens_if_the_agent_does_not_start_it(
    operator: Client, scene: Scene, agent: Actor
) -> None:

    scene.pipeline()
    job_id = scene.job()
    jobs_claim(agent=agent, sets=queue_registry().sets_for(()), limit=1)
    text = words(shown(operator, job_id))
    assert "Offered to an agent. If it does not start the job within a minute, the job goes back to the queue." in text


def test_a_job_and_its_retry_link_to_each_other(operator: Client, scene: Scene, agent: Actor, running_job: str) -> None:
    scene.finish(agent, running_job, exit_code=1)
    retries = [job_retry(actor=scene.admin, job_id=running_job).job_id for _ in range(2)]
    origin = shown(operator, running_job)
    for number, retry in enumerate(retries, 1):
        assert f'id="fact-retried-{number}" class="mono" href="/dashboard/jobs/{retry}"' in origin
        assert f'id="fact-retry" class="mono" href="/dashboard/jobs/{running_job}"' in shown(operator, retry)


def test_a_job_whose_definition_is_for_another_product_links_to_what_to_write_instead(
    operator: Client, agent: Actor, running_job: str
) -> None:
    message = (
        "The file .hybrid-ci.yml is not valid:\nline 3, jobs: its page /docs/other-ci shows …\nline 1, on: unknown key"
    )
    result = AttemptResult(exit_code=None, error_message=message, steps=[], log_chunks=0, commit=None)
    attempt_finish(agent=agent, job_id=running_job, attempt=1, result=result)
    page = shown(operator, running_job)
    assert 'href="/docs/other-ci">What to write instead</a>' in page
    # The mistakes are a list.
    assert (
        "is not valid:<ul><li>line 3, jobs: its page /docs/other-ci shows …</li><li>line 1, on: unknown key</li>"
        in page
    )
    assert "1. build-01 failed: The file .hybrid-ci.yml is not valid: line 3, jobs: its page" in words(page)


def test_titles_and_icons_carry_the_state(operator: Client, scene: Scene, agent: Actor, running_job: str) -> None:
    short = running_job[-8:]
    title, icon = tab(shown(operator, running_job))
    assert (title, "favicons/play-busy" in icon) == (f"Running: self main {short} · Hybrid CI", True)
    scene.finish(agent, running_job, exit_code=1)
    title, icon = tab(shown(operator, running_job))
    assert (title, "favicons/cross-bad" in icon) == (f"Failed: self main {short} · Hybrid CI", True)
    title, icon = tab(operator.get(f"/dashboard/agents/{agent.id}").text)
    assert (title, "favicons/tick-good" in icon) == ("Healthy: build-01 · Hybrid CI", True)
    assert job_get(running_job).status == "failed"


@pytest.mark.parametrize("state", sorted(_LOOKS))
def test_each_state_has_an_icon_by_shape_and_colour_for_both_colour_schemes(state: str) -> None:
    name = re.sub(r"\.[0-9a-f]{12}\.svg$", ".svg", favicon(state).rpartition("favicons/")[2])
    text = (STATIC / "favicons" / name).read_text()
    assert "prefers-color-scheme: dark" in text
    assert "<script" not in text
