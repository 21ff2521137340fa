"""Pipeline files with several jobs: what they mean, and the messages about their mistakes."""

from typing import Any

import pytest
import yaml

from agent.pipeline.definition import (
    Artifacts,
    Cache,
    Concurrency,
    Matrix,
    Need,
    Parameter,
    Reports,
    Retries,
    SecretUse,
)
from agent.pipeline.nodes import DefinitionInvalid
from agent.pipeline.reader import definition_read

Place = tuple[int, int, str, str]


def problems(text: str, **others: Any) -> list[Place]:
    """Line, column, field and message of each problem of an invalid file."""
    with pytest.raises(DefinitionInvalid) as caught:
        definition_read(text, **others)
    return [(found["line"], found["column"], found["field"], found["message"]) for found in caught.value.problems]


def message(text: str, **others: Any) -> str:
    """The only message about a file."""
    ((_, _, _, found),) = problems(text, **others)
    return found


def job(members: str, others: str = "") -> str:
    """A file with the job `test` that has these members, and other lines after it."""
    return f"jobs:\n  test:\n    steps: [{{run: make}}]\n    {members}\n{others}"


WHOLE = """\
on:
  push: {branches: [main, 'release/*'], paths: src/**}
  pull_request:
  tag: {names: 'v*'}
  schedule: [{cron: '30 3 * * 1-5', branch: main, parameters: {target: staging}}]
env: {CI: yes}
defaults: {labels: [linux], timeout: 20m, retries: 1}
parameters:
  target: {type: choice, options: [staging, production], default: staging, description: where to}
  count: {type: number, default: 1.5}
  dry: {type: flag, default: true}
  reason: {required: true}
concurrency: {group: "${{ pipeline }}-${{ branch }}", cancel_in_progress: true}
jobs:
  build:
    steps: [{name: compile, run: make}]
    outputs: [VERSION]
    inputs: [src, Makefile]
    artifacts: {paths: ['dist/**'], expire_in: 30d}
    caches: [{key: "pip-${{ hashFiles('*.txt') }}", restore_keys: [pip-], paths: [.cache/pip]}]
    container: python:3.12-slim
    submodules: true
  test:
    needs: build
    if: changed('src/**') || branch == default_branch
    matrix:
      axes: {python: ['3.11', 3.10], os: [linux, macos]}
      include: [{python: 3.13, os: linux}]
      exclude: [{python: 3.10, os: macos}]
      max_parallel: 2
      fail_fast: true
    env: {PYTHON: "${{ matrix.python }}"}
    labels: ['${{ matrix.os }}']
    timeout: 5m
    retries: {max: 3, on: [lost, 75]}
    allow_failure: true
    reports: {junit: 'reports/*.xml', coverage: coverage.xml}
    steps: [{run: make test}]
  deploy:
    needs: [build, {job: test, result: any}]
    concurrency: {group: "deploy-${{ parameters.target }}", limit: 2}
    environment: ${{ parameters.target }}
    secrets: [TOKEN, {name: KUBECONFIG, file: true}]
    priority: 80
    artifacts: {from: build}
    retries: {max: 1, on: 7}
    env: {VERSION: "${{ needs.build.outputs.VERSION }}"}
    steps: [{run: ./deploy}]
"""


def test_everything_a_file_with_jobs_can_say_is_read() -> None:
    pipeline = definition_read(WHOLE)
    build, test, deploy = pipeline.jobs.values()
    assert pipeline.is_graph
    assert pipeline.on == {
        "push": {"branches": ["main", "release/*"], "paths": ["src/**"]},
        "pull_request": {},
        "tag": {"names": ["v*"]},
        "schedule": [{"cron": "30 3 * * 1-5", "branch": "main", "parameters": {"target": "staging"}}],
    }
    assert pipeline.env == {"CI": "yes"}
    assert pipeline.parameters == {
        "target": Parameter("target", "choice", "staging", False, ["staging", "production"], "where to"),
        "count": Parameter("count", "number", 1.5),
        "dry": Parameter("dry", "flag", True),
        "reason": Parameter("reason", required=True),
    }
    assert pipeline.concurrency == Concurrency("${{ pipeline }}-${{ branch }}", 1, True)
    assert (build.name, [step.name for step in build.steps]) == ("build", ["compile"])
    assert (build.outputs, build.inputs, build.submodules) == (["VERSION"], ["src", "Makefile"], True)
    assert build.artifacts == Artifacts(["dist/**"], 30 * 86400)
    assert build.caches == [Cache("pip-${{ hashFiles('*.txt') }}", [".cache/pip"], ["pip-"])]
    assert (build.container, build.labels) == ("python:3.12-slim", ["linux", "container"])
    assert test.needs == [Need("build")]
    assert test.condition == "changed('src/**') || branch == default_branch"
    assert test.matrix == Matrix(
        {"python": ["3.11", "3.10"], "os": ["linux", "macos"]},
        [{"python": "3.13", "os": "linux"}],
        [{"python": "3.10", "os": "macos"}],
        2,
        True,
    )
    assert (test.env, test.labels, test.timeout) == ({"PYTHON": "${{ matrix.python }}"}, ["${{ matrix.os }}"], 300)
    assert (test.retries, test.allow_failure) == (Retries(3, True, [75]), True)
    assert test.reports == Reports(["reports/*.xml"], "coverage.xml")
    assert deploy.needs == [Need("build"), Need("test", "any")]
    assert deploy.concurrency == Concurrency("deploy-${{ parameters.target }}", 2)
    assert (deploy.environment, deploy.priority) == ("${{ parameters.target }}", 80)
    assert deploy.secrets == [SecretUse("TOKEN"), SecretUse("KUBECONFIG", file=True)]
    assert (deploy.take, deploy.artifacts) == (["build"], None)
    assert deploy.retries == Retries(1, False, [7])


def test_a_job_uses_a_default_unless_it_has_the_key_itself() -> None:
    build, test, deploy = definition_read(WHOLE).jobs.values()
    assert (build.timeout, test.timeout, deploy.timeout) == (1200, 300, 1200)
    assert (build.retries, deploy.labels) == (Retries(1), ["linux"])


def test_both_forms_stay_valid_and_only_one_can_be_given() -> None:
    one = definition_read("steps: [{run: make}]\non: {push: {branches: main}}")
    assert (one.is_graph, [*one.jobs], one.on) == (False, ["main"], {"push": {"branches": ["main"]}})
    both = "steps: [{run: make}]\njobs: {a: {steps: [{run: make}]}}"
    assert message(both) == "unknown key 'jobs'; write either `steps` or `jobs`"


def test_the_form_with_steps_has_artifacts_caches_outputs_and_reports() -> None:
    text = "steps: [{run: make}]\n"
    members = (
        "artifacts: {paths: dist, expire_in: 1h}\noutputs: [V]\nreports: {junit: a.xml, coverage: c.xml}\n"
        "caches: [{key: \"x-${{ hashFiles('a') }}\", restore_keys: x-, paths: [a]}]\n"
    )
    main = definition_read(text + members).jobs["main"]
    assert (main.artifacts, main.outputs) == (Artifacts(["dist"], 3600), ["V"])
    assert main.reports == Reports(["a.xml"], "c.xml")
    assert main.caches == [Cache("x-${{ hashFiles('a') }}", ["a"], ["x-"])]
    # Only the agent fills in something, and it knows nothing but files.
    for name in ("branch", "parameters.x", "matrix.x", "changed('a')"):
        assert "must not " in message(f'{text}caches: [{{key: "${{{{ {name} }}}}", paths: [a]}}]')
    assert message(text + "artifacts: {paths: a, from: a}") == "unknown key 'from'; allowed are paths, expire_in"
    assert definition_read(text + "artifacts: {paths: 'a/${{ branch }}'}")


def test_the_largest_caches_and_reports_count_as_stored() -> None:
    paths = ", ".join(f"{'x' * 400}{number}" for number in range(100))
    caches = ", ".join(f"{{key: k{number}, paths: [{paths}]}}" for number in range(4))
    assert message(f"steps: [{{run: make}}]\ncaches: [{caches}]").startswith("must be at most 131,072 bytes as JSON")
    assert message(job(f"caches: [{caches}]")).startswith("must be at most 131,072 bytes as JSON")


def test_a_key_that_is_elsewhere_is_refused_with_the_place_where_it_belongs() -> None:
    assert message("steps: [{run: make}]\nmatrix: {axes: {}}") == (
        "unknown key 'matrix'; write `jobs:` with a job that has these steps, and put it there"
    )
    assert message(f"timeout: 5m\n{job('')}") == "unknown key 'timeout'; write it in `defaults`, or in a job"


def test_errors_name_line_column_field_and_what_is_allowed_with_did_you_mean() -> None:
    text = """\
jobs:
  build:
    steps: [{run: make}]
    artifcats: {paths: dist}
    retries: {max: 3, on: [crash]}
  test:
    needs: [biuld, {job: build, result: maybe}]
    steps: [{run: make}]
  pack:
    needs: [biuld]
    if: brunch == 'main'
    steps: [{run: make}]
"""
    assert problems(text) == [
        (4, 5, "jobs.build.artifcats", "unknown key 'artifcats'; did you mean 'artifacts'?"),
        (5, 28, "jobs.build.retries.on[0]", "must be `lost` or an exit code from 1 to 255, not 'crash'"),
        (7, 33, "jobs.test.needs[1].result", "must be success, any or failure, not 'maybe'"),
        (10, 13, "jobs.pack.needs[0]", "must be a job of this file, not 'biuld'; did you mean 'build'?"),
    ]


def test_a_need_is_another_job_of_the_file_that_is_named_once() -> None:
    others = "  build: {steps: [{run: make}]}\n"
    assert message(job("needs: test", others)) == "must not be the job itself, 'test'"
    assert message(job("needs: [xyz]", others)) == "must be a job of this file, not 'xyz'; there are build, test"
    assert message(job("needs: [build, {job: build, result: any}]", others)) == (
        "must name each job once; 'build' is already in the list"
    )


@pytest.mark.parametrize(
    ("needs", "cycle"),
    [
        ({"a": ["b"], "b": ["a"]}, "a → b → a"),
        ({"x": [], "a": ["x", "b"], "b": ["c"], "c": ["x", "a"]}, "a → b → c → a"),
        # What leads into a circle is not shown.
        ({"start": ["a"], "a": ["b"], "b": ["c"], "c": ["b"]}, "b → c → b"),
    ],
)
def test_cycles_are_shown_as_the_path(needs: dict[str, list[str]], cycle: str) -> None:
    text = yaml.safe_dump(
        {"jobs": {name: {"needs": before, "steps": [{"run": "make"}]} for name, before in needs.items()}},
        sort_keys=False,
    )
    assert message(text) == f"must not lead back to the job itself: {cycle}"


def test_a_circle_of_a_thousand_jobs_is_found() -> None:
    lines = "".join(f"  j{number}: {{needs: j{number + 1}, steps: [{{run: x}}]}}\n" for number in range(999))
    assert message(f"jobs:\n{lines}  j999: {{needs: j0, steps: [{{run: x}}]}}\n").endswith("→ j999 → j0")


def test_a_run_has_at_most_a_thousand_jobs_after_matrices() -> None:
    ten = "[a, b, c, d, e, f, g, h, i, j]"
    matrix = f"matrix: {{axes: {{x: {ten}, y: {ten}, z: {ten}}}}}"
    assert definition_read(job(matrix)).jobs["test"].matrix
    assert message(job(matrix, "  one: {steps: [{run: make}]}\n")) == (
        "must be at most 1,000 jobs with the cells of all matrices, not 1,001"
    )
    left_out = matrix.replace("}}", "}, exclude: [{x: a, y: b, z: c}]}")
    assert definition_read(job(left_out, "  one: {steps: [{run: make}]}\n"))


def test_a_matrix_that_would_be_huge_is_refused_before_it_is_unfolded() -> None:
    axis = f"[{', '.join(str(number) for number in range(100))}]"
    axes = ", ".join(f"a{number}: {axis}" for number in range(10))
    assert message(job(f"matrix: {{axes: {{{axes}}}}}")) == (
        "must have fewer cells: all matrices together have more than 5,000"
    )


def test_a_matrix_has_at_least_one_cell_and_leaves_out_what_it_has() -> None:
    assert message(job("matrix: {fail_fast: true}")) == "must have at least one cell; write `axes` or `include`"
    assert message(job("matrix: {axes: {x: [a]}, exclude: [{x: a}]}")).startswith("must have at least one cell")
    assert message(job("matrix: {axes: {python: [a]}, exclude: [{pyhton: a}]}")) == (
        "must name axes of the matrix, not 'pyhton'; did you mean 'python'?"
    )


@pytest.mark.parametrize(
    ("members", "column", "said"),
    [
        ("if: brunch == 'main'", 9, "must not name the unknown 'brunch'; did you mean branch?"),
        ("if: branch == 'main' && tag", 29, "must have true or false beside &&, not a text; compare it, as in a == b"),
        ("if: branch", 9, "must be true or false, as in branch == 'main'"),
        ("if: \"branch = 'main'\"", 17, "must not have '=' here; did you mean ==?"),
        (
            "if: needs.build.result == 'success'",
            9,
            "must not name the unknown 'needs.build'; there are none, since the job has no `needs`",
        ),
        (
            "if: matrix.os == 'linux'",
            9,
            "must not name the unknown 'matrix.os'; there are none, since the job has no `matrix`",
        ),
        ("if: '${{ chnaged(''a'') }}'", 5, "must not call the unknown chnaged(); did you mean changed()?"),
        (
            "env: {A: 'x${{ parameters.x }}'}",
            20,
            "must not name the unknown 'parameters.x'; there are none, since the file has no `parameters`",
        ),
        ("env: {A: '${{ branch'}", 15, "must have }} after ${{; write ${{ '${{' }} for it"),
        (
            "labels: ['${{ needs.a.result }}']",
            19,
            "must not name needs here, where it is not known; only `if`, `env` and `concurrency` of a job can",
        ),
        ("caches: [{key: '${{ success() }}', paths: a}]", 25, "must not call success() here; only `if` can"),
        ("environment: ${{ hashFiles('a') }}", 22, "must not call hashFiles() here; only `caches` can"),
    ],
)
def test_an_expression_is_checked_with_the_place_of_its_mistake(members: str, column: int, said: str) -> None:
    ((line, found, _, message),) = problems(job(members))
    assert (line, found, message) == (4, column, said)


def test_an_if_that_begins_with_an_exclamation_mark_is_refused_with_the_advice_to_quote_it() -> None:
    assert message(job("if: !cancelled()")) == "must be in quotes if it begins with !, as in '!changed(\"docs/**\")'"
    assert definition_read(job("if: '!cancelled()'"))


def test_values_are_filled_into_no_script_and_no_variable_of_a_step() -> None:
    script = "jobs: {a: {steps: [{run: 'echo ${{ branch }}'}]}}"
    assert message(script) == (
        "must not have ${{ … }}, which is not filled in here; give the value to the job in `env`, and use it as a "
        "variable"
    )
    variable = "jobs: {a: {steps: [{run: make, env: {A: '${{ x }}'}}]}}"
    assert message(variable).endswith("write it in the `env` of the job")
    # What the form `steps:` has is taken as it is, as ever; and so is what other programs fill in.
    assert definition_read("steps: [{run: 'echo ${{ branch }}', env: {A: '${{ x }}'}}]")
    assert definition_read("jobs: {a: {steps: [{run: 'helm --set x=${{ .Values }}'}]}}")


@pytest.mark.parametrize("path", ["/etc/passwd", "../x", "a/../../x", "~/x", "a\\b", '""', '"a\\nb"', "x" * 501])
def test_a_path_never_leaves_the_workspace(path: str) -> None:
    for members in (f"artifacts: {{paths: [{path}]}}", f"reports: {{junit: {path}}}", f"inputs: {path}"):
        assert message(job(members)).startswith("must be a path in the workspace")


def test_artifacts_come_from_jobs_that_have_ended_before() -> None:
    others = "  build: {steps: [{run: make}]}\n  pack: {needs: build, steps: [{run: make}]}\n"
    text = job("artifacts: {from: [build, pack]}\n    needs: pack", others)
    assert definition_read(text).jobs["test"].take == ["build", "pack"]
    assert message(job("artifacts: {from: build}", others)) == (
        "must be a job that this one needs; add 'build' to its `needs`"
    )
    assert message(job("artifacts: {}")) == "must have `paths` or `from`"


@pytest.mark.parametrize(
    ("members", "field", "said"),
    [
        ("{type: number, default: many}", "default", "must be a number, as in 3, -1 or 0.5, not 'many'"),
        ("{type: flag, default: yes}", "default", "must be true or false, not 'yes'"),
        ("{type: choice, options: [a, b], default: c}", "default", "must be one of a, b, not 'c'"),
        ("{type: choice}", "", "must have `options` if, and only if, its type is choice"),
        ("{options: [a]}", "options", "must have `options` if, and only if, its type is choice"),
        ("{required: true, default: a}", "default", "must be left out of a required parameter"),
        ("{type: date}", "type", "must be text, number, choice or flag, not 'date'"),
    ],
)
def test_a_parameter_is_typed(members: str, field: str, said: str) -> None:
    ((_, _, where, message),) = problems(f"parameters: {{p: {members}}}\n{job('')}")
    assert where == ("parameters.p." + field).rstrip(".")
    assert message == said


@pytest.mark.parametrize(
    "cron", ["* * * *", "60 * * * *", "* 24 * * *", "5-1 * * * *", "MON * * * *", "*/0 * * * *", ""]
)
def test_a_time_of_a_schedule_is_as_cron_has_it(cron: str) -> None:
    assert "as cron has them" in message(f"on: {{schedule: [{{cron: '{cron}'}}]}}\n{job('')}")


def test_a_time_gives_values_to_parameters_of_the_pipeline() -> None:
    text = "on: {{schedule: [{{cron: '* * * * *', parameters: {{{}}}}}]}}\nparameters: {{n: {{type: number}}}}\n"
    assert definition_read(text.format("n: 5") + job("")).on["schedule"][0]["parameters"] == {"n": "5"}
    assert problems(text.format("m: 5, n: x") + job("")) == [
        (1, 50, "on.schedule[0].parameters.m", "must be a parameter of the pipeline; there are n"),
        (1, 56, "on.schedule[0].parameters.n", "must be a number, as in 3, -1 or 0.5"),
    ]
    steps = "on: {schedule: [{cron: '* * * * *', parameters: {a: b}}]}\nsteps: [{run: make}]"
    assert message(steps) == "must be a parameter of the pipeline; there are none"


def test_the_name_of_the_first_job_of_a_run_is_taken() -> None:
    assert "not pipeline, which is the run's first job" in message("jobs: {pipeline: {steps: [{run: make}]}}")


def test_jobs_that_are_added_to_a_run_may_need_its_jobs_and_have_other_names() -> None:
    text = "jobs: {b: {needs: a, env: {V: '${{ needs.a.outputs.V }}'}, artifacts: {from: a}, steps: [{run: make}]}}"
    assert definition_read(text, beside={"a": ["V"]}).jobs["b"].needs == [Need("a")]
    assert (
        message(text, beside={"a": ["V"], "b": []}) == "must have another name; the run already has a job of this name"
    )
    assert "must not name the unknown 'needs.a.outputs.V'" in message(text, beside={"a": []})


def test_each_job_stores_at_most_128_kilobytes_and_all_jobs_together_more() -> None:
    run = "x" * 100_000
    text = "".join(f"  j{number}: {{steps: [{{name: a, run: {run}}}]}}\n" for number in range(5))
    assert len(definition_read(f"jobs:\n{text}").jobs) == 5
    ((_, _, where, said),) = problems(
        f"jobs:\n  ok: {{steps: [{{run: x}}]}}\n  big: {{steps: [{{run: {run + run}}}]}}\n"
    )
    assert where == "jobs.big"
    assert said.startswith("must be at most 131,072 bytes as JSON")
