"""The list of jobs, a job's page with its log, and the buttons."""

import html
import re

import pytest

from apps.jobs.models import Job
from apps.jobs.selectors import job_get, job_list
from controlplane.lib.actor import Actor
from tests.clients import Client
from tests.dashboard.conftest import csrf_token
from tests.dashboard.scene import Scene


def test_a_page_shows_the_job_and_its_steps(operator: Client, scene: Scene, agent: Actor, running_job: str) -> None:
    step = {
        "name": "lint",
        "state": "running",
        "exit_code": None,
        "started_at": "2026-11-21T09:00:00.000000Z",
        "completed_at": None,
    }
    scene.heartbeat(agent.id, [{"job_id": running_job, "attempt": 1, "steps": [step]}])
    page = operator.get(f"/dashboard/jobs/{running_job}").text
    assert "Running" in page
    assert "https://git.example.com/app.git" in page
    assert ">lint<" in page


def refresh_address(page: str) -> str | None:
    """The address from which the page requests what has changed."""
    asked = re.search(r'id="job-follow"[^>]* hx-get="([^"]+)"', page)
    return html.unescape(asked[1]) if asked else None


def test_a_page_stops_refreshing_when_the_job_has_ended(
    operator: Client, scene: Scene, agent: Actor, running_job: str
) -> None:
    address = refresh_address(operator.get(f"/dashboard/jobs/{running_job}").text)
    assert address
    scene.finish(agent, running_job, chunks=0)
    answer = operator.get(address).text
    assert refresh_address(answer) is None
    assert "Completed" in answer
    assert "Run again" in answer
    assert refresh_address(operator.get(f"/dashboard/jobs/{running_job}").text) is None


def test_the_head_of_a_page_is_only_sent_again_when_it_has_changed(operator: Client, running_job: str) -> None:
    address = refresh_address(operator.get(f"/dashboard/jobs/{running_job}").text)
    assert address
    assert 'id="job-head"' not in operator.get(address).text
    assert 'id="job-head"' in operator.get(address.replace("seen=running", "seen=queued")).text


def test_markup_in_names_is_shown_as_text(operator: Client, scene: Scene, agent: Actor) -> None:
    scene.pipeline(definition='steps:\n  - name: "<b>bold</b>"\n    run: "true"\n')
    scene.job(env={"NAME": "<i>"})
    job_id = scene.start(agent)
    scene.finish(agent, job_id, exit_code=3)
    assert "<b>bold" not in operator.get(f"/dashboard/jobs/{job_id}").text


def test_cancel_ends_a_waiting_job_at_once(operator: Client, scene: Scene) -> None:
    scene.pipeline()
    job_id = scene.job()
    page = operator.get(f"/dashboard/jobs/{job_id}")
    answer = operator.post(f"/dashboard/jobs/{job_id}/cancel", data={"csrfmiddlewaretoken": csrf_token(page.text)})
    assert answer.headers["Location"] == f"/dashboard/jobs/{job_id}"
    assert job_get(job_id).status == "cancelled"


def test_cancel_sends_a_cancel_request_to_the_agent_of_a_running_job(operator: Client, running_job: str) -> None:
    token = csrf_token(operator.get(f"/dashboard/jobs/{running_job}").text)
    operator.post(f"/dashboard/jobs/{running_job}/cancel", data={"csrfmiddlewaretoken": token})
    page = operator.get(f"/dashboard/jobs/{running_job}").text
    assert "the agent stops the job within seconds" in page
    assert "Cancel job" not in page
    assert job_get(running_job).cancel_requested


def test_cancelling_an_ended_job_shows_an_error(operator: Client, scene: Scene, agent: Actor, running_job: str) -> None:
    token = csrf_token(operator.get(f"/dashboard/jobs/{running_job}").text)
    scene.finish(agent, running_job)
    operator.post(f"/dashboard/jobs/{running_job}/cancel", data={"csrfmiddlewaretoken": token})
    assert "already ended" in operator.get(f"/dashboard/jobs/{running_job}").text


def test_run_again_queues_only_one_job_when_pressed_twice(
    operator: Client, scene: Scene, agent: Actor, running_job: str
) -> None:
    scene.finish(agent, running_job, exit_code=1)
    page = operator.get(f"/dashboard/jobs/{running_job}").text
    key = re.search(r'name="key" value="(\w+)"', page)
    assert key
    form = {"csrfmiddlewaretoken": csrf_token(page), "key": key[1]}
    pressed = [operator.post(f"/dashboard/jobs/{running_job}/retry", data=form).headers["Location"] for _ in range(2)]
    assert pressed[0] == pressed[1]
    assert job_list().total == 2
    assert running_job[-8:] in operator.get(pressed[0]).text


def queue_form(operator: Client, **members: str) -> dict[str, str]:
    page = operator.get("/dashboard/jobs/new").text
    key = re.search(r'name="key" value="(\w+)"', page)
    assert key
    return {
        "csrfmiddlewaretoken": csrf_token(page),
        "key": key[1],
        "pipeline": "self",
        "git_ref": "",
        "env": "",
        **members,
    }


def test_the_form_queues_only_one_job_when_sent_twice(operator: Client, scene: Scene) -> None:
    scene.pipeline()
    form = queue_form(operator, git_ref="v1.0", env="LEVEL=2\n\nNAME=a=b")
    first, second = (operator.post("/dashboard/jobs/new", data=form).headers["Location"] for _ in range(2))
    assert first == second
    (job,) = job_list().jobs
    assert (job.pipeline, job.git_ref, job.env) == ("self", "v1.0", {"LEVEL": "2", "NAME": "a=b"})
    assert job.requested_by == "Operator"


def test_the_form_sent_again_with_another_ref_queues_another_job(operator: Client, scene: Scene) -> None:
    scene.pipeline()
    form = queue_form(operator, git_ref="v1.0")
    first = operator.post("/dashboard/jobs/new", data=form).headers["Location"]
    second = operator.post("/dashboard/jobs/new", data={**form, "git_ref": "v2.0"}).headers["Location"]
    assert first != second
    assert {job.git_ref for job in job_list().jobs} == {"v1.0", "v2.0"}


def test_the_form_uses_the_pipelines_default_ref_when_none_is_given(operator: Client, scene: Scene) -> None:
    scene.pipeline()
    operator.post("/dashboard/jobs/new", data=queue_form(operator))
    assert [job.git_ref for job in job_list().jobs] == ["main"]


@pytest.mark.parametrize(
    ("wrong", "field", "said"),
    [
        ({"git_ref": "main; rm -rf /"}, "git_ref", "letters, digits"),
        ({"git_ref": "--upload-pack=x"}, "git_ref", "letters, digits"),
        ({"git_ref": "x" * 300}, "git_ref", "255"),
        ({"env": "LEVEL=2\nnonsense"}, "env", "Line 2"),
        ({"env": "BAD-NAME=1"}, "env", "Line 1"),
        ({"pipeline": "unknown"}, "pipeline", "no pipeline"),
        ({"pipeline": "\x00"}, "pipeline", ""),
    ],
)
def test_an_error_is_shown_next_to_its_field_and_the_form_keeps_its_input(
    operator: Client, scene: Scene, wrong: dict[str, str], field: str, said: str
) -> None:
    scene.pipeline()
    form = {**queue_form(operator), "git_ref": "feature/kept", "env": "KEPT=1", **wrong}
    answer = operator.post("/dashboard/jobs/new", data=form)
    assert answer.status_code == 422
    beside = re.search(
        rf'id="id_{field}".*?<ul class="errorlist" id="id_{field}_error">(.*?)</ul>', answer.text, re.DOTALL
    )
    assert beside
    assert said in html.unescape(beside[1])
    assert f'id="id_{field}"' in answer.text
    assert re.search(rf'<\w+ [^>]*name="{field}"[^>]*aria-invalid="true"', answer.text)
    if field != "git_ref":
        assert "feature/kept" in answer.text
    if field != "env":
        assert "KEPT=1" in answer.text
    assert job_list().total == 0


def test_the_form_without_pipelines_shows_how_to_register_one(operator: Client) -> None:
    page = operator.get("/dashboard/jobs/new").text
    assert f"{operator.server}/pipelines/project" in page


def test_the_list_is_filtered_and_paged(operator: Client, scene: Scene) -> None:
    scene.pipeline()
    scene.pipeline("other")
    ids = [scene.job() for _ in range(30)]
    foreign = scene.job(pipeline="other", git_ref="v2")
    first = operator.get("/dashboard/jobs").text
    assert "31 jobs" in first
    older = re.search(r'id="next-page" href="([^"]+)"', first)
    assert older
    second = operator.get(html.unescape(older[1])).text
    for job_id in [*ids, foreign]:
        assert (f"/dashboard/jobs/{job_id}" in first) != (f"/dashboard/jobs/{job_id}" in second)
    narrowed = operator.get("/dashboard/jobs?pipeline=other&git_ref=v2&status=queued").text
    assert f"/dashboard/jobs/{foreign}" in narrowed
    assert ids[0] not in narrowed
    assert "No job matches" in operator.get("/dashboard/jobs?pipeline=unknown").text


def test_refs_of_any_script_are_queued_by_the_form_shown_and_filtered(operator: Client, scene: Scene) -> None:
    scene.pipeline()
    for _ in range(26):
        scene.job()
        address = operator.post("/dashboard/jobs/new", data=queue_form(operator, git_ref="функция/ünïcode🚀"))
    assert "функция/ünïcode🚀" in operator.get(address.headers["Location"]).text
    first = operator.get("/dashboard/jobs", params={"git_ref": "функция/ünïcode🚀"}).text
    assert "26 jobs match" in first
    assert 'value="функция/ünïcode🚀"' in first
    older = re.search(r'id="next-page" href="([^"]+)"', first)
    assert older
    second = operator.get(html.unescape(older[1])).text
    assert second.count("функция/ünïcode🚀</td>") == 1


def test_the_list_without_jobs_shows_how_to_queue_one(operator: Client) -> None:
    page = html.unescape(operator.get("/dashboard/jobs").text)
    assert f'curl -X POST -H "Authorization: Bearer $TOKEN" "{operator.server}/jobs?git_ref=main"' in page


def test_a_refresh_returns_only_the_list(operator: Client, scene: Scene) -> None:
    scene.pipeline()
    job_id = scene.job()
    part = operator.get("/dashboard/jobs", headers={"HX-Request": "true"}).text
    assert job_id in part
    assert "<html" not in part


def test_a_page_says_why_a_log_is_not_archived_after_several_tries(
    operator: Client, scene: Scene, agent: Actor, running_job: str
) -> None:
    scene.finish(agent, running_job)
    Job(running_job).update(actions=[Job.log_failures.set(3), Job.log_problem.set("the storage is full")])
    page = operator.get(f"/dashboard/jobs/{running_job}").text
    assert "The log could not be archived 3 times: the storage is full." in page
