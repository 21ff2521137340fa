"""Pipelines of Buildkite become pipeline files."""

import subprocess
from pathlib import Path

import pytest

from agent.pipeline.definition import Need
from tests.pipelines.importing.conversions import convert, jobs, pipeline, remarks

WHOLE = """
    env: {COLOUR: never}
    agents: {queue: linux}
    steps:
      - label: ":hammer: Build"
        key: build
        command: make
        artifact_paths: dist/**
        timeout_in_minutes: 10
      - label: Lint
        commands: [make lint, make types]
        agents: {queue: default, arch: arm}
        soft_fail: true
      - wait
      - label: Test
        key: test
        command: |
          buildkite-agent artifact download "dist/**" . --step build
          ./test $BUILDKITE_COMMIT
        parallelism: 3
        retry: {automatic: [{exit_status: 75, limit: 1}, {exit_status: -1, limit: 2}]}
        concurrency: 2
        concurrency_group: db
      - label: Docs
        depends_on: build
        command: make docs
        branches: main release/*
        if: build.tag == null
        plugins: [{docker#v5.12.0: {image: 'python:3.12'}}]
"""


def test_what_has_a_counterpart_is_converted_without_a_remark() -> None:
    conversion = convert("buildkite", WHOLE)
    assert conversion.remarks == []
    assert (conversion.jobs, conversion.whole) == (4, 4)


def test_waits_and_dependencies_become_needs() -> None:
    assert {name: job.needs for name, job in jobs("buildkite", WHOLE).items()} == {
        "build": [],
        "Lint": [],
        "test": [Need("build"), Need("Lint")],
        "Docs": [Need("build")],
    }


def test_commands_places_limits_and_conditions_are_kept() -> None:
    build, lint, test, docs = jobs("buildkite", WHOLE).values()
    assert (build.timeout, build.labels, build.artifacts.paths) == (600, ["linux"], ["dist/**"])
    assert (lint.labels, lint.allow_failure) == (["arch=arm"], True)
    assert lint.steps[0].run == "make lint\nmake types\n"
    assert test.matrix is not None
    assert test.matrix.axes == {"index": ["0", "1", "2"]}
    assert (test.retries.max, test.retries.exit_codes, test.retries.lost) == (2, [75], True)
    assert (test.concurrency.group, test.concurrency.limit) == ("db", 2)
    assert test.env == {"BUILDKITE_COMMIT": "${{ commit }}"}
    assert docs.condition == "tag == '' && (branch == 'main' || matches(branch, 'release/*'))"
    assert docs.container == "python:3.12"


def test_artifacts_that_a_script_downloads_are_there_before_it() -> None:
    test = jobs("buildkite", WHOLE)["test"]
    assert test.take == ["build"]
    assert test.steps[0].run.splitlines()[0].startswith(": 'artifacts are here already")


def test_a_matrix_reaches_scripts_by_variables_and_other_texts_as_expressions() -> None:
    text = """
        steps:
          - label: "{{matrix.os}}"
            key: t
            command: ./test {{matrix.os}} {{matrix.n}}
            agents: {queue: "{{matrix.os}}"}
            matrix:
              setup: {os: [linux, macos], n: ['1', '2']}
              adjustments:
                - {with: {os: macos, n: '2'}, skip: true}
                - {with: {os: bsd, n: '1'}}
    """
    job = jobs("buildkite", text)["t"]
    assert job.steps[0].run == "./test ${MATRIX_OS} ${MATRIX_N}"
    assert job.labels == ["${{ matrix.os }}"]
    assert job.matrix is not None
    assert job.matrix.exclude == [{"os": "macos", "n": "2"}]
    assert job.matrix.include == [{"os": "bsd", "n": "1"}]


def test_a_block_becomes_a_parameter_of_the_run() -> None:
    text = """
        steps:
          - command: make
            key: build
          - block: ":rocket: Ship?"
            key: ship
            fields: [{select: Where, key: target, options: [{label: S, value: staging}], default: staging}]
          - command: ./ship
            key: shipping
    """
    whole = pipeline("buildkite", text)
    assert whole.parameters["run_ship"].type == "flag"
    assert whole.parameters["target"].options == ["staging"]
    assert whole.jobs["shipping"].condition == "parameters.run_ship"
    assert whole.jobs["shipping"].needs == [Need("build")]
    assert "start a run with the parameter run_ship" in " ".join(remarks("buildkite", text))


def test_groups_share_their_condition_and_are_needed_as_a_whole() -> None:
    text = """
        steps:
          - group: Checks
            key: checks
            if: build.branch == "main"
            steps: [{command: make lint, key: lint}, {command: make types, key: types}]
          - command: make
            key: build
            depends_on: checks
    """
    made = jobs("buildkite", text)
    assert (made["lint"].condition, made["types"].condition) == ("branch == 'main'", "branch == 'main'")
    assert made["build"].needs == [Need("lint", "any"), Need("types", "any")]
    assert "needs.lint.result != 'failure'" in (made["build"].condition or "")


def test_after_a_wait_that_goes_on_after_failures_jobs_run_whatever_happened() -> None:
    text = """
        steps:
          - {command: make, key: a}
          - {wait: ~, continue_on_failure: true}
          - {command: ./tell, key: b}
    """
    assert jobs("buildkite", text)["b"].needs == [Need("a", "any")]


def test_docker_compose_becomes_its_command() -> None:
    text = """
        steps:
          - command: make test
            plugins: [{docker-compose#v5.0.0: {run: app, config: ci.yml}}]
    """
    (job,) = jobs("buildkite", text).values()
    assert job.steps[0].run == "docker compose -f ci.yml run --rm -T app sh -e -c 'make test'\n"


def test_an_unknown_plugin_becomes_a_step_that_fails_and_a_remark() -> None:
    text = "steps: [{command: make, plugins: [{someone/thing#v1: {a: 1}}]}]"
    conversion = convert("buildkite", text)
    assert conversion.whole == 0
    assert "someone/thing#v1: the plugin is not run here" in str(conversion.remarks[0])


@pytest.mark.parametrize("command", ["buildkite-agent annotate x", "buildkite-agent pipeline upload b.yml"])
def test_commands_of_the_other_agent_are_remarks(command: str) -> None:
    conversion = convert("buildkite", f"steps: [{{command: {command}}}]")
    assert conversion.whole == 0
    assert "has no counterpart" in str(conversion.remarks[0])


def test_variables_that_are_escaped_for_the_upload_are_plain_in_scripts(tmp_path: Path) -> None:
    text = 'steps: [{command: "X=1; echo $$X ${Y:-none}"}]'
    (job,) = jobs("buildkite", text).values()
    done = subprocess.run(["/bin/sh", "-e", "-c", job.steps[0].run], capture_output=True, text=True, check=True)
    assert done.stdout == "1 none\n"


def test_variables_that_only_conditions_know_become_parameters() -> None:
    whole = pipeline("buildkite", 'steps: [{command: make, key: a, if: \'build.env("NIGHTLY") == "1"\'}]')
    assert whole.jobs["a"].condition == "parameters.NIGHTLY == '1'"
    assert "NIGHTLY" in whole.parameters


def test_a_condition_that_is_not_known_here_stops_the_job() -> None:
    conversion = convert("buildkite", "steps: [{command: make, if: build.message =~ /docs/}]")
    assert conversion.whole == 0
    assert "build.message has no counterpart" in str(conversion.remarks[0])


def test_a_file_may_be_a_list_of_steps() -> None:
    assert [job.steps[0].run for job in jobs("buildkite", "- {command: make}").values()] == ["make"]


def test_a_skipped_step_stays_in_the_file_and_never_runs() -> None:
    assert jobs("buildkite", "steps: [{command: make, key: a, skip: broken}]")["a"].condition == "false"
