"""The guide to pipelines and the JSON Schema say what the reader reads."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import jsonschema
import pytest
import yaml

from agent.environment import git_environment
from agent.pipeline.nodes import DefinitionInvalid
from agent.pipeline.reader import definition_read
from agent.pipeline.schema import pipeline_schema
from agent.pipeline.table import DEFINITION
from docs.guide.build import GUIDE, Entry, entries, example_file, expression_tables, pages, reference
from tests.clients import Client

ROOT = Path(__file__).parents[2]
ENTRIES = {f"{entry.parent}.{entry.name}".lstrip("."): entry for entry in entries()}


def whole_examples() -> list[str]:
    """The files that the text shows, outside of the reference."""
    text = GUIDE.read_text().partition("## Reference")[0]
    return re.findall(r"^```yaml\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("path", [*pages()], ids=lambda path: path.relative_to(ROOT).as_posix())
def test_what_is_generated_of_the_guide_is_what_make_guide_writes(path: Path) -> None:
    assert path.read_text() == pages()[path], "run make guide"


@pytest.mark.parametrize("entry", ENTRIES.values(), ids=[*ENTRIES])
def test_every_key_has_a_description_and_an_example_that_is_valid(entry: Entry) -> None:
    assert entry.key.title
    assert entry.key.description.endswith(".")
    assert re.match(rf"{entry.name}:(\s|$)", entry.key.example)
    example = example_file(entry)
    assert entry.name in example
    definition_read(example)


def test_the_guide_has_every_key_and_the_table_of_expressions() -> None:
    text = GUIDE.read_text()
    assert reference() in text
    assert reference().count("#### ") == len(entries())
    assert expression_tables() in text
    assert {"jobs", "on", "env", "defaults", "parameters", "concurrency"} == {
        entry.name for entry in entries() if not entry.parent
    }
    of_a_job = {entry.name for entry in entries() if entry.parent == "jobs.NAME"}
    assert of_a_job >= {
        "steps",
        "needs",
        "if",
        "matrix",
        "env",
        "labels",
        "timeout",
        "retries",
        "concurrency",
        "outputs",
    }
    assert of_a_job >= {"priority", "artifacts", "caches", "environment", "secrets", "allow_failure", "container"}
    assert of_a_job >= {"inputs", "reports", "submodules"}
    steps = GUIDE.read_text().partition("### Keys of the form `steps:`")[2]
    assert all(f"`{name}`" in steps for name in DEFINITION.keys)


def test_every_file_that_the_guide_shows_is_valid() -> None:
    assert len(whole_examples()) >= 7
    for example in whole_examples():
        definition_read(example)


def test_the_guide_has_every_variable_that_steps_get() -> None:
    sources = " ".join(path.read_text() for path in (ROOT / "agent").glob("job_*.py"))
    variables = set(re.findall(r'"(HYBRID_CI_[A-Z]+(?:_[A-Z]+)*)"', sources))
    assert len(variables) >= 5
    assert variables <= set(re.findall(r"^\| `(HYBRID_CI_\w+)` \|", GUIDE.read_text(), re.MULTILINE))


def test_what_the_guide_says_about_private_repositories_works(tmp_path: Path) -> None:
    section = GUIDE.read_text().partition("## Private repositories")[2].partition("\n## ")[0]
    assert all(f"**{way}" in section for way in ("SSH key", "Token over HTTPS", "Credential helper"))
    environment = {"HOME": str(tmp_path), "PATH": os.environ["PATH"], "TOKEN": "t0ken"}
    (store,) = (block for block in re.findall(r"```sh\n(.*?)```", section, re.DOTALL) if "printf" in block)
    subprocess.run(["sh", "-ec", store], env=environment, check=True)
    assert (tmp_path / ".git-tokens").stat().st_mode & 0o077 == 0
    asked = "protocol=https\nhost=git.example.org\npath=team/project.git\n\n"
    found = subprocess.run(
        ["git", "credential", "fill"],
        input=asked,
        env=git_environment(environment),
        capture_output=True,
        text=True,
        check=True,
    )
    assert "password=t0ken" in found.stdout
    # Git gets what the text says that it gets.
    named = set(re.findall(r"\b(?:SSH|GIT|XDG)_[A-Z_]+", section))
    assert len(named) >= 5
    assert set(git_environment(dict.fromkeys(named, "x"))) == named


def test_the_schema_is_valid_and_takes_all_examples_of_the_guide(tmp_path: Path) -> None:
    (tmp_path / "schema.json").write_text(json.dumps(pipeline_schema()))
    jsonschema.Draft202012Validator.check_schema(pipeline_schema())
    texts = [*whole_examples(), *(example_file(entry) for entry in entries()), (ROOT / ".hybrid-ci.yml").read_text()]
    for number, text in enumerate(texts):
        (tmp_path / f"{number}.yml").write_text(text)
    files = [str(path) for path in tmp_path.glob("*.yml")]
    # It reads YAML 1.2, as editors do: `on` is no truth value there.
    command = [sys.executable, "-m", "check_jsonschema", "--schemafile", str(tmp_path / "schema.json"), *files]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(
    "text",
    [
        "{}",
        "steps: []",
        "steps: [{run: x}]\njobs: {a: {steps: [{run: x}]}}",
        "steps: [{run: x}]\ndefaults: {}",
        "jobs: {a: {steps: [{run: x}]}}\nlabels: [a]",
        "jobs: {a: {step: [{run: x}]}}",
        "jobs: {a: {steps: [{run: x}], needs: [{jobs: b}]}}",
        "jobs: {a: {steps: [{run: x}], retries: 11}}",
        "jobs: {a: {steps: [{run: x}], timeout: soon}}",
        "jobs: {pipeline: {steps: [{run: x}]}}",
    ],
)
def test_the_schema_refuses_what_the_reader_refuses(text: str) -> None:
    with pytest.raises(DefinitionInvalid):
        definition_read(text)
    assert not jsonschema.Draft202012Validator(pipeline_schema()).is_valid(yaml.safe_load(text))


def test_every_key_of_the_schema_has_a_title_and_a_description() -> None:
    def properties(schema: object) -> list[tuple[str, object]]:
        if isinstance(schema, list):
            return [found for part in schema for found in properties(part)]
        if not isinstance(schema, dict):
            return []
        own = [*schema.get("properties", {}).items()] if isinstance(schema.get("properties"), dict) else []
        return own + [
            found for name, part in schema.items() if name != "dependentSchemas" for found in properties(part)
        ]

    found = properties(pipeline_schema())
    assert len(found) > 50
    for name, schema in found:
        assert isinstance(schema, dict), name
        assert schema["title"], name
        assert schema["description"], name


def test_the_schema_is_published_for_everyone_and_may_be_kept(outsider: Client) -> None:
    answer = outsider.get("/schema/pipeline.json")
    assert answer.json() == pipeline_schema()
    assert answer.json()["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    assert answer.headers["Content-Type"] == "application/schema+json"
    assert answer.headers["Cache-Control"] == "public, max-age=3600"
    again = outsider.get("/schema/pipeline.json", headers={"If-None-Match": answer.headers["ETag"]})
    assert (again.status_code, again.text) == (304, "")


def test_the_guide_is_a_public_page_with_its_contents(outsider: Client) -> None:
    page = outsider.get("/guide", headers={"Accept": "text/html"})
    assert page.status_code == 200
    targets = re.findall(r'<li class="guide-h[23]"><a href="#([\w-]+)">', page.text)
    assert len(targets) > 20
    assert all(page.text.count(f'id="{target}"') == 1 for target in targets)
    assert "${{ matrix.os }}" in page.text
    assert 'href="/guide">Guide to pipelines</a>' in page.text
    assert outsider.get("/guide/pipelines").text.count("<h1") == 1
    for name in ("page", "none", "%2e%2e", "pipelines.html"):
        assert outsider.get(f"/guide/{name}").status_code == 404
