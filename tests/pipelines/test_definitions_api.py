"""``/definitions``: a pipeline file is checked, and one of another product converted, and nothing is stored."""

from apps.pipelines.parsing import pipeline_parse
from tests.clients import Client, problem
from tests.conftest import person

WORKFLOW = """
on: push
jobs:
  test:
    runs-on: ubuntu-latest
    steps:
      - run: make test
      - uses: acme/unknown@v1
"""


def test_a_valid_file_is_answered_with_its_jobs_also_to_viewers(server: str) -> None:
    viewer = person(server, "viewer")
    text = "parameters: {target: {type: text}}\njobs: {lint: {steps: [{run: x}]}, test: {steps: [{run: x}]}}"
    answer = viewer.post("/definitions/check", json={"definition": text})
    assert (answer.status_code, answer.json()) == (200, {"jobs": ["lint", "test"], "parameters": ["target"]})
    problem(viewer.post("/definitions/import", json={"product": "github", "text": WORKFLOW}), 403, "forbidden")


def test_each_mistake_is_answered_with_its_line(operator: Client) -> None:
    answer = operator.post("/definitions/check", json={"definition": "steps:\n  - rum: make\n  - run: [5]\n"})
    lines = [error["line"] for error in problem(answer, 400, "definition_invalid")["errors"]]
    assert set(lines) == {2, 3}
    assert operator.post("/definitions/check", json={"definition": "x" * 70_000}).status_code == 400


def test_a_file_of_another_product_becomes_a_valid_file_with_remarks(operator: Client) -> None:
    found = operator.post("/definitions/import", json={"product": "github", "text": WORKFLOW}).json()
    assert list(pipeline_parse(found["definition"]).jobs) == ["test"]
    assert (found["jobs"], found["whole"]) == (1, 0)
    assert any(remark["line"] == 8 and "acme/unknown" in str(remark) for remark in found["remarks"])
    assert operator.get("/pipelines").json()["pipelines"] == []


def test_what_cannot_be_converted_is_refused_with_the_reason(operator: Client) -> None:
    for product, text in (("github", "["), ("gitlab", ""), ("buildkite", "{}")):
        problem(
            operator.post("/definitions/import", json={"product": product, "text": text}), 400, "definition_invalid"
        )
    answer = operator.post("/definitions/import", json={"product": "jenkins", "text": WORKFLOW})
    assert problem(answer, 400, "invalid_input")["errors"][0]["field"] == "product"
