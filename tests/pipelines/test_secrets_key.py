"""`secrets` of a job: which secrets its steps get, and whether as variables or as files."""

from __future__ import annotations

from typing import Any

import pytest

from agent.pipeline.definition import Node, SecretUse
from agent.pipeline.expressions import Context
from agent.pipeline.graph import graph_expand
from agent.pipeline.nodes import DefinitionInvalid
from agent.pipeline.reader import definition_read
from apps.pipelines.definitions import SECRET_NAME, Definition, secret_uses

FORM = (
    "must be 1 to 64 capital letters, digits and _, beginning with a letter, and no variable that shells or the agent"
)
USES = "[PYPI_TOKEN, {name: KUBECONFIG, file: true}, {name: PLAIN}]"


def said(text: str) -> list[str]:
    with pytest.raises(DefinitionInvalid) as caught:
        definition_read(text)
    return [f"{found['field']}: {found['message']}" for found in caught.value.problems]


@pytest.mark.parametrize(
    "text", [f"steps: [{{run: make}}]\nsecrets: {USES}", f"jobs: {{main: {{steps: [{{run: make}}], secrets: {USES}}}}}"]
)
def test_a_secret_is_a_variable_or_a_file_in_both_forms_of_a_file(text: str) -> None:
    pipeline = definition_read(text)
    expected = [SecretUse("PYPI_TOKEN"), SecretUse("KUBECONFIG", file=True), SecretUse("PLAIN")]
    assert pipeline.jobs["main"].secrets == expected


def test_a_node_of_a_run_keeps_its_secrets_in_few_bytes() -> None:
    pipeline = definition_read(f"jobs: {{deploy: {{steps: [{{run: make}}], secrets: {USES}}}}}")
    (node,) = graph_expand(pipeline, Context(ref="main", branch="main", event="push", commit="c" * 40, pipeline="p"))
    assert node.as_dict()["secrets"] == ["PYPI_TOKEN", {"name": "KUBECONFIG", "file": True}, "PLAIN"]
    again = Node.from_dict({"name": "deploy", "job": "deploy", **node.as_dict()})
    assert secret_uses(again.secrets) == [
        {"name": "PYPI_TOKEN", "file": False},
        {"name": "KUBECONFIG", "file": True},
        {"name": "PLAIN", "file": False},
    ]


@pytest.mark.parametrize(
    ("stored", "uses"),
    [
        ({}, []),
        ({"secrets": ["A", "B"]}, [{"name": "A", "file": False}, {"name": "B", "file": False}]),
        (
            {"secrets": ["A", {"name": "B", "file": True}]},
            [{"name": "A", "file": False}, {"name": "B", "file": True}],
        ),
    ],
)
def test_stored_definitions_are_read_with_and_without_secrets(
    stored: dict[str, Any], uses: list[dict[str, Any]]
) -> None:
    assert Definition.stored_fill({"steps": [{"name": "s", "run": "true"}], **stored})["secrets"] == uses


def test_a_stored_definition_has_the_secrets_of_its_file() -> None:
    definition = Definition.of(definition_read(f"steps: [{{run: make}}]\nsecrets: {USES}").jobs["main"])
    stored = definition.as_stored()
    assert stored["secrets"] == ["PYPI_TOKEN", {"name": "KUBECONFIG", "file": True}, "PLAIN"]
    assert Definition.stored_fill(stored)["secrets"] == definition.as_dict()["secrets"]
    assert "secrets" not in Definition.of(definition_read("steps: [{run: make}]").jobs["main"]).as_stored()


@pytest.mark.parametrize(
    "name",
    [
        *("CI", "PATH", "HOME", "HYBRID_CI_COMMIT", "LD_PRELOAD", "BASH_ENV", "ENV", "IFS", "lower", "1A", "_A", "A-B"),
        *("GIT_CONFIG_GLOBAL", "PS4", "SHELLOPTS", "TMPDIR", "A" * 65),
    ],
)
def test_a_secret_cannot_take_the_place_of_another_variable(name: str) -> None:
    (message,) = said(f"steps: [{{run: make}}]\nsecrets: [{name}]")
    assert message.startswith(f"secrets[0]: {FORM}")
    (message,) = said(f"steps: [{{run: make}}]\nsecrets: [{{name: {name}, file: true}}]")
    assert message.startswith(f"secrets[0].name: {FORM}")


@pytest.mark.parametrize(
    "name", ["A", "A" * 64, "CI_TOKEN", "PATHS", "HYBRID", "MY_HOME", "GIT_TOKEN", "CIX", "ENVIRONMENT"]
)
def test_names_that_only_resemble_others_are_free(name: str) -> None:
    assert SECRET_NAME.fullmatch(name)
    assert definition_read(f"steps: [{{run: make}}]\nsecrets: [{name}]").jobs["main"].secrets == [SecretUse(name)]


@pytest.mark.parametrize(
    ("member", "expected"),
    [
        ("secrets: [A, A]", "secrets[1]: must name each secret once; 'A' is"),
        (
            "secrets: [A, {name: A, file: true}]",
            "secrets[1].name: must name each secret once; 'A' is",
        ),
        (
            "secrets: [A]\nenv: {A: b}",
            "secrets[0]: must not be a variable in `env` as well; remove A there",
        ),
        ("secrets: A", "secrets: must be a list, not the text 'A'; write only the names, as in secrets: "),
        (
            "secrets: {A: b}",
            "secrets: must be a list, not a mapping; write only the names, as in secrets: ",
        ),
        ("secrets: [{file: true}]", "secrets[0].name: must be given, as in name: KUBECONFIG"),
        ("secrets: [{name: A, file: maybe}]", "secrets[0].file: must be true or false, not 'maybe'"),
        ("secrets: [[A]]", "secrets[0]: must be the name of a secret, or a mapping with it, not a list"),
    ],
)
def test_mistakes_are_explained(member: str, expected: str) -> None:
    (message,) = said(f"steps: [{{run: make}}]\n{member}")
    assert message.startswith(expected)


def test_a_step_cannot_set_the_variable_of_a_secret_but_that_of_all_jobs_gives_way() -> None:
    job = "{steps: [{run: make, env: {A: b}}], secrets: [A]}"
    assert said(f"jobs: {{deploy: {job}}}")[0].startswith("jobs.deploy.secrets[0]: must not be a variable in `env`")
    assert definition_read("env: {A: b}\njobs: {deploy: {steps: [{run: make}], secrets: [A]}}")
