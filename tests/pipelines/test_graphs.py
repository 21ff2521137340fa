"""From a pipeline to the nodes of a run."""

import json
import time
from dataclasses import fields, replace
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.pipeline.constants import MAX_JOBS, MAX_NEEDS, MAX_NODE_NAME
from agent.pipeline.definition import Matrix, Node
from agent.pipeline.expressions import Context
from agent.pipeline.graph import graph_expand, node_finish, node_runs
from agent.pipeline.matrices import cells
from agent.pipeline.nodes import DefinitionInvalid
from agent.pipeline.parameters import ParametersInvalid, parameters_values
from agent.pipeline.reader import definition_read
from tests.examples import examples

CONTEXT = Context(branch="main", default_branch="main", parameters={"target": "staging"})


def nodes(text: str, context: Context = CONTEXT, **others: Any) -> dict[str, Node]:
    return {node.name: node for node in graph_expand(definition_read(text), context, **others)}


def refused(text: str, context: Context = CONTEXT) -> list[tuple[int, str, str]]:
    with pytest.raises(DefinitionInvalid) as caught:
        nodes(text, context)
    return [(found["line"], found["field"], found["message"]) for found in caught.value.problems]


def test_needs_of_a_matrix_job_mean_all_of_its_cells() -> None:
    made = nodes(
        "jobs:\n"
        "  deploy: {needs: [{job: test, result: any}, lint], steps: [{run: make}]}\n"
        "  test: {needs: lint, matrix: {axes: {py: ['3.11', '3.12'], os: [linux, mac]}}, steps: [{run: make}]}\n"
        "  lint: {steps: [{run: make}]}\n"
    )
    tests = ["test (3.11, linux)", "test (3.11, mac)", "test (3.12, linux)", "test (3.12, mac)"]
    assert [*made] == ["deploy", *tests, "lint"]
    assert made["deploy"].needs == [{"node": name, "result": "any"} for name in tests] + [
        {"node": "lint", "result": "success"}
    ]
    assert all(made[name].needs == [{"node": "lint", "result": "success"}] for name in tests)
    assert (made[tests[1]].job, made[tests[1]].cell) == ("test", {"py": "3.11", "os": "mac"})


def test_a_matrix_leaves_out_adds_values_and_adds_cells() -> None:
    axes = {"py": ["1", "2"], "os": ["a", "b"]}
    assert cells(Matrix(axes, exclude=[{"py": "1", "os": "b"}])) == [
        {"py": "1", "os": "a"},
        {"py": "2", "os": "a"},
        {"py": "2", "os": "b"},
    ]
    assert cells(Matrix(axes, exclude=[{"py": "1"}])) == [{"py": "2", "os": "a"}, {"py": "2", "os": "b"}]
    include = [{"py": "1", "x": "y"}, {"z": "all"}, {"py": "3", "os": "c"}]
    assert cells(Matrix(axes, include=include)) == [
        {"py": "1", "os": "a", "x": "y", "z": "all"},
        {"py": "1", "os": "b", "x": "y", "z": "all"},
        {"py": "2", "os": "a", "z": "all"},
        {"py": "2", "os": "b", "z": "all"},
        {"py": "3", "os": "c"},
    ]
    assert cells(Matrix(include=[{"a": "1"}, {"a": "2"}])) == [{"a": "1"}, {"a": "2"}]


def test_texts_are_filled_in_as_far_as_they_are_known() -> None:
    (_, node) = nodes(
        "env: {BRANCH: '${{ branch }}', A: a}\n"
        "parameters: {target: {}}\n"
        "jobs:\n"
        "  build: {outputs: [V], steps: [{run: make}]}\n"
        "  test:\n"
        "    needs: build\n"
        "    matrix: {axes: {os: [linux]}}\n"
        "    env: {A: b, V: '${{ matrix.os }}-${{ needs.build.outputs.V }}'}\n"
        "    labels: ['${{ matrix.os }}', linux]\n"
        "    container: 'image:${{ matrix.os }}'\n"
        "    environment: ${{ parameters.target }}\n"
        "    concurrency: ${{ parameters.target }}-${{ needs.build.result }}\n"
        "    artifacts: {paths: 'out/${{ matrix.os }}/**'}\n"
        "    caches: [{key: \"${{ matrix.os }}-${{ hashFiles('x') }}\", paths: [a]}]\n"
        "    reports: {junit: '${{ matrix.os }}.xml', coverage: c.xml}\n"
        "    steps: [{run: make}]\n"
    ).values()
    assert node.env == {"BRANCH": "main", "A": "b", "V": "linux-${{ needs.build.outputs.V }}"}
    assert node.labels == ["linux", "container"]
    assert (node.container, node.environment) == ("image:linux", "staging")
    assert node.group == {"name": "staging-${{ needs.build.result }}", "limit": 1, "cancel_in_progress": False}
    assert node.artifacts == {"paths": ["out/linux/**"], "expire_in": None}
    assert node.caches == [{"key": "linux-${{ hashFiles('x') }}", "restore_keys": [], "paths": ["a"]}]
    assert node.reports == {"junit": ["linux.xml"], "coverage": "c.xml"}


def test_the_rest_is_filled_in_when_the_needs_have_ended() -> None:
    (_, node) = nodes(
        "jobs:\n"
        "  build: {outputs: [V], steps: [{run: make}]}\n"
        "  test:\n"
        "    needs: build\n"
        "    if: env.V == '1.2' && matrix.os == 'linux'\n"
        "    matrix: {axes: {os: [linux]}}\n"
        "    env: {V: '${{ needs.build.outputs.V }}', B: '${{ branch }}'}\n"
        "    concurrency: ${{ env.B }}-${{ env.V }}\n"
        "    artifacts: {paths: 'out/${{ branch }}'}\n"
        "    steps: [{run: make}]\n",
        # A name of a branch that looks like an expression stays what it is.
        Context(branch="${{needs.build.outputs.V}}$"),
    ).values()

    def later(version: str) -> Context:
        return Context(branch="other", needs={"build": {"result": "success", "outputs": {"V": version}}})

    assert node_runs(node, later("1.2"))
    assert not node_runs(node, later("1.3"))
    assert not node_runs(node, replace(later("1.2"), needs_met=False))
    finished = node_finish(node, later("$"))
    assert finished.env == {"V": "$", "B": "${{needs.build.outputs.V}}$"}
    assert finished.group == {"name": "${{needs.build.outputs.V}}$-$", "limit": 1, "cancel_in_progress": False}
    assert finished.artifacts == {"paths": ["out/${{needs.build.outputs.V}}$"], "expire_in": None}


@pytest.mark.parametrize(
    ("member", "branch", "said"),
    [
        (
            "labels: ['${{ branch }}']",
            "a b",
            "must be 1 to 63 letters, digits and . _ : / = -, beginning with a letter",
        ),
        ("container: '${{ branch }}'", "--privileged", "must be an image"),
        ("environment: '${{ branch }}'", "a/b", "must be 1 to 55 letters"),
        ("artifacts: {paths: 'a/${{ branch }}/b'}", "..", "must be a path in the workspace with its values"),
        ("artifacts: {paths: '${{ branch }}/b'}", "/etc", "must be a path in the workspace with its values"),
        ("caches: [{key: a, paths: '${{ branch }}'}]", "../x", "must be a path in the workspace with its values"),
        ("env: {A: '${{ branch }}${{ branch }}'}", "x" * 40_000, "must be at most 65,536 characters with its values"),
    ],
)
def test_a_value_that_does_not_fit_when_it_is_filled_in_is_refused(member: str, branch: str, said: str) -> None:
    ((line, field, message),) = refused(f"jobs:\n  a: {{{member}, steps: [{{run: make}}]}}\n", Context(branch=branch))
    assert line == 2
    assert field.startswith("jobs.a.")
    assert message.startswith(said)


def test_the_steps_form_is_one_node_in_which_nothing_is_filled_in() -> None:
    (node,) = nodes("steps: [{run: make}]\nenv: {A: '${{ branch }}'}\nlabels: [x]").values()
    assert (node.name, node.labels) == ("main", ["x"])
    assert node_finish(node, CONTEXT).env == {"A": "${{ branch }}"}


def test_nodes_have_short_names_each_of_them_once() -> None:
    long = "x" * 100
    made = nodes(
        f"jobs: {{a: {{matrix: {{include: [{{p: 'b, c', q: d}}, {{p: b, q: 'c, d'}}, {{p: {long}, q: y}}, "
        f"{{p: '#2'}}]}}, steps: [{{run: x}}]}}}}"
    )
    assert len(made) == 4
    assert [*made][:2] == ["a (b, c, d)", "a (#2)"]
    assert all(len(name) <= MAX_NODE_NAME for name in made)


def test_a_node_is_json_and_comes_back_the_same_also_from_a_newer_version() -> None:
    made = nodes("jobs: {a: {matrix: {axes: {x: ['1']}}, concurrency: g, retries: 0, steps: [{run: make}]}}")
    for node in made.values():
        stored = json.loads(json.dumps(node.as_dict()))
        assert Node.from_dict(stored) == node == Node.from_dict({**stored, "newer": 1})
    assert Node("a", "a").as_dict() == {"name": "a", "job": "a"}
    assert {field.name for field in fields(Node)} >= {"name", "job", "cell", "needs", "group"}


def test_jobs_that_are_added_count_and_need_the_nodes_of_the_run() -> None:
    pipeline = definition_read("jobs: {b: {needs: a, steps: [{run: make}]}}", beside={"a": []})
    (node,) = graph_expand(pipeline, CONTEXT, beside={"a": ["a (1)", "a (2)"]})
    assert [need["node"] for need in node.needs] == ["a (1)", "a (2)"]
    with pytest.raises(DefinitionInvalid, match="at most 1,000 jobs in a run, not 1,001"):
        graph_expand(pipeline, CONTEXT, beside={"a": [f"a ({number})" for number in range(1000)]})


def test_a_thousand_nodes_expand_well_under_a_second() -> None:
    ten = list("abcdefghij")
    text = yaml.safe_dump(
        {
            "jobs": {
                "test": {
                    "matrix": {
                        "axes": {"x": [*ten], "y": [*ten], "z": [*ten]},
                        "exclude": [{"x": "a", "y": "a", "z": "a"}],
                    },
                    "env": {"A": "${{ matrix.x }}-${{ branch }}"},
                    "labels": ["${{ matrix.y }}"],
                    "steps": [{"run": "make"}],
                },
                "end": {"needs": "test", "steps": [{"run": "make"}]},
            }
        }
    )
    pipeline = definition_read(text)
    began = time.process_time()
    assert len(graph_expand(pipeline, CONTEXT)) == MAX_JOBS
    assert time.process_time() - began < 0.8


def test_two_large_matrices_that_need_each_other_are_refused() -> None:
    axis = ", ".join(str(number) for number in range(300))
    text = (
        f"jobs:\n  a: {{matrix: {{axes: {{x: [{axis}]}}}}, steps: [{{run: x}}]}}\n"
        f"  b: {{needs: a, matrix: {{axes: {{x: [{axis}]}}}}, steps: [{{run: x}}]}}\n"
    )
    with pytest.raises(
        DefinitionInvalid, match=f"at most {MAX_NEEDS:,} needs with the cells of all matrices, not 90,000"
    ):
        definition_read(text)


def test_parameters_get_what_is_given_or_their_defaults() -> None:
    parameters = definition_read(
        "parameters: {t: {}, n: {type: number, default: 2}, f: {type: flag}, c: {type: choice, options: [a, b]}, "
        "r: {required: true}}\njobs: {a: {steps: [{run: x}]}}"
    ).parameters
    assert parameters_values(parameters, {"r": "x"}) == {"t": "", "n": 2, "f": False, "c": "a", "r": "x"}
    given_values = {"t": "y", "n": "0.5", "f": "true", "c": "b", "r": "x"}
    assert parameters_values(parameters, given_values) == {"t": "y", "n": 0.5, "f": True, "c": "b", "r": "x"}
    with pytest.raises(ParametersInvalid) as caught:
        parameters_values(parameters, {"n": "x", "f": 1, "c": "z", "t": 5, "rr": "x"})
    assert caught.value.problems == {
        "rr": "must be a parameter of the pipeline; did you mean 'r'?",
        "t": "must be text",
        "n": "must be a number, as in 3, -1 or 0.5",
        "f": "must be true or false",
        "c": "must be one of a, b",
        "r": "must be given",
    }


NAMES = st.sampled_from(["a", "b", "c", "d"])
VALUES = st.lists(st.sampled_from(["1", "2", "x"]), min_size=1, max_size=3, unique=True)
CELL = st.dictionaries(st.sampled_from(["x", "y", "z"]), st.sampled_from(["1", "2", "x"]), min_size=1, max_size=3)
JOBS = st.dictionaries(
    NAMES,
    st.fixed_dictionaries(
        {"steps": st.just([{"run": "make"}])},
        optional={
            "needs": st.lists(NAMES, max_size=3, unique=True),
            "matrix": st.fixed_dictionaries(
                {},
                optional={
                    "axes": st.dictionaries(st.sampled_from(["x", "y"]), VALUES, max_size=2),
                    "include": st.lists(CELL, max_size=3),
                    "exclude": st.lists(CELL, max_size=2),
                },
            ),
            "env": st.dictionaries(NAMES, st.sampled_from(["1", "${{ matrix.x }}", "${{ branch }}"]), max_size=2),
        },
    ),
    min_size=1,
)


@settings(max_examples=examples(40), deadline=None)
@given(JOBS)
def test_any_graph_is_refused_or_expands_within_the_limits(jobs: dict[str, Any]) -> None:
    try:
        pipeline = definition_read(yaml.safe_dump({"jobs": jobs}))
    except DefinitionInvalid:
        return
    made = graph_expand(pipeline, CONTEXT)
    names = [node.name for node in made]
    assert len(set(names)) == len(names) <= MAX_JOBS
    assert {node.job for node in made} == set(jobs)
    for node in made:
        assert {need["node"] for need in node.needs} <= set(names) - {node.name}
        json.dumps(node.as_dict())
    # What needs nothing more can always start: there is no circle.
    waiting = {node.name: {need["node"] for need in node.needs} for node in made}
    while waiting:
        free = {name for name, needs in waiting.items() if not needs & waiting.keys()}
        assert free
        waiting = {name: needs for name, needs in waiting.items() if name not in free}
