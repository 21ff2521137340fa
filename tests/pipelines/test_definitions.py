"""The pipeline definition: what it means, and what its writer is told."""

import json
import time
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import example, given, settings
from hypothesis import strategies as st

from apps.pipelines.definitions import (
    DEFAULT_RETRIES,
    MAX_BYTES,
    MAX_STEPS,
    Definition,
    Step,
    definition_parse,
    pipeline_name_validate,
)
from controlplane.lib.errors import InvalidInput

REPOSITORY = Path(__file__).parents[2]


def problems(text: str) -> list[tuple[str, int, str]]:
    """What is said of a text that is wrong: field, line and message of each problem."""
    with pytest.raises(InvalidInput) as caught:
        definition_parse(text)
    assert caught.value.code == "definition_invalid"
    return [(error["field"], error["line"], error["message"]) for error in caught.value.errors]


def refusals(text: str) -> list[Any]:
    """The same of any text; nothing of one that is right."""
    try:
        definition_parse(text)
    except InvalidInput as error:
        return [*error.errors] or ["refused without a reason"]
    return []


def places(text: str) -> list[tuple[str, int]]:
    return [(field, line) for field, line, _ in problems(text)]


def one_step(member: str) -> str:
    return f"steps:\n  - run: make\n    {member}\n"


def test_everything_a_definition_can_say_is_read() -> None:
    parsed = definition_parse(
        """\
labels: [linux, gpu]
timeout: 1h30m
retries: 0
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
    )


def test_what_is_left_out_has_a_default() -> None:
    parsed = definition_parse("steps: [{run: make}]")
    assert (parsed.env, parsed.labels, parsed.timeout, parsed.retries) == ({}, [], None, DEFAULT_RETRIES)


def test_a_definition_becomes_json() -> None:
    parsed = definition_parse("steps: [{run: make, timeout: 10m}]\nlabels: [linux]").as_dict()
    assert json.loads(json.dumps(parsed)) == {
        "steps": [{"name": "make", "run": "make", "env": {}, "timeout": 600}],
        "env": {},
        "labels": ["linux"],
        "timeout": None,
        "retries": 2,
    }


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


def test_all_problems_are_told_at_once_in_the_order_of_their_lines() -> None:
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


def test_an_unknown_key_is_refused_with_the_one_that_was_meant() -> None:
    assert problems("steps:\n  - run: make\n    time_out: 5\nlabel: [a]\n") == [
        ("steps[0].time_out", 3, "unknown key 'time_out'; did you mean 'timeout'?"),
        ("label", 4, "unknown key 'label'; did you mean 'labels'?"),
    ]
    assert problems("steps: [{run: make}]\nxyz: 1") == [
        ("xyz", 2, "unknown key 'xyz'; allowed are steps, env, labels, timeout, retries")
    ]


def test_a_key_that_stands_there_twice_is_refused() -> None:
    assert problems("steps:\n  - run: make\n    run: rm -r /\n") == [
        ("steps[0]", 3, "the key 'run' stands already on line 2")
    ]


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


def test_aliases_are_refused_before_they_grow() -> None:
    bomb = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
        f"{name}: &{name} [{', '.join(['*' + before] * 9)}]\n"
        for before, name in zip("abcdefgh", "bcdefghi", strict=True)
    )
    began = time.monotonic()
    found = problems(bomb)
    assert time.monotonic() - began < 2
    assert ("definition", 1, "the anchor &a is not allowed") in found
    assert ("definition", 2, "the alias *a is not allowed; write it out") in found


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
def test_depth_is_refused_before_it_costs_anything(text: str) -> None:
    began = time.monotonic()
    assert [message for _, _, message in problems(text)] == ["nested more than 10 levels deep"]
    assert time.monotonic() - began < 2


def test_a_definition_has_at_most_64_kilobytes_of_utf_8() -> None:
    start = "steps:\n  - run: make\n# "
    definition_parse(start + "x" * (MAX_BYTES - len(start)))
    assert places(start + "x" * (MAX_BYTES - len(start) + 1)) == [("definition", 1)]
    assert places(start + "é" * (MAX_BYTES // 2)) == [("definition", 1)]


def test_countless_problems_are_told_as_far_as_anybody_reads() -> None:
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


@settings(max_examples=500, deadline=None)
@given(st.text() | YAMLISH)
@example("? [a]\n: b")
@example("? {a: b}\n: &x c")
@example("*a : b")
@example("steps: *undefined")
@example("a: &a [*a]")
def test_any_text_is_read_or_refused(text: str) -> None:
    for error in refusals(text):
        assert error["line"] >= 1
        assert error["message"]
        json.dumps(error, ensure_ascii=False).encode()


@settings(max_examples=300, deadline=None)
@given(VALUES)
def test_any_yaml_is_read_or_refused_at_a_line_that_exists(value: Any) -> None:
    text = yaml.safe_dump(value, allow_unicode=True)
    assert all(1 <= error["line"] <= text.count("\n") + 1 for error in refusals(text))


STEPS = st.lists(
    st.fixed_dictionaries(
        {"run": st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Cs"]), min_size=1).filter(str.strip)},
        optional={
            "timeout": st.integers(1, 604800),
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


@settings(max_examples=200, deadline=None)
@given(STEPS)
def test_what_another_program_writes_is_read_unchanged(steps: list[dict[str, Any]]) -> None:
    parsed = definition_parse(yaml.safe_dump({"steps": steps}, allow_unicode=True))
    assert [(step.run, step.env, step.timeout) for step in parsed.steps] == [
        (step["run"], step.get("env", {}), step.get("timeout")) for step in steps
    ]


def test_this_repository_has_a_definition() -> None:
    parsed = definition_parse((REPOSITORY / ".hybrid-ci.yml").read_text())
    assert {"lint", "test"} <= {step.name for step in parsed.steps}


@pytest.mark.parametrize("name", ["self", "a", "0-9_x", "a" * 63])
def test_a_pipeline_has_a_plain_name(name: str) -> None:
    assert pipeline_name_validate(name) == name


@pytest.mark.parametrize("name", ["", "-a", "_a", "A", "a b", "a/b", "a\n", "é", "a" * 64, "a.b"])
def test_another_name_is_refused(name: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        pipeline_name_validate(name)
    assert [error["field"] for error in caught.value.errors] == ["name"]
