"""The own labels of pipelines in the admin and on the page of pipelines."""

from apps.pipelines.selectors import pipeline_get
from tests.admin.conftest import Browser, errors, rows
from tests.dashboard.scene import DEFINITION, Scene

PIPELINES = "/admin/pipelines/pipeline/"
FIELDS = {"name": "web", "repository": "https://git.example.com/web.git", "default_ref": "main", "definition": ""}


def test_a_user_sets_and_sees_a_pipelines_own_labels(operator: Browser) -> None:
    operator.send(f"{PIPELINES}add/", **FIELDS, labels="linux, gpu")
    assert pipeline_get("web").labels == ["linux", "gpu"]
    assert "linux, gpu" in rows(operator.page(PIPELINES))[0]
    assert 'value="linux, gpu"' in operator.page(f"{PIPELINES}web/change/")
    page = operator.page("/dashboard/pipelines")
    assert '<span class="label">linux</span> <span class="label">gpu</span>' in page
    operator.send(f"{PIPELINES}web/change/", labels="")
    assert pipeline_get("web").labels == []


def test_the_labels_of_a_definition_are_shown_and_not_edited_beside_it(operator: Browser, scene: Scene) -> None:
    scene.pipeline("web", definition=f"labels: [arm]\n{DEFINITION}")
    assert "arm" in rows(operator.page(PIPELINES))[0]
    assert '<span class="label">arm</span>' in operator.page("/dashboard/pipelines")
    answer = operator.send(f"{PIPELINES}web/change/", definition=f"labels: [big]\n{DEFINITION}")
    assert answer.status_code == 302
    assert pipeline_get("web").labels == ["big"]
    answer = operator.send(f"{PIPELINES}web/change/", labels="gpu")
    assert "must be empty, since the definition on the server has its own" in errors(answer.text)


def test_a_wrong_label_is_reported_at_its_field(operator: Browser) -> None:
    answer = operator.send(f"{PIPELINES}add/", **FIELDS, labels="white;space")
    assert "“white;space” must be 1 to 63 letters" in errors(answer.text)
