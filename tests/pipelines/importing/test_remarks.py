"""Whatever is not taken over as it was is named, in each product's words; what would not be valid here is taken out."""

from typing import Any

import pytest

from agent.pipeline.definition import SecretUse
from tests.pipelines.importing.conversions import convert, jobs, pipeline, remarks

# By product: a part of a file, and a part of the remark about it.
OF_WORKFLOWS = {
    "on: release": "on.release: starts no run here",
    "on: {push: {branches: [main, '!x']}}": "patterns that begin with !",
    "on: {push: {paths-ignore: [docs/**]}}": "use `if` with changed()",
    "on: {pull_request: {types: [labeled]}}": "only opened, synchronize, reopened, closed start runs here",
    "on: {pull_request_target: {}}": "runs of forks get no secrets here",
    "on: {schedule: [{cron: 0 3 * * MON}]}": "other parts than numbers",
    "on: {workflow_call: {secrets: {A: {}}}}": "secrets of a pipeline need no list",
    "run-name: x": "runs have no names of their own",
    "permissions: read-all": "there is nothing to permit",
    "env: {A: '${{ github.actor }}'}": "github.actor has no counterpart; the variable is missing",
    "concurrency: {group: x, cancel-in-progress: '${{ github.ref }}'}": "true or false here, and no condition",
    "concurrency: '${{ github.run_id }}'": "the group was left out",
}
OF_WORKFLOW_JOBS = {
    "needs: x": "there is no job 'x'",
    "runs-on: {group: big, labels: [gpu]}": "groups of runners have no counterpart",
    "runs-on: windows-latest": "agents run on Linux and macOS",
    "container: {image: 'a:1', options: --cpus 1}": "containers get no options from a file",
    "container: {image: 'a:1', volumes: [/x]}": "nothing else of the machine",
    "container: '${{ env.IMAGE }}'": "env.IMAGE has no counterpart",
    "env: {A: '${{ github.run_number }}'}": "the variable is missing",
    "timeout-minutes: '${{ matrix.t }}'": "is no number of minutes",
    "continue-on-error: '${{ matrix.x }}'": "is decided for the whole job here",
    "environment: a b": "is no name of an environment here",
    "outputs: {a: x}": "write a=VALUE to $HYBRID_CI_OUTPUT",
    "if: github.event_name == 'release'": "no run here is started by the event 'release'",
    "strategy: {matrix: {a: '${{ fromJSON(x) }}'}}": "is no list, but made by an expression",
    "strategy: {matrix: {include: '${{ fromJSON(x) }}'}}": "must be lists",
    "services: {db: postgres}": "start postgres in a step",
}
OF_WORKFLOW_STEPS = {
    "{shell: pwsh, run: x}": "the shell 'pwsh' has no counterpart",
    "{name: nothing}": "the step has no script",
    "{run: echo $GITHUB_TOKEN}": "$GITHUB_TOKEN is not set here",
    "{run: 'echo ${{ secrets.GITHUB_TOKEN }}'}": "there is no token for GitHub",
    "{run: 'echo \"a<<EOF\" >> $GITHUB_OUTPUT'}": "an output is one line NAME=value",
    "{run: 'echo \"a<<EOF\" >> $GITHUB_ENV'}": "a variable of several lines",
    "{run: 'echo ${{ steps.x.outputs.y }}'}": "is not written by one script alone",
    "{run: 'echo ${{ github.ref && 1 || 2 }}'}": "a choice between texts",
    "{run: x, if: steps.a.outputs.b == 'c'}": "outputs of steps cannot be in a condition",
    "{run: x, if: env.UNKNOWN == 'c'}": "env.UNKNOWN has no counterpart",
    "{run: x, timeout-minutes: '${{ matrix.t }}'}": "is no number of minutes",
    "{run: x, continue-on-error: '${{ matrix.t }}'}": "the job fails if this step fails",
    "{run: x, env: {A: '${{ github.actor }}'}}": "the variable is missing",
    "{run: x, env: {a b: 1}}": "is no name of a variable",
    "{uses: actions/checkout@v4, with: {repository: a/b}}": "write it as a script with git",
    "{uses: actions/checkout@v4, with: {fetch-depth: 0}}": "agents fetch only the commit itself",
    "{uses: actions/checkout@v4, with: {fetch-tags: true}}": "agents fetch no tags",
    "{uses: actions/upload-artifact@v4, with: {name: a, path: '!x'}}": "leaves files out",
    "{uses: actions/upload-artifact@v4, with: {name: a, path: ~/x}}": "outside of the workspace",
    "{uses: actions/download-artifact@v4, with: {name: a}}": "no job of this file uploads the artifact 'a'",
    "{uses: actions/cache@v4, with: {path: ~/.npm, key: a}}": "where nothing is cached",
    "{uses: Swatinem/rust-cache@v2}": "became a cache of target/",
    "{uses: pre-commit/action@v3}": "became its command, 'pre-commit run --all-files'",
    "{run: x, env: [a]}": "is no mapping, so it was left out",
}
OF_GITLAB = {
    "workflow: {rules: [{when: always}]}": "which events start a run is decided in `on`",
    "x: 1": "is no job, so it was left out",
    "a: {script: x, services: [{name: postgres, alias: db}]}": "on the agent's machine (alias: db)",
    "a: {script: x, image: {name: 'a:1', entrypoint: ['']}}": "whatever its entrypoint",
    "a: {script: x, image: $UNKNOWN}": "is known only while the job runs",
    "a: {script: x, artifacts: {paths: [x], when: on_failure}}": "not kept only after failures",
    "a: {script: x, artifacts: {paths: [x], exclude: [y]}}": "write narrower paths",
    "a: {script: x, artifacts: {paths: [/x]}}": "is no path in the workspace",
    "a: {script: x, artifacts: {paths: [x], expire_in: soon}}": "'soon' is no time",
    "a: {script: x, artifacts: {reports: {dotenv: x}}}": "write NAME=value lines to $HYBRID_CI_OUTPUT",
    "a: {script: x, artifacts: {reports: {coverage_report: {path: x}}}}": "only Cobertura files",
    "a: {script: x, cache: {untracked: true}}": "write the paths of the files",
    "a: {script: x, retry: 2}": "1 was taken",
    "a: {script: x, retry: often}": "must be a number",
    "a: {script: x, timeout: soon}": "'soon' is no time",
    "a: {script: x, environment: {name: x, url: 'https://x'}}": "environment.url: has no counterpart",
    "a: {script: x, environment: review/$CI_COMMIT_REF_SLUG}": "it became 'review'",
    "a: {script: x, parallel: {matrix: [{A: [$B]}]}}": "is made of variables",
    "a: {script: x, needs: [{project: x, job: y}]}": "needs of other pipelines",
    "a: {script: x, needs: [b]}": "there is no job 'b' in this file",
    "a: {script: x, rules: [{exists: [x]}]}": "`exists` has no counterpart",
    "a: {script: x, rules: [{if: $CI_COMMIT_TAG, variables: {A: b}}]}": "a rule sets no variables here",
    "a: {script: x, rules: [{if: $CI_COMMIT_TAG, when: manual}, {when: always}]}": "it starts by itself",
    "a: {script: x, rules: [{if: $CI_COMMIT_TAG, allow_failure: true}, {when: always}]}": "write allow_failure for all",
    "a: {script: x, rules: [{if: $CI_COMMIT_MESSAGE =~ /x/}]}": "$CI_COMMIT_MESSAGE has no counterpart",
    "a: {script: x, rules: [{if: $CI_PROJECT_PATH == 'a/b'}]}": "a pipeline has one repository",
    "a: {script: x, rules: [{if: $CI_COMMIT_REF_PROTECTED == 'true'}]}": "protected branches are not known here",
    "a: {script: x, rules: [{if: $CI_OPEN_MERGE_REQUESTS}]}": "it was taken as having none",
    "a: {script: x, rules: [{changes: [$X/**]}]}": "paths with variables",
    "a: {script: x, rules: [{if: '$CI_COMMIT_TAG =~ /^v[0-9]+$/'}]}": "became 'v*', which fits more texts",
    "a: {script: x, rules: [{if: '$CI_COMMIT_TAG =~ /^[0-9]+$/'}]}": "patterns here have only *",
    "a: {script: x, rules: [{if: '$CI_COMMIT_TAG =~ /^V/i'}]}": "has flags",
    "a: {script: x, rules: [{if: '$CI_COMMIT_TAG && ('}]}": "is not understood",
    "a: {script: x, only: [external]}": "no run here is started by 'external'",
    "a: {script: x, only: {kubernetes: active}}": "whether a cluster is connected",
    "a: {script: x, only: [main@a/b]}": "was taken as 'main'",
    "a: {script: x, allow_failure: {exit_codes: 1}}": "any failure fails the run",
    "a: {script: x, when: delayed, start_in: 1 day}": "nothing is delayed here",
    "a: {script: x, coverage: /x/}": "the coverage comes from a Cobertura file",
    "a: {script: x, interruptible: true}": "write `concurrency` with cancel_in_progress",
    "a: {script: x, stage: [a]}": "is not text, so it was left out",
    "a: {script: [{b: c}, x]}": "has a mapping where text was expected",
    "a: {script: x, script: y}": "is given twice; the last one was converted",
    "a: {stage: test}": "the job has no script",
    "a: {script: echo $CI_JOB_TOKEN}": "$CI_JOB_TOKEN is not set here",
}
OF_BUILDKITE_STEPS = {
    "{command: x, plugins: [{mise#v1: ~}]}": "mise must be on the agent's machine",
    "{command: x, plugins: [{docker#v5: {image: 'a:1', volumes: [x]}}]}": "docker#v5.volumes: has no counterpart",
    "{command: x, plugins: [{docker-compose#v5: {build: a}}]}": "the plugin is not run here",
    "{command: x, retry: {automatic: true}}": "1 was taken",
    "{command: x, retry: {manual: {allowed: false}}}": "can be retried by hand",
    "{command: x, soft_fail: [{exit_status: 1}]}": "any failure fails the run",
    "{command: x, matrix: {setup: [a, b], adjustments: [{with: a, soft_fail: true}]}}": "cells that may fail alone",
    "{command: x, matrix: {setup: {a: [b]}, adjustments: [{with: {c: d}}]}}": "another axis than `setup`",
    "{command: x, matrix: ['$A']}": "made of variables",
    "{command: 'x {{matrix.b}}', matrix: [a]}": "is no axis of the matrix",
    "{command: x, cache: [~/.npm]}": "paths outside of the workspace",
    "{command: x, secrets: {A: b}}": "A was the secret b",
    "{command: x, artifact_paths: /x}": "is no path in the workspace",
    "{command: x, timeout_in_minutes: soon}": "is no number of minutes",
    "{command: x, concurrency_group: $UNKNOWN, concurrency: 1}": "is known only while the job runs",
    "{command: x, concurrency_group: a, concurrency: 1, concurrency_method: eager}": "jobs of a group wait in order",
    "{command: x, notify: [y]}": "nothing is sent from a file here",
    "{command: x, depends_on: y}": "there is no step with the key 'y'",
    "{command: x, skip: true}": "its job never runs",
    "{command: x, if_changed: {include: a, exclude: b}}": "have no counterpart in changed()",
    "{command: x, if: build.env('BUILDKITE_AGENT_NAME') == 'y'}": "is not known here",
    "{command: x, if: organization.slug == 'y'}": "a pipeline has one repository",
    "{command: '$env:X = 1'}": "the script is for PowerShell",
    "{command: echo $API_TOKEN}": "looks like a secret",
    "{trigger: x, build: {branch: y}, async: true}": "starts another pipeline",
    "{label: x}": "the step has no command",
    "unknown": "is no step that is known here",
    "{wait: ~, if: build.branch == 'x'}": "whatever the condition",
    "{group: a, if: build.message == 'x', steps: [{command: y}]}": "the condition of the group was not converted",
}


@pytest.mark.parametrize(("part", "about"), OF_WORKFLOWS.items())
def test_what_a_workflow_has_without_a_counterpart_is_a_remark(part: str, about: str) -> None:
    text = f"{part}\njobs: {{a: {{runs-on: ubuntu-latest, steps: [{{run: x}}]}}}}"
    assert about in " ".join(remarks("github", text))


@pytest.mark.parametrize(("part", "about"), OF_WORKFLOW_JOBS.items())
def test_what_a_job_of_a_workflow_has_without_a_counterpart_is_a_remark(part: str, about: str) -> None:
    assert about in " ".join(remarks("github", f"jobs: {{a: {{steps: [{{run: x}}], {part}}}}}"))


@pytest.mark.parametrize(("step", "about"), OF_WORKFLOW_STEPS.items())
def test_what_a_step_of_a_workflow_has_without_a_counterpart_is_a_remark(step: str, about: str) -> None:
    assert about in " ".join(remarks("github", f"jobs: {{a: {{runs-on: x, steps: [{step}]}}}}"))


@pytest.mark.parametrize(("part", "about"), OF_GITLAB.items())
def test_what_a_file_of_gitlab_has_without_a_counterpart_is_a_remark(part: str, about: str) -> None:
    assert about in " ".join(remarks("gitlab", f"other: {{script: x}}\n{part}"))


@pytest.mark.parametrize(("step", "about"), OF_BUILDKITE_STEPS.items())
def test_what_a_step_of_buildkite_has_without_a_counterpart_is_a_remark(step: str, about: str) -> None:
    assert about in " ".join(remarks("buildkite", f"steps: [{{command: x}}, {step}]"))


@pytest.mark.parametrize(
    ("there", "here"),
    [
        ("{env: [A=b]}", {"env": {"A": "b"}}),
        ("{agents: [queue=big, os=linux]}", {"labels": ["big", "os=linux"]}),
        ("{if_changed: src/**}", {"condition": "changed('src/**')"}),
        ("{branches: '!main x*'}", {"condition": "matches(branch, 'x*') && branch != 'main'"}),
        ("{if: build.pull_request.id != null}", {"condition": "event == 'pull_request'"}),
        ("{if: build.source == 'schedule'}", {"condition": "event == 'schedule'"}),
        ("{if: build.branch =~ /^release-/}", {"condition": "starts_with(branch, 'release-')"}),
        ("{if: build.branch != pipeline.default_branch}", {"condition": "branch != default_branch"}),
        ("{priority: 5}", {"priority": 55}),
        ("{secrets: [A]}", {"secrets": [SecretUse("A")]}),
        ("{image: 'a:1'}", {"container": "a:1"}),
        ("{soft_fail: [{exit_status: '*'}]}", {"allow_failure": True}),
        ("{}", {"timeout": 24 * 3600}),
    ],
)
def test_keys_of_buildkite_steps_have_their_counterparts(there: str, here: dict[str, Any]) -> None:
    job = jobs("buildkite", f"steps: [{{command: x, key: a, {there[1:-1]}}}]")["a"]
    assert {name: getattr(job, name) for name in here} == (
        here if "container" not in here else {**here, "container": "a:1"}
    )


@pytest.mark.parametrize(
    ("there", "here"),
    [
        ("github.event.pull_request", "event == 'pull_request'"),
        ("github.ref_type == 'tag'", "tag != ''"),
        ("runner.os == 'Windows'", "false"),
        ("github.event.repository.fork == false", None),
        ("startsWith(github.ref_name, 'v')", "starts_with(branch, 'v') || starts_with(tag, 'v')"),
        ("matrix.deep", "matrix.deep == 'true'"),
        ("matrix.none", "false"),
        ("matrix['n'] == 2 && !(github.ref == 'refs/tags/x' || false)", "matrix.n == '2' && tag != 'x'"),
        ("env.MODE == 'fast'", "env.MODE == 'fast'"),
        ("github.actor == 'x' && false", "false"),
    ],
)
def test_more_conditions_of_workflows_are_translated(there: str, here: str | None) -> None:
    text = f"""
        env: {{MODE: fast}}
        jobs:
          a:
            runs-on: ubuntu-latest
            strategy: {{matrix: {{n: [1, 2], deep: [true, false]}}}}
            if: {there}
            steps: [{{run: make}}]
    """
    assert jobs("github", text)["a"].condition == here


def test_a_variable_without_its_value_stops_what_would_read_it() -> None:
    text = """
        env: {A: '${{ github.actor }}'}
        jobs: {a: {runs-on: x, env: {B: '${{ github.actor }}'}, steps: [{run: x, env: {C: '${{ github.actor }}'}}]}}
    """
    job = jobs("github", text)["a"]
    assert [step.run.partition(":?")[0] for step in job.steps] == [': "${A', ': "${B', ': "${C']
    assert convert("github", text).whole == 0


@pytest.mark.parametrize("script", ["echo '${{ matrix.a }}' $CI_JOB_TOKEN", "echo '${{ matrix.a }}'"])
def test_a_script_of_another_product_with_our_marks_stops(script: str) -> None:
    (job,) = jobs("gitlab", f"a:\n  script:\n    - {script}").values()
    assert [step.run.splitlines()[1] for step in job.steps] == ["exit 1"]


def test_a_job_has_no_more_steps_than_are_allowed_and_stops_at_the_last_one() -> None:
    steps = ", ".join(["{run: make}"] * 101)
    job = jobs("github", f"jobs: {{a: {{runs-on: x, steps: [{steps}]}}}}")["a"]
    assert len(job.steps) == 100
    assert job.steps[99].run.endswith("exit 1\n")


def test_inputs_of_a_file_of_gitlab_are_a_remark() -> None:
    assert "inputs of a file have no counterpart" in remarks("gitlab", "spec: {inputs: {a: }}\n---\nb: {script: x}")[0]


def test_what_our_reader_would_refuse_is_taken_out_and_stops_the_job() -> None:
    text = "jobs: {a: {runs-on: x, container: 'No Image', env: {a-b: c}, steps: [{run: make}]}}"
    conversion = convert("github", text)
    job = pipeline("github", text).jobs["a"]
    assert (conversion.whole, job.container, job.env) == (0, None, {})
    assert [step.run.splitlines()[-1] for step in job.steps] == ["exit 1", "exit 1", "make"]
    assert "would be no valid part of a job: must be an image" in " ".join(remarks("github", text))


def test_what_our_reader_would_refuse_of_the_whole_file_is_taken_out() -> None:
    text = f"""
        on: {{push: {{branches: ['{"x" * 300}']}}}}
        env: {{a-b: c}}
        jobs: {{a: {{runs-on: x, steps: [{{run: x}}]}}}}
    """
    whole = pipeline("github", text)
    assert (whole.on, whole.env) == ({}, {})
    assert sum("was left out, since" in remark for remark in remarks("github", text)) == 2
