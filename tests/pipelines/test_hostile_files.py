"""Pipeline files that try to harm the one who reads them."""

import json
import re
import time
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.pipeline.constants import MAX_BYTES
from agent.pipeline.nodes import DefinitionInvalid
from agent.pipeline.reader import definition_read
from agent.pipeline.table import GRAPH, JOB
from tests.examples import examples

SECONDS = 20
JOB_TEXT = "jobs:\n  a:\n    steps: [{run: make}]\n"


def said(text: str) -> list[str]:
    """The messages about a text; none if it is valid. It must be read soon."""
    began = time.process_time()
    try:
        definition_read(text)
        found = []
    except DefinitionInvalid as error:
        found = [problem["message"] for problem in error.problems]
    assert time.process_time() - began < SECONDS
    return found


BOMB = "jobs:\n  a: &a {steps: [{run: make}]}\n" + "".join(
    f"  {name}: &{name} [{', '.join([f'*{before}'] * 9)}]\n"
    for before, name in zip("abcdefgh", "bcdefghi", strict=True)
)


def test_yaml_bombs_and_anchors_are_refused_before_they_grow() -> None:
    found = said(BOMB)
    assert "must not have the anchor &a; remove it" in found
    assert "must not be the alias *a; write the value itself, and a text that begins with * in quotes" in found
    assert said(f"{JOB_TEXT}    <<: *x\n") == [
        "must not be used to merge mappings; write the keys here, or for all jobs in `defaults`"
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("".join(f"k{number}: 1\n" for number in range(100_000)), "must be at most 524,288 bytes long"),
        ("".join(f"{number}:\n" for number in range(100_000))[:MAX_BYTES], "must have at most 30,000 keys and values"),
        (f"{JOB_TEXT}    labels: [{'a,' * 100_000}]", "must have at most 30,000 keys and values"),
        ("jobs: {" + "a: 1, " * 80_000 + "}", "must be given once; line 1 already has the key 'a'"),
        (
            JOB_TEXT + "    env: {" + ", ".join(f"K{n}: ''" for n in range(12_000)) + "}",
            "must be at most 131,072 bytes",
        ),
        ("#" * (MAX_BYTES + 1), "must be at most 524,288 bytes long"),
        ("[" * 500_000, "must be nested at most 10 levels deep"),
        ("jobs:\n  a:\n    if: '" + "(" * 900 + "'\n    steps: [{run: x}]", "must be nested at most 20 levels deep"),
    ],
)
def test_a_hundred_thousand_keys_or_values_are_refused_soon(text: str, message: str) -> None:
    assert said(text)[0].startswith(message)


def test_a_line_of_a_thousand_jobs_in_a_long_file_is_read_soon() -> None:
    jobs = "".join(f"  j{n}:\n    needs: j{n - 1}\n    steps: [{{run: '{'x' * 400}'}}]\n" for n in range(1, 1000))
    assert len(jobs) > 400_000
    assert said(f"jobs:\n  j0: {{steps: [{{run: x}}]}}\n{jobs}") == []


def test_duplicate_keys_are_refused_in_jobs_too() -> None:
    text = f"{JOB_TEXT}    timeout: 5m\n    timeout: 6m\n  a: {{steps: [{{run: x}}]}}\n"
    assert said(text) == [
        "must be given once; line 4 already has the key 'timeout'",
        "must be given once; line 2 already has the key 'a'",
    ]


def test_tabs_are_refused_with_advice() -> None:
    (message,) = said("jobs:\n\ta:\n")
    assert message.endswith("indent with spaces, not with tabs")


WRONG: list[Any] = [
    None,
    "",
    "text",
    7,
    -1,
    True,
    [],
    ["x"],
    [[]],
    {},
    {"x": 1},
    {"a": {"b": [{}]}},
    "${{ branch }}",
    "${{",
]


@pytest.mark.parametrize("key", [*JOB.keys])
def test_wrong_types_of_every_key_of_a_job_are_refused_or_read(key: str) -> None:
    for value in WRONG:
        members = {"steps": [{"run": "make"}], key: value}
        for message in said(yaml.safe_dump({"jobs": {"a": members}})):
            assert message.startswith(("must ", "unknown key")), (value, message)


@pytest.mark.parametrize("key", [*GRAPH.keys])
def test_wrong_types_of_every_key_of_the_file_are_refused_or_read(key: str) -> None:
    for value in WRONG:
        for message in said(yaml.safe_dump({"jobs": {"a": {"steps": [{"run": "make"}]}}, key: value})):
            assert message.startswith(("must ", "unknown key")), (value, message)


def test_unknown_keys_are_refused_everywhere() -> None:
    text = """\
nope: 1
on: {nope: 1, push: {nope: 1}, schedule: [{cron: '* * * * *', nope: 1}]}
defaults: {nope: 1}
parameters: {p: {nope: 1}}
concurrency: {group: a, nope: 1}
jobs:
  a:
    nope: 1
    needs: [{job: b, nope: 1}]
    matrix: {nope: 1}
    retries: {nope: 1}
    artifacts: {paths: a, nope: 1}
    caches: [{key: a, paths: a, nope: 1}]
    reports: {nope: 1}
    steps: [{run: x, nope: 1}]
  b: {steps: [{run: x}]}
"""
    found = said(text)
    assert len(found) == text.count("nope")
    assert all(message.startswith("unknown key 'nope'; ") for message in found)


KEYS = st.sampled_from(
    [*GRAPH.keys, *JOB.keys, "name", "run", "axes", "include", "group", "key", "paths", "job", "result"]
)
LEAVES = st.sampled_from(["a", "b", "main", "${{ branch }}", "${{ needs.a.result }}", "branch == 'x'", "5m", "3", ""])
VALUES = st.recursive(
    st.none() | LEAVES | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=4),
    max_leaves=15,
)
STEPS = st.just([{"run": "make"}])


@settings(max_examples=examples(40), deadline=None)
@given(
    st.fixed_dictionaries(
        {
            "jobs": st.dictionaries(
                st.sampled_from("abc"),
                st.fixed_dictionaries({"steps": STEPS | VALUES}).flatmap(
                    lambda fixed: st.dictionaries(st.sampled_from([*JOB.keys]), VALUES, max_size=3).map(
                        lambda more: more | fixed
                    )
                ),
                max_size=3,
            )
        },
        optional={key: VALUES for key in GRAPH.keys if key != "jobs"},
    )
)
def test_any_file_with_jobs_is_read_or_refused_at_a_place_that_exists(members: dict[str, Any]) -> None:
    text = yaml.safe_dump(members, allow_unicode=True)
    lines = re.split("\r\n|[\n\r\x85\u2028\u2029]", text)
    try:
        definition_read(text)
    except DefinitionInvalid as error:
        for problem in error.problems:
            assert 1 <= problem["line"] <= len(lines)
            assert 1 <= problem["column"] <= len(lines[problem["line"] - 1]) + 1
            json.dumps(problem, ensure_ascii=False).encode()
