"""Pipelines and jobs in the admin."""

import re
from html import unescape

import pytest

from apps.audit.actions import Action
from apps.jobs.selectors import job_get
from apps.pipelines.models import SCOPE, Pipeline
from tests.admin.conftest import Browser, errors, form_values, keys, rows
from tests.audit.trail import event, write
from tests.dashboard.scene import DEFINITION, Scene

PIPELINES = "/admin/pipelines/pipeline/"
JOBS = "/admin/jobs/job/"

FIELDS = {"name": "web", "repository": "https://git.example.com/web.git", "default_ref": "main", "definition": ""}


def test_a_pipeline_is_added_changed_and_deleted(operator: Browser) -> None:
    assert "was added successfully" in operator.said(operator.send(f"{PIPELINES}add/", **FIELDS))
    path = f"{PIPELINES}web/change/"
    assert "was changed successfully" in operator.said(operator.send(path, definition=DEFINITION))
    stored = Pipeline.find(SCOPE, "web")
    assert (stored.definition, stored.revision) == (DEFINITION, 2)
    found = re.search(r'name="csrfmiddlewaretoken" value="(\w+)"', operator.page(f"{PIPELINES}web/delete/"))
    operator.post(f"{PIPELINES}web/delete/", data={"csrfmiddlewaretoken": found[1], "post": "yes"})
    assert Pipeline.find(SCOPE, "web") is None


def test_a_definition_survives_a_browser_unchanged(operator: Browser, scene: Scene) -> None:
    scene.pipeline("web")
    values = form_values(operator.page(f"{PIPELINES}web/change/"))
    # As browsers send the content of a text area.
    values["definition"] = values["definition"].replace("\n", "\r\n")
    operator.post(f"{PIPELINES}web/change/", data=values)
    assert Pipeline.find(SCOPE, "web").revision == 1


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"name": "Web Site"}, "lower-case letters"),
        ({"name": "self"}, "There is already a pipeline of this name. Choose another name."),
        ({"repository": "--upload-pack=x"}, "must be a URL"),
        ({"default_ref": "--upload-pack=x"}, "must be 1 to 255 letters"),
        ({"definition": "steps:\n  - name: x\n"}, "line 2"),
        ({"definition": "steps: ["}, "line"),
    ],
)
def test_what_the_service_refuses_is_said_with_its_line(
    operator: Browser, scene: Scene, changes: dict[str, str], message: str
) -> None:
    scene.pipeline("self")
    answer = operator.send(f"{PIPELINES}add/", **{**FIELDS, **changes})
    assert answer.status_code == 200
    assert message in errors(answer.text)
    assert Pipeline.find(SCOPE, "web") is None
    assert Pipeline.find(SCOPE, "self").revision == 1


def test_of_two_users_who_change_one_pipeline_the_second_gets_a_conflict(operator: Browser, scene: Scene) -> None:
    scene.pipeline("web")
    mine = form_values(operator.page(f"{PIPELINES}web/change/"))
    assert operator.send(f"{PIPELINES}web/change/", default_ref="theirs").status_code == 302
    answer = operator.post(f"{PIPELINES}web/change/", data={**mine, "default_ref": "mine"})
    assert "Another user changed this pipeline" in errors(answer.text)
    assert "Default ref is now: theirs" in errors(answer.text)
    assert Pipeline.find(SCOPE, "web").default_ref == "theirs"


def test_what_was_deleted_meanwhile_is_gone_and_not_made_again(operator: Browser, scene: Scene) -> None:
    scene.pipeline("web")
    mine = form_values(operator.page(f"{PIPELINES}web/change/"))
    Pipeline(SCOPE, "web").delete()
    answer = operator.post(f"{PIPELINES}web/change/", data=mine)
    assert "This pipeline does not exist. It may have been deleted." in operator.said(answer)
    assert Pipeline.find(SCOPE, "web") is None


def test_pipelines_are_found_by_the_beginning_of_their_names(viewer: Browser, scene: Scene) -> None:
    for name in ("web", "website", "app"):
        scene.pipeline(name)
    assert keys_of(viewer.page(PIPELINES)) == ["app", "web", "website"]
    assert keys_of(viewer.page(PIPELINES, params={"q": "WEB"})) == ["web", "website"]


def keys_of(page: str) -> list[str]:
    return [row.split()[0] for row in rows(page)]


@pytest.fixture
def jobs(scene: Scene) -> dict[str, str]:
    """One job that has failed, one that runs and one that waits."""
    scene.pipeline()
    agent = scene.agent()
    scene.job()
    failed = scene.start(agent)
    scene.finish(agent, failed, exit_code=1)
    scene.job()
    running = scene.start(agent)
    return {"failed": failed, "running": running, "waiting": scene.job()}


def test_jobs_are_listed_newest_first_and_filtered_by_status(viewer: Browser, jobs: dict[str, str]) -> None:
    assert keys_of(viewer.page(JOBS)) == [jobs["waiting"], jobs["running"], jobs["failed"]]
    for status, name in (("queued", "waiting"), ("running", "running"), ("failed", "failed")):
        assert keys_of(viewer.page(JOBS, params={"status": status})) == [jobs[name]]
    assert keys_of(viewer.page(JOBS, params={"status": "completed"})) == []


def test_a_job_is_found_by_its_id_in_any_case(viewer: Browser, jobs: dict[str, str]) -> None:
    assert keys_of(viewer.page(JOBS, params={"q": jobs["failed"].upper()})) == [jobs["failed"]]


def test_a_job_is_shown_without_what_it_was_given_to_keep(admin: Browser, scene: Scene) -> None:
    scene.pipeline()
    job_id = scene.job(env={"TOKEN": "do not show this"})
    page = admin.page(f"{JOBS}{job_id}/change/")
    assert "do not show this" not in page
    assert 'name="_save"' not in page


def test_cancelling_asks_first_and_running_again_makes_a_new_job(operator: Browser, jobs: dict[str, str]) -> None:
    assert "running jobs will be stopped" in operator.act(JOBS, "cancel", jobs["waiting"], confirmed=False).text
    assert job_get(jobs["waiting"]).status == "queued"
    said = operator.said(operator.act(JOBS, "cancel", jobs["waiting"], jobs["failed"]))
    assert "The job has already ended" in said
    assert job_get(jobs["waiting"]).status == "cancelled"
    assert "Queued again" in operator.said(operator.act(JOBS, "retry", jobs["failed"]))
    assert len(rows(operator.page(JOBS))) == 4


def test_a_job_has_its_history_from_the_trail(viewer: Browser, jobs: dict[str, str]) -> None:
    history = rows(viewer.page(f"{JOBS}{jobs['failed']}/history/"))
    acts = [re.search(r"job (\w+)", line)[1] for line in history]
    assert acts == ["finished", "started", "claimed", "created"]


def test_a_viewer_does_nothing_to_jobs(viewer: Browser, jobs: dict[str, str]) -> None:
    page = viewer.page(JOBS)
    assert keys(page) == []
    token = re.search(r'name="csrfmiddlewaretoken" value="(\w+)"', page)[1]
    data = {"csrfmiddlewaretoken": token, "action": "cancel", "_selected_action": jobs["waiting"], "confirmed": "1"}
    viewer.post(JOBS, data=data)
    assert job_get(jobs["waiting"]).status == "queued"


def test_a_jobs_history_is_complete_and_paged(viewer: Browser, jobs: dict[str, str]) -> None:
    acts = write(event(f"job:{jobs['failed']}", action=Action.JOB_REQUEUED, detail={"number": n}) for n in range(70))
    path = f"{JOBS}{jobs['failed']}/history/"
    first = viewer.page(path)
    older = re.search(r'href="(\?p=[^"]+)" rel="next">Older', first)
    lines = rows(first) + rows(viewer.page(path + unescape(older[1])))
    assert len(lines) == len(acts) + 4
    assert "number 69" in lines[0]
    assert "job created" in lines[-1]
