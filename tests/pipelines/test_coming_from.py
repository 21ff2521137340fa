"""The guide for those who come from other products."""

import re
from dataclasses import replace
from pathlib import Path

import pytest

from apps.pipelines.definitions import GUIDE_PATH, Pipeline
from apps.pipelines.importing.converting import pipeline_convert
from apps.pipelines.parsing import pipeline_parse
from docs.guide.build import FOLDER
from tests.clients import Client

TEXT = (FOLDER / "coming-from.md").read_text()
PAIRS = re.findall(r"^```yaml (\w+)\n(.*?)^```$.*?^```yaml\n(.*?)^```$", TEXT, re.MULTILINE | re.DOTALL)


def _without_places(pipeline: Pipeline) -> Pipeline:
    jobs = {name: replace(job, line=1, column=1) for name, job in pipeline.jobs.items()}
    return replace(pipeline, jobs=jobs)


def test_each_product_has_an_example_and_each_of_our_examples_has_its_other_half() -> None:
    assert {product for product, _, _ in PAIRS} == {"github", "gitlab", "buildkite"}
    assert len(PAIRS) == len(re.findall(r"^```yaml$", TEXT, re.MULTILINE))


@pytest.mark.parametrize(("product", "there", "here"), PAIRS)
def test_what_stands_beside_an_example_is_what_the_importer_makes_of_it(product: str, there: str, here: str) -> None:
    conversion = pipeline_convert(product, there)
    assert _without_places(pipeline_parse(conversion.text)) == _without_places(pipeline_parse(here))
    assert conversion.whole == conversion.jobs


def test_the_guide_names_every_product_that_is_recognised_and_the_command_that_converts(outsider: Client) -> None:
    page = outsider.get("/guide/coming-from").text
    for text in ("GitHub Actions", "GitLab CI", "Buildkite", "CircleCI", "pipeline_import --from github"):
        assert text in page
    for text in ("runs-on", "$GITHUB_SHA", "before_script", "HYBRID_CI_COMMIT", "depends_on", "requires"):
        assert text in page or text in TEXT


def test_the_page_that_messages_name_leads_to_the_guide(outsider: Client) -> None:
    answer = outsider.get(GUIDE_PATH)
    assert (answer.status_code, answer.headers["Location"]) == (302, "/guide/coming-from")
    assert outsider.get(answer.headers["Location"]).status_code == 200


def test_the_number_of_files_that_were_tried_is_that_of_the_table() -> None:
    rows = (Path(FOLDER).parent / "importing.md").read_text().count("| `.")
    assert f"on {rows} public files" in TEXT
