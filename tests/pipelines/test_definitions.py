"""The pipeline definition: what it means, and the messages about its mistakes."""

import json
import re
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import example, given, settings
from hypothesis import strategies as st

from agent.pipeline.table import DEFINITION, MAX_EXPIRE_SECONDS, MIN_EXPIRE_SECONDS, STEP
from apps.jobs.serializers.agent_artifacts import EXPIRE_LEAST, EXPIRE_MOST
from apps.pipelines.definitions import (
    DEFAULT_RETRIES,
    ENV_NAME,
    MAX_BYTES,
    Definition,
    Step,
    pipeline_name_validate,
)
from apps.pipelines.parsing import definition_parse, pipeline_parse
from controlplane.lib.errors import InvalidInput
from controlplane.lib.labels import LABEL
from controlplane.lib.steps import MAX_STEPS
from tests.examples import examples

REPOSITORY = Path(__file__).parents[2]


def problems(text: str) -> list[tuple[str, int, str]]:
    """Field, line and message of each problem of an invalid text."""
    with pytest.raises(InvalidInput) as caught:
        definition_parse(text)
    assert caught.value.code == "definition_invalid"
    return [(error["field"], error["line"], error["message"]) for error in caught.value.errors]


def refusals(text: str) -> list[Any]:
    """The errors of any text; none if it is valid."""
    try:
        definition_parse(text)
    except InvalidInput as error:
        return list[Any](error.errors) or ["refused without a reason"]
    return []


def places(text: str) -> list[tuple[str, int]]:
    return [(field, line) for field, line, _ in problems(text)]


ONE_STEP = "steps: [{run: make}]\n"


def one_step(member: str) -> str:
    return f"steps:\n  - run: make\n    {member}\n"


def test_everything_a_definition_can_say_is_read() -> None:
    parsed = definition_parse(
        """\
labels: [linux, gpu]
timeout: 1h30m
retries: 0
submodules: true
env: {CI: "true"}
steps:
  - name: lint
    run: make lint
    timeout: 90
  - run: |
      make test
      make report
    env:
      COLOUR: never
"""
    )
    assert parsed == Definition(
        steps=[
            Step(name="lint", run="make lint", env={}, timeout=90),
            Step(name="make test", run="make test\nmake report\n", env={"COLOUR": "never"}, timeout=None),
        ],
        env={"CI": "true"},
        labels=["linux", "gpu"],
        timeout=5400,
        retries=0,
        submodules=True,
    )


def test_what_is_left_out_has_a_default() -> None:
    parsed = definition_parse("steps: [{run: make}]")
    assert (parsed.env, parsed.labels, parsed.timeout, parsed.retries) == ({}, [], None, DEFAULT_RETRIES)
    assert parsed.submodules is False


@pytest.mark.parametrize(
    ("command", "name"),
    [
        ("make\ttest\nmake report", "maketest"),
        ("x" * 200, "x" * 100),
        ("\u200b make", "make"),
        ("\u200b \u200b\nmake", "unnamed step"),
    ],
)
def test_a_step_without_a_name_is_named_after_what_can_be_printed_of_its_first_line(command: str, name: str) -> None:
    assert definition_parse(yaml.safe_dump({"steps": [{"run": command}]})).steps[0].name == name


def test_a_definition_becomes_json() -> None:
    parsed = definition_parse("steps: [{run: make, timeout: 10m}]\nlabels: [linux]").as_dict()
    assert json.loads(json.dumps(parsed)) == {
        "steps": [{"name": "make", "run": "make", "env": {}, "timeout": 600}],
        "env": {},
        "labels": ["linux"],
        "timeout": None,
        "retries": 2,
        "container": None,
        "submodules": False,
        "artifacts": None,
        "caches": [],
        "reports": None,
        "outputs": [],
        "secrets": [],
        "environment": None,
    }


@pytest.mark.parametrize(
    "image",
    [
        "alpine",
        "python:3.12-slim",
        "docker.io/library/python:3.12",
        "localhost:5000/team/image_1",
        "registry.example.org/a/b/c:v1.0_x@sha256:" + "0" * 64,
    ],
)
def test_a_container_is_an_image_and_asks_for_agents_with_the_label_container(image: str) -> None:
    parsed = definition_parse(f"{ONE_STEP}container: {image}\nlabels: [linux]")
    assert parsed.container == image
    assert parsed.labels == ["linux", "container"]
    assert definition_parse(f"{ONE_STEP}labels: [container]\ncontainer: {image}").labels == ["container"]


@pytest.mark.parametrize(
    "image",
    [
        "--privileged",
        "-v",
        "docker-archive:/etc/passwd",
        "oci:../image",
        "dir:/tmp",
        "../image",
        "/image",
        "image:",
        "a b",
        "Image",
        "docker://image",
        "a" * 256,
        "image@sha256:0",
    ],
)
def test_a_container_can_pass_no_option_path_or_transport_to_the_engine(image: str) -> None:
    ((field, _, message),) = problems(f"{ONE_STEP}container: '{image}'")
    assert field == "container"
    assert message.startswith("must be an image, as in python:3.12-slim or registry.example.org/team/image:1, not ")


def test_values_of_variables_are_taken_as_they_are_written() -> None:
    parsed = definition_parse(one_step("env: {PYTHON: 3.10, DEBUG: yes, DAY: 2026-11-21, MODE: 0o17, QUOTED: '1.50'}"))
    assert parsed.steps[0].env == {
        "PYTHON": "3.10",
        "DEBUG": "yes",
        "DAY": "2026-11-21",
        "MODE": "0o17",
        "QUOTED": "1.50",
    }


def test_a_command_may_look_like_another_type() -> None:
    assert definition_parse("steps: [{run: true}]").steps[0].run == "true"


def test_a_label_counts_once() -> None:
    assert definition_parse("steps: [{run: make}]\nlabels: [b, a, b]").labels == ["b", "a"]


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("90", 90), ("90s", 90), ("10m", 600), ("2h", 7200), ("1h30m", 5400), ("1h0m5s", 3605), ('"15m"', 900)],
)
def test_a_time_limit_is_seconds_or_a_duration(text: str, seconds: int) -> None:
    assert definition_parse(one_step(f"timeout: {text}")).steps[0].timeout == seconds


@pytest.mark.parametrize(
    "text",
    ["0", "-5", "1.5", "10 m", "30m1h", "1h30", "1:30", "soon", "9999h", '""', "~", "[10]", "true", "١٠", "9" * 5000],
)
def test_another_time_limit_is_refused_with_its_line(text: str) -> None:
    assert places(one_step(f"timeout: {text}")) == [("steps[0].timeout", 3)]


@pytest.mark.parametrize("text", ["-1", "11", "2.0", "two", "~", "[1]"])
def test_retries_are_a_whole_number_up_to_ten(text: str) -> None:
    assert places(f"retries: {text}\nsteps: [{{run: make}}]") == [("retries", 1)]


@pytest.mark.parametrize(("text", "value"), [("true", True), ("false", False), ("True", True), ("FALSE", False)])
def test_submodules_are_fetched_if_it_says_true(text: str, value: bool) -> None:
    assert definition_parse(f"submodules: {text}\nsteps: [{{run: make}}]").submodules is value


def test_all_problems_are_reported_at_once_in_the_order_of_their_lines() -> None:
    text = """\
timeout: tomorrow
retries: 99
steps:
  - name: build
  - run: make
    timeout: 5x
    env: {1ST: a}
  - just text
labels: linux
"""
    assert places(text) == [
        ("timeout", 1),
        ("retries", 2),
        ("steps[0].run", 4),
        ("steps[1].timeout", 6),
        ("steps[1].env.1ST", 7),
        ("steps[2]", 8),
        ("labels", 9),
    ]


def test_the_summary_names_the_first_line_and_counts_the_others() -> None:
    with pytest.raises(InvalidInput, match=r"^line 1, retries: .* \(and 1 more problem\)$"):
        definition_parse("retries: 99\nstep: []\nsteps: [{run: make}]")


def test_an_unknown_key_is_refused_with_a_similar_one_or_all_that_are_allowed() -> None:
    assert problems("steps:\n  - run: make\n    time_out: 5\nlabel: [a]\n") == [
        ("steps[0].time_out", 3, "unknown key 'time_out'; did you mean 'timeout'?"),
        ("label", 4, "unknown key 'label'; did you mean 'labels'?"),
    ]
    allowed = "steps, env, labels, timeout, retries, container, submodules, artifacts, caches, outputs, secrets, "
    allowed += "reports, on"
    jobs = "write a job under `jobs`, as in jobs: {test: {steps: [{run: make}]}}"
    assert problems("steps: [{run: make}]\nxyz: 1") == [("xyz", 2, f"unknown key 'xyz'; allowed are {allowed}; {jobs}")]


GITHUB = """\
name: tests
on: [push]
jobs:
  build:
    runs-on: ubuntu-latest
    steps:
      - uses: actions/checkout@v4
      - run: make
"""
GITLAB = """\
variables: {CI: "true"}
.base: &base
  image: python:3.12
test:
  script: [make test]
"""
STAGES = "stages: [build, test]\nbuild:\n  stage: build\n"
CIRCLECI = "version: 2.1\njobs:\n  build:\n    docker: [{image: cimg/base}]\n    steps: [checkout]\n"
BUILDKITE = 'steps:\n  - label: ":hammer:"\n    command: make\n  - wait\n'


@pytest.mark.parametrize(
    ("text", "product", "field", "line"),
    [
        (GITHUB, "GitHub Actions", "jobs.build", 4),
        ("steps:\n  - uses: actions/checkout@v4\n  - run: make\n", "GitHub Actions", "steps[0]", 2),
        (GITLAB, "GitLab CI", "test", 4),
        (STAGES, "GitLab CI", "stages", 1),
        (CIRCLECI, "CircleCI", "jobs.build", 3),
        (BUILDKITE, "Buildkite", "steps[0]", 2),
    ],
)
def test_a_file_for_another_product_is_named_first_with_a_page_that_shows_what_to_write_instead(
    text: str, product: str, field: str, line: int
) -> None:
    first, *others = problems(text)
    assert first[:2] == (field, line)
    assert f"not in that of {product}; its page /docs/other-ci shows what to write instead" in first[2]
    # All mistakes still follow, in the order of their lines.
    assert others
    assert [number for _, number, _ in others] == sorted(number for _, number, _ in others)


@pytest.mark.parametrize(
    "text",
    [
        "env: {script: x}\nretries: many\nsteps: [{run: make}]\n",
        "steps:\n  - run: make\n  - command: make\n",
        "jobs: 3\nsteps: [{run: make}]\n",
        "stages: many\n",
    ],
)
def test_a_file_of_this_product_with_mistakes_is_not_taken_for_another_ones(text: str) -> None:
    assert not any("its page" in message for _, _, message in problems(text))


def test_a_key_that_occurs_twice_is_refused() -> None:
    assert problems("steps:\n  - run: make\n    run: rm -r /\n") == [
        ("steps[0].run", 3, "must be given once; line 2 already has the key 'run'")
    ]


def test_a_mistake_has_the_line_of_its_key() -> None:
    assert places("jobs:\n\n  - {}\nlabels:\n\n  a: b\nsteps: [{run: make}]\n") == [("jobs", 1), ("labels", 4)]


def test_every_message_says_what_the_value_must_be() -> None:
    text = """\
labels: linux
timeout: soon
retries: 11
submodules: yes
env: {1ST: a, LIST: [], EMPTY:}
steps:
  - name: "two\\nlines"
    run: " "
    timeout: 25h
  - name: without a command
  - just text
  - run: "\\0"
    env: [a]
"""
    assert problems(text) == [
        ("labels", 1, "must be a list, not the text 'linux'; as in labels: [linux]"),
        ("timeout", 2, "must be a time from 1 second to 24 hours, as in 90, 90s, 10m or 1h30m, not 'soon'"),
        ("retries", 3, "must be a whole number from 0 to 10, not '11'"),
        ("submodules", 4, "must be true or false, not 'yes'; did you mean true?"),
        ("env.1ST", 5, "must have a name that is 1 to 255 letters, digits and _, not beginning with a digit"),
        ("env.LIST", 5, "must be text, not a list"),
        ("env.EMPTY", 5, 'must have a value; write "" for an empty text'),
        ("steps[0].name", 7, "must be one line of 1 to 100 printable characters, not 'two\ufffdlines'"),
        ("steps[0].run", 8, "must be text with more than white space, not ' '"),
        ("steps[0].timeout", 9, "must be a time from 1 second to 24 hours, as in 90, 90s, 10m or 1h30m, not '25h'"),
        ("steps[1].run", 10, "must be given, as in run: make test"),
        (
            "steps[2]",
            11,
            "must be a mapping (key: value), not the text 'just text'; write `run:` before it, as in run: make test",
        ),
        ("steps[3].run", 12, "must not contain a NUL character or half of a surrogate pair"),
        ("steps[3].env", 13, "must be a mapping (key: value), not a list; as in env: {COLOUR: never}"),
    ]


def test_what_is_refused_for_its_form_has_one_message_only() -> None:
    assert problems("steps: [{run: make}]\nlabels: *others\nenv: !own {A: b}\n") == [
        ("labels", 2, "must not be the alias *others; write the value itself, and a text that begins with * in quotes"),
        ("env", 3, "must not have the tag !own; remove it"),
    ]


def test_keys_are_text() -> None:
    assert problems("steps: [{run: make}]\n? [a]\n: b\n") == [
        ("definition", 2, "must have only text as keys; put a text that begins with { or [ in quotes")
    ]


def test_messages_are_short_whatever_the_text() -> None:
    for text in (f"!{'x' * 60_000}!y a", f"{'k' * 60_000}: 1", f"steps: &{'a' * 60_000} []", f"steps: {'x' * 60_000}"):
        for field, _, message in problems(text):
            assert len(field) < 100
            assert len(message) < 300


def test_the_table_has_the_members_of_what_is_made_of_it() -> None:
    # The triggers are of the pipeline, not of its job. Only jobs of a graph have an environment.
    assert {*(field.name for field in fields(Definition)), "on"} - {"environment"} == set(DEFINITION.keys)
    assert {field.name for field in fields(Step)} == set(STEP.keys)


@pytest.mark.parametrize(
    "text", ["", "# nothing\n", "---\n", "~", "[]", "just text", "steps:", "steps: []", "steps: {}"]
)
def test_a_definition_without_steps_is_refused(text: str) -> None:
    assert len(problems(text)) >= 1


def test_there_are_at_most_a_hundred_steps() -> None:
    steps = "steps:\n" + "  - run: make\n" * MAX_STEPS
    assert len(definition_parse(steps).steps) == MAX_STEPS
    assert places(steps + "  - run: make\n") == [("steps", MAX_STEPS + 2)]


@pytest.mark.parametrize("name", ["x" * 101, '""', '"  "', '"two\\nlines"', '"\\e[31m"'])
def test_a_name_is_one_short_line(name: str) -> None:
    assert places(one_step(f"name: {name}")) == [("steps[0].name", 3)]


@pytest.mark.parametrize("command", ['""', '"  "', "~", "[make]", "{a: b}", '"a\\0b"', '"\\ud800"'])
def test_a_command_is_text_that_can_be_run(command: str) -> None:
    assert places(f"steps:\n  - name: a\n    run: {command}\n") == [("steps[0].run", 3)]


@pytest.mark.parametrize("label", ['""', "-x", '"a b"', "x" * 64, "[a]", "~", '"a;b"'])
def test_a_label_is_one_word(label: str) -> None:
    assert places(f"steps: [{{run: make}}]\nlabels:\n  - {label}\n") == [("labels[0]", 3)]


@pytest.fixture
def events_read(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The events of YAML that the reader has looked at."""
    read: list[Any] = []
    parse = yaml.parse

    def parse_and_note(text: str, **options: Any) -> Iterator[Any]:
        for event in parse(text, **options):
            read.append(event)
            yield event

    monkeypatch.setattr(yaml, "parse", parse_and_note)
    return read


def test_aliases_are_refused_before_they_grow(events_read: list[Any]) -> None:
    bomb = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
        f"{name}: &{name} [{', '.join(['*' + before] * 9)}]\n"
        for before, name in zip("abcdefgh", "bcdefghi", strict=True)
    )
    found = problems(bomb)
    # As many as the text has: nine lists of nine.
    assert len(events_read) < 150
    assert ("a", 1, "must not have the anchor &a; remove it") in found
    alias = "must not be the alias *a; write the value itself, and a text that begins with * in quotes"
    assert ("b[0]", 2, alias) in found


@pytest.mark.parametrize(
    "text", ["!!python/object/apply:os.system [id]", "!!python/name:os.system", "!own x", "!!set {a}"]
)
def test_a_tag_makes_no_object_and_is_refused(text: str) -> None:
    found = problems(one_step(f"name: {text}"))
    assert {(field, line) for field, line, _ in found} == {("steps[0].name", 3)}


def test_a_merge_key_is_an_unknown_key() -> None:
    assert places("steps:\n  - run: make\n    <<: {timeout: 5}\n") == [("steps[0].<<", 3)]


@pytest.mark.parametrize(
    "text", ["[" * 60_000, "{a: " * 15_000, "- " * 30_000, "? " * 30_000, "steps: " + "[" * 60_000]
)
def test_depth_is_refused_before_it_costs_anything(text: str, events_read: list[Any]) -> None:
    assert [message for _, _, message in problems(text)] == ["must be nested at most 10 levels deep"]
    assert len(events_read) < 30


def test_a_definition_has_at_most_128_kilobytes_as_json() -> None:
    # YAML has two characters for an escape, JSON has six.
    start, end = 'steps:\n  - name: a\n    run: "', '"\n'
    assert definition_parse(start + "\\e" * 21_000 + end).steps[0].run == "\x1b" * 21_000
    ((field, line, message),) = problems(start + "\\e" * 22_000 + end)
    assert (field, line) == ("definition", 1)
    assert message.startswith("must be at most 131,072 bytes as JSON, not 132,")


def test_ten_levels_are_allowed_and_eleven_are_not() -> None:
    too_deep = "must be nested at most 10 levels deep"
    for levels, refused in ((10, False), (11, True)):
        # The mapping of the whole text is the first level.
        text = "steps: " + "[" * (levels - 1) + "]" * (levels - 1)
        assert (too_deep in [message for _, _, message in problems(text)]) is refused


def test_a_name_has_up_to_100_characters() -> None:
    assert definition_parse(one_step(f"name: {'x' * 100}")).steps[0].name == "x" * 100


def test_a_definition_has_at_most_512_kilobytes_of_utf_8() -> None:
    start = "steps:\n  - run: make\n# "
    definition_parse(start + "x" * (MAX_BYTES - len(start)))
    assert places(start + "x" * (MAX_BYTES - len(start) + 1)) == [("definition", 1)]
    assert places(start + "é" * (MAX_BYTES // 2)) == [("definition", 1)]


def test_at_most_fifty_problems_are_reported() -> None:
    assert len(problems("".join(f"key{number}: 1\n" for number in range(4000)))) == 50


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("steps:\n  - run: make\n   name: x\n", 3),
        ("steps:\n\t- run: make\n", 2),
        ("steps: [{run: make}\n", 2),
        ('steps: ["', 1),
        ("steps: [{run: make}]\n---\nsteps: []\n", 2),
        ("steps: [{run: make}]\n# \x00\n", 2),
        ("\ud800", 1),
        ('steps: [{run: "\\UFFFFFFFF"}]', 1),
        ('steps: [{run: "\\U00110000"}]', 1),
        (f"%YAML 1.{'1' * 5000}\n---\nsteps: []", 1),
    ],
)
def test_what_is_no_yaml_is_refused_with_its_line(text: str, line: int) -> None:
    (found,) = problems(text)
    assert found[:2] == ("definition", line)


YAMLISH = st.text(alphabet="steprunaml:-[]{}&*!|>?%\"'\\,# \n\t<0x\x00\ud800é", max_size=80)
VALUES: Any = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.dates(),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["steps", "name", "run", "env", "labels", "timeout", "retries", "other"]) | st.integers(),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)


@pytest.mark.slow
@settings(max_examples=examples(80), deadline=None)
@given(st.text() | YAMLISH)
@example("? [a]\n: b")
@example("? {a: b}\n: &x c")
@example("*a : b")
@example("steps: *undefined")
@example("a: &a [*a]")
def test_any_text_is_read_or_refused(text: str) -> None:
    lines = len(re.split("\r\n|[\n\r\x85\u2028\u2029]", text))
    for error in refusals(text):
        assert 1 <= error["line"] <= lines
        assert error["message"]
        json.dumps(error, ensure_ascii=False).encode()


@pytest.mark.slow
@settings(max_examples=examples(80), deadline=None)
@given(VALUES)
def test_any_yaml_is_read_or_refused_at_a_line_that_exists(value: Any) -> None:
    text = yaml.safe_dump(value, allow_unicode=True)
    assert all(1 <= error["line"] <= text.count("\n") + 1 for error in refusals(text))


STEPS = st.lists(
    st.fixed_dictionaries(
        {"run": st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Cs"]), min_size=1).filter(str.strip)},
        optional={
            "timeout": st.integers(1, 86400),
            "env": st.dictionaries(
                st.from_regex(r"[A-Z_][A-Z0-9_]{0,9}", fullmatch=True),
                st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Cs"])),
                max_size=3,
            ),
        },
    ),
    min_size=1,
    max_size=5,
)


@pytest.mark.slow
@settings(max_examples=examples(60), deadline=None)
@given(STEPS)
def test_what_another_program_writes_is_read_unchanged(steps: list[dict[str, Any]]) -> None:
    parsed = definition_parse(yaml.safe_dump({"steps": steps}, allow_unicode=True))
    assert [(step.run, step.env, step.timeout) for step in parsed.steps] == [
        (step["run"], step.get("env", {}), step.get("timeout")) for step in steps
    ]


DEFINITIONS = st.fixed_dictionaries(
    {"steps": STEPS},
    optional={
        "labels": st.lists(st.from_regex(LABEL, fullmatch=True), max_size=3),
        "env": st.dictionaries(st.from_regex(ENV_NAME, fullmatch=True), st.text(alphabet="a1~.:# \n'\"é", max_size=9)),
        "timeout": st.sampled_from([1, "90s", "10m", "1h0m5s", "24h"]),
        "retries": st.integers(0, 10),
        "submodules": st.booleans(),
    },
)


@pytest.mark.slow
@settings(max_examples=examples(60), deadline=None)
@given(DEFINITIONS)
def test_a_definition_that_is_written_back_is_the_same(members: dict[str, Any]) -> None:
    parsed = definition_parse(yaml.safe_dump(members, allow_unicode=True))
    given_members = {name: value for name, value in parsed.as_dict().items() if value is not None}
    given_members["steps"] = [
        {name: value for name, value in step.items() if value is not None} for step in given_members["steps"]
    ]
    assert definition_parse(yaml.safe_dump(given_members)) == parsed


def test_this_repository_has_a_definition() -> None:
    parsed = pipeline_parse((REPOSITORY / ".hybrid-ci.yml").read_text())
    assert {"lint", "types", "tests"} == {need.job for need in parsed.jobs["package"].needs}


@pytest.mark.parametrize("name", ["self", "a", "0-9_x", "a" * 63])
def test_a_pipeline_has_a_plain_name(name: str) -> None:
    assert pipeline_name_validate(name) == name


@pytest.mark.parametrize("name", ["", "-a", "_a", "A", "a b", "a/b", "a\n", "é", "a" * 64, "a.b"])
def test_another_name_is_refused(name: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        pipeline_name_validate(name)
    assert [error["field"] for error in caught.value.errors] == ["name"]


def test_artifacts_are_kept_for_as_long_as_the_control_plane_takes_them() -> None:
    assert (MIN_EXPIRE_SECONDS, MAX_EXPIRE_SECONDS) == (EXPIRE_LEAST, EXPIRE_MOST)
    for time, problem in (("59m", True), ("1h", False), ("90d", False), ("91d", True)):
        text = f"steps: [{{run: make}}]\nartifacts: {{paths: dist, expire_in: {time}}}\n"
        if problem:
            with pytest.raises(InvalidInput, match="from 1 hour to 90 days"):
                definition_parse(text)
        else:
            definition_parse(text)
