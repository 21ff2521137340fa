"""The pages of pipelines: one pipeline with its runs, and the forms that add, change, delete and run one."""

import html
import re

import pytest

from apps.dashboard.chart import HEIGHT, run_chart
from apps.jobs.models import RUN, Job, Run
from apps.jobs.selectors import job_get
from apps.jobs.services import job_create
from apps.pipelines.selectors import pipeline_get
from apps.pipelines.services import pipeline_save
from controlplane.lib.actor import Actor
from controlplane.lib.errors import NotFound
from tests.clients import Client
from tests.conftest import ADMIN
from tests.dashboard.conftest import csrf_token
from tests.dashboard.scene import DEFINITION, Scene
from tests.dashboard.test_tests import words
from tests.metering import dynamodb_calls

GOOD = {
    "repository": "https://git.example.com/app.git",
    "default_ref": "main",
    "labels": "linux, gpu",
    "definition": "",
    "revision": "0",
}
PARAMETERS = """
parameters:
  level: {type: choice, options: [low, high]}
  count: {type: number, default: 3}
  upload: {type: flag, default: true}
  note: {type: text, required: true, description: Why it runs}
jobs: {a: {steps: [{run: make}]}}
"""


def send(browser: Client, path: str, **members: str | list[str]) -> tuple[int, str]:
    """Post a form; returns the status, and the address that it leads to or the page."""
    token = csrf_token(browser.get("/dashboard/").text)
    answer = browser.post(f"/dashboard/{path}", data={"csrfmiddlewaretoken": token, **members})
    return answer.status_code, answer.headers.get("Location") or html.unescape(answer.text)


def errors_of(page: str, field: str) -> str:
    found = re.search(rf'<ul class="errorlist" id="id_{field}_error">(.*?)</ul>', page, re.DOTALL)
    return words(found[1]) if found else ""


def test_a_pipeline_is_paused_and_resumed_on_its_page(operator: Client, viewer: Client, scene: Scene) -> None:
    scene.pipeline()
    assert send(operator, "pipelines/self/pause") == (302, "/dashboard/pipelines/self")
    page = words(viewer.get("/dashboard/pipelines/self").text)
    assert "New runs wait until it is resumed." in page
    assert "Resume" not in page
    job = job_create(actor=ADMIN, pipeline="self")
    for path in (f"jobs/{job.job_id}", f"runs/{job.run_id}"):
        assert "paused the pipeline self" in words(viewer.get(f"/dashboard/{path}").text)
    assert send(operator, "pipelines/self/resume") == (302, "/dashboard/pipelines/self")
    assert "Pause" in words(operator.get("/dashboard/pipelines/self").text)
    assert job_get(job.job_id).status == "queued"


def test_a_pipeline_is_added_on_the_page_and_changed_there(operator: Client) -> None:
    assert 'href="/dashboard/new-pipeline"' in operator.get("/dashboard/pipelines").text
    assert send(operator, "new-pipeline", name="new", **GOOD) == (302, "/dashboard/pipelines/new")
    pipeline = pipeline_get("new")
    assert (pipeline.labels, pipeline.definition) == (["linux", "gpu"], None)
    form = html.unescape(operator.get("/dashboard/pipelines/new/edit").text)
    assert 'value="linux gpu"' in form
    changes = {**GOOD, "labels": "", "definition": DEFINITION.replace("\n", "\r\n"), "revision": "1"}
    assert send(operator, "pipelines/new/edit", **changes) == (302, "/dashboard/pipelines/new")
    assert (pipeline_get("new").definition, pipeline_get("new").revision) == (DEFINITION, 2)


def test_the_badge_of_a_pipeline_is_made_public_on_its_page(operator: Client, outsider: Client) -> None:
    send(operator, "new-pipeline", name="new", **GOOD)
    assert "for signed-in users only" in operator.get("/dashboard/pipelines/new").text
    assert outsider.get("/badges/new.svg").status_code == 404
    assert send(operator, "pipelines/new/edit", **{**GOOD, "badge": "on", "revision": "1"})[0] == 302
    page = operator.get("/dashboard/pipelines/new").text
    assert '<img src="/badges/new.svg" alt="Result of the last run of main"' in page
    assert f"![new]({operator.server}/badges/new.svg)" in page
    assert outsider.get("/badges/new.svg").status_code == 200
    form = operator.get("/dashboard/pipelines/new/edit").text
    assert re.search(r'<input type="checkbox" name="badge" [^>]*checked', form)


def test_the_mistakes_of_a_definition_are_shown_with_their_lines_and_the_form_keeps_its_input(
    operator: Client,
) -> None:
    text = "jobs:\r\n  a: {needs: b, steps: [{run: x}]}\r\n  c:\r\n    stps: []\r\n"
    status, page = send(operator, "new-pipeline", name="new", **{**GOOD, "labels": "", "definition": text})
    assert status == 422
    said = errors_of(page, "definition")
    assert "Line 2, column 7: jobs.a.needs must be a job of this file, not 'b'" in said
    assert "Line 4, column 5: jobs.c.stps unknown key 'stps'; did you mean 'steps'?" in said
    assert "stps: []" in page
    assert 'aria-invalid="true"' in page


@pytest.mark.parametrize(
    ("wrong", "field", "said"),
    [
        ({"name": "Not A Name"}, "name", "lower-case"),
        ({"name": "taken"}, "name", "already a pipeline"),
        ({"repository": "nonsense"}, "repository", "must be"),
        ({"default_ref": "a b"}, "default_ref", "must"),
        ({"labels": "a b !"}, "labels", "must be"),
        ({"definition": "steps: [{run: make}]"}, "labels", "must be empty"),
    ],
)
def test_what_is_wrong_with_a_pipeline_is_shown_next_to_its_field(
    operator: Client, scene: Scene, wrong: dict[str, str], field: str, said: str
) -> None:
    scene.pipeline("taken")
    status, page = send(operator, "new-pipeline", **{"name": "new", **GOOD, **wrong})
    assert status == 422
    assert said in errors_of(page, field)
    with pytest.raises(NotFound):
        pipeline_get("new")


def test_a_change_that_another_user_made_meanwhile_is_shown_and_not_lost(operator: Client, scene: Scene) -> None:
    scene.pipeline()
    pipeline_save(
        actor=ADMIN, name="self", repository="https://git.example.com/app.git", default_ref="theirs", definition=None
    )
    status, page = send(operator, "pipelines/self/edit", **{**GOOD, "default_ref": "mine", "revision": "1"})
    assert status == 422
    assert "Another user changed this pipeline" in page
    assert "theirs" in page[page.index('id="changed"') :]
    assert 'value="mine"' in page
    assert pipeline_get("self").default_ref == "theirs"
    revision = re.search(r'name="revision" value="(\d+)"', page)
    assert revision
    assert revision[1] == "2"
    status, _ = send(operator, "pipelines/self/edit", **{**GOOD, "default_ref": "mine", "revision": revision[1]})
    assert (status, pipeline_get("self").default_ref) == (302, "mine")


def test_a_pipeline_is_deleted_after_a_second_click(operator: Client, scene: Scene) -> None:
    scene.pipeline()
    page = operator.get("/dashboard/pipelines/self").text
    assert re.search(r'<details class="confirm">.*Delete self for good.*</details>', page, re.DOTALL)
    assert send(operator, "pipelines/self/delete") == (302, "/dashboard/pipelines")
    assert operator.get("/dashboard/pipelines/self").status_code == 404
    assert send(operator, "pipelines/self/delete")[0] == 404


def test_a_viewer_can_neither_add_nor_change_nor_delete_a_pipeline(viewer: Client, scene: Scene) -> None:
    scene.pipeline()
    page = viewer.get("/dashboard/pipelines/self").text
    assert "/edit" not in page
    assert "/delete" not in page
    for path in ("new-pipeline", "pipelines/self/edit", "pipelines/self/delete"):
        assert send(viewer, path, name="new", **GOOD)[0] == 403
    assert pipeline_get("self").revision == 1


def test_the_pipeline_page_shows_the_last_runs_as_bars_and_the_branches_with_their_last_result(
    operator: Client, scene: Scene, agent: Actor
) -> None:
    scene.pipeline()
    runs = {}
    for git_ref, exit_code in (("main", 1), ("main", 0), ("feature/a", 1)):
        scene.job(git_ref=git_ref)
        job_id = scene.start(agent)
        scene.finish(agent, job_id, exit_code=exit_code)
        runs[git_ref, exit_code] = str(Job.get(job_id).run_id)
    with dynamodb_calls() as metering:
        page = operator.get("/dashboard/pipelines/self").text
    assert metering.calls <= 6
    for (_, exit_code), run_id in runs.items():
        said = "failed" if exit_code else "completed"
        bar = rf'id="bar-{run_id}" class="node-\w+" href="/dashboard/runs/{run_id}" aria-label="Run \w+: {said}, '
        assert re.search(bar, page)
        assert f'class="chart-{said} chart-bar"' in page
    branches = words(page[page.index('id="branches"') :])
    assert re.match(r".*feature/a .* Failed .*main default .* Completed ", branches)
    assert 'href="/dashboard/pipelines/self/tests"' in page
    assert 'href="/dashboard/jobs/new?pipeline=self"' in page
    assert "make lint" in page


def test_a_ref_of_which_no_run_has_found_a_commit_is_no_branch(operator: Client, scene: Scene, agent: Actor) -> None:
    scene.pipeline()
    scene.job(git_ref="nosuch")
    assert 'id="branches"' in operator.get("/dashboard/pipelines/self").text
    job_id = scene.start(agent)
    scene.finish(agent, job_id, exit_code=1)
    Run(str(Job.get(job_id).run_id), RUN).update(actions=[Run.commit.remove()])
    page = operator.get("/dashboard/pipelines/self").text
    assert 'id="branches"' not in page
    assert "nosuch" in page


def test_the_bars_of_runs_are_as_high_as_they_took_and_can_be_seen() -> None:
    chart = run_chart([("a", "completed", 0.0), ("b", "failed", 50.0), ("c", "running", 100.0)])
    assert [bar.height for bar in chart.bars] == [4.0, HEIGHT / 2, HEIGHT]
    assert all(bar.y + bar.height == HEIGHT for bar in chart.bars)
    assert [bar.x for bar in chart.bars] == sorted(bar.x for bar in chart.bars)
    # A phone shows the right end first, so it must not be empty.
    assert chart.bars[-1].x + chart.bar_width > chart.width - chart.bar_width
    assert run_chart([]).bars == []


def test_the_form_asks_for_the_parameters_of_the_pipeline(operator: Client, scene: Scene) -> None:
    scene.pipeline("asks", definition=PARAMETERS)
    scene.pipeline("plain")
    scene.pipeline("there", definition=None)
    page = operator.get("/dashboard/jobs/new?pipeline=asks").text
    assert re.search(r'<select name="parameter-level".*?value="low".*?value="high"', page, re.DOTALL)
    assert re.search(r'name="parameter-count" value="3"', page)
    assert re.search(r'type="checkbox" name="parameter-upload"[^>]* checked', page)
    assert "Why it runs" in page
    part = operator.get("/dashboard/jobs/new?pipeline=there", headers={"HX-Request": "true"}).text
    assert part.startswith('<div id="job-parameters"')
    assert '<textarea name="parameters"' in part
    assert "parameter-" not in operator.get("/dashboard/jobs/new?pipeline=plain").text
    assert "parameter-" not in operator.get("/dashboard/jobs/new?pipeline=gone", headers={"HX-Request": "true"}).text


def test_the_parameters_of_the_form_go_to_the_run(operator: Client, scene: Scene) -> None:
    scene.pipeline("asks", definition=PARAMETERS)
    scene.pipeline("there", definition=None)
    given = {"parameter-level": "high", "parameter-count": "", "parameter-note": "a = b"}
    status, address = send(operator, "jobs/new", pipeline="asks", shown_for="asks", **given)
    assert status == 302
    run = Run.get(address.rpartition("/")[2], "run")
    assert run.parameters == {"level": "high", "count": 3, "upload": False, "note": "a = b"}
    status, address = send(operator, "jobs/new", pipeline="there", parameters="a=1\r\n\r\nb=x=y")
    assert Run.get(address.rpartition("/")[2], "run").parameters == {"a": "1", "b": "x=y"}


@pytest.mark.parametrize(
    ("wrong", "field", "said"),
    [
        ({"parameter-note": ""}, "parameter-note", "required"),
        ({"parameter-count": "many"}, "parameter-count", "must be a number"),
        ({"parameter-level": "medium"}, "parameter-level", "must be one of low, high"),
    ],
)
def test_a_wrong_parameter_is_shown_next_to_its_field(
    operator: Client, scene: Scene, wrong: dict[str, str], field: str, said: str
) -> None:
    scene.pipeline("asks", definition=PARAMETERS)
    good = {"parameter-level": "low", "parameter-count": "1", "parameter-note": "x"}
    status, page = send(operator, "jobs/new", pipeline="asks", shown_for="asks", **{**good, **wrong})
    assert status == 422
    assert said in errors_of(page, field)


def test_parameters_that_the_user_has_not_seen_are_shown_before_the_run_starts(operator: Client, scene: Scene) -> None:
    scene.pipeline("asks", definition=PARAMETERS.replace("required: true, ", ""))
    status, page = send(operator, "jobs/new", pipeline="asks", shown_for="self")
    assert status == 422
    assert "This pipeline has parameters. Check them" in page
    assert 'name="shown_for" value="asks"' in page
    assert re.search(r'type="checkbox" name="parameter-upload"[^>]* checked', page)


@pytest.mark.parametrize(
    ("lines", "said"),
    [("nonsense", "Line 1"), ("a=" + "x" * 1001, "1,000 characters"), ("\n".join(f"p{n}=1" for n in range(51)), "50")],
)
def test_malformed_lines_of_parameters_are_refused(operator: Client, scene: Scene, lines: str, said: str) -> None:
    scene.pipeline("there", definition=None)
    status, page = send(operator, "jobs/new", pipeline="there", parameters=lines)
    assert status == 422
    assert said in errors_of(page, "parameters")
