"""Workflows of GitHub Actions become pipeline files."""

import subprocess
from pathlib import Path

import pytest

from agent.pipeline.definition import Need, SecretUse
from tests.pipelines.importing.conversions import convert, jobs, pipeline, remarks

WHOLE = """
    name: CI
    on:
      push: {branches: [main, 'release/*'], tags: ['v*']}
      pull_request:
      schedule: [{cron: 30 3 * * 1-5}]
    env: {COLOUR: never}
    concurrency: {group: "ci-${{ github.ref }}", cancel-in-progress: true}
    jobs:
      lint:
        runs-on: ubuntu-latest
        timeout-minutes: 10
        steps:
          - uses: actions/checkout@v4
            with: {submodules: true}
          - run: make lint
      test:
        needs: lint
        runs-on: [self-hosted, Linux, gpu]
        strategy:
          fail-fast: false
          max-parallel: 2
          matrix:
            python: ['3.11', '3.12']
            exclude: [{python: '3.11'}]
        container: python:${{ matrix.python }}-slim
        steps:
          - uses: actions/checkout@v4
          - name: test
            run: tox -e py${{ matrix.python }}
            env: {MODE: fast}
            timeout-minutes: 5
          - uses: actions/upload-artifact@v4
            with: {name: report, path: reports/, retention-days: 3}
      deploy:
        needs: [lint, test]
        if: github.ref == 'refs/heads/main' && github.event_name == 'push'
        runs-on: ubuntu-latest
        environment: production
        continue-on-error: true
        env: {TOKEN: '${{ secrets.TOKEN }}'}
        steps:
          - uses: actions/checkout@v4
          - uses: actions/download-artifact@v4
            with: {name: report}
          - uses: actions/cache@v4
            with: {path: .cache, key: "c-${{ hashFiles('**/lock') }}", restore-keys: c-}
          - run: ./deploy "$TOKEN" ${{ github.sha }}
"""


def test_what_has_a_counterpart_is_converted_without_a_remark() -> None:
    conversion = convert("github", WHOLE)
    assert conversion.remarks == []
    assert (conversion.jobs, conversion.whole) == (3, 3)


def test_triggers_variables_and_the_group_of_runs_are_kept() -> None:
    whole = pipeline("github", WHOLE)
    assert whole.on == {
        "push": {"branches": ["main", "release/*"]},
        "tag": {"names": ["v*"]},
        "pull_request": {},
        "schedule": [{"cron": "30 3 * * 1-5"}],
    }
    assert whole.env == {"COLOUR": "never"}
    assert whole.concurrency is not None
    assert (whole.concurrency.group, whole.concurrency.cancel_in_progress) == ("ci-${{ ref }}", True)


def test_needs_matrices_places_limits_and_conditions_are_kept() -> None:
    lint, test, deploy = jobs("github", WHOLE).values()
    assert (lint.timeout, lint.labels, lint.submodules) == (600, ["linux"], True)
    assert test.matrix is not None
    assert (test.matrix.axes, test.matrix.exclude) == ({"python": ["3.11", "3.12"]}, [{"python": "3.11"}])
    assert (test.matrix.fail_fast, test.matrix.max_parallel) == (False, 2)
    assert test.container == "python:${{ matrix.python }}-slim"
    assert test.labels == ["linux", "gpu", "container"]
    assert test.needs == [Need("lint")]
    assert deploy.condition == "branch == 'main' && (event == 'push' || event == 'tag')"
    assert (deploy.environment, deploy.allow_failure, deploy.secrets) == ("production", True, [SecretUse("TOKEN")])


def test_artifacts_and_caches_are_kept() -> None:
    _, test, deploy = jobs("github", WHOLE).values()
    assert test.artifacts is not None
    assert (test.artifacts.paths, test.artifacts.expire_in) == (["reports/"], 3 * 86400)
    assert deploy.take == ["test"]
    (cache,) = deploy.caches
    assert (cache.key, cache.restore_keys, cache.paths) == ("c-${{ hashFiles('**/lock') }}", ["c-"], [".cache"])


def test_values_reach_scripts_only_through_variables() -> None:
    test = jobs("github", WHOLE)["test"]
    assert test.steps[0].run == "tox -e py${MATRIX_PYTHON}"
    assert test.env["MATRIX_PYTHON"] == "${{ matrix.python }}"
    assert (test.steps[0].env, test.steps[0].timeout) == ({"MODE": "fast"}, 300)


def _job(body: str) -> str:
    lines = [f"        {line}" for line in body.strip("\n").splitlines()]
    return "\n".join(["jobs:", "  a:", "    runs-on: ubuntu-latest", "    steps:", *lines])


def test_an_unknown_action_becomes_a_step_that_fails_and_a_remark() -> None:
    text = _job("- uses: someone/something@v1\n  with: {token: x}")
    (step,) = jobs("github", text)["a"].steps
    assert step.name == "someone/something@v1"
    assert step.run.splitlines()[1] == "exit 1"
    assert "token: x" in step.run
    reason = "the action someone/something@v1 is not run here; write a script that does what it does"
    assert remarks("github", text) == [f"line 5, jobs.a.steps[0].uses: {reason}"]
    assert convert("github", text).whole == 0


def test_remarks_are_comments_of_the_part_that_they_are_about() -> None:
    text = convert("github", _job("- run: make\n- uses: someone/something@v1")).text
    before, _, after = text.partition("# line 6, jobs.a.steps[1].uses: the action someone/something@v1")
    assert "run: make" in before
    assert "exit 1" in after


def test_tools_are_not_installed_but_looked_for() -> None:
    text = _job("- uses: actions/setup-node@v4\n  with: {node-version: '20'}")
    assert jobs("github", text)["a"].steps[0].run == "node --version"
    assert "container: node:20" in remarks("github", text)[0]


def test_services_become_remarks_with_all_that_they_say() -> None:
    text = """
        jobs:
          a:
            runs-on: ubuntu-latest
            services:
              db: {image: 'postgres:16', env: {POSTGRES_PASSWORD: x}, ports: ['5432:5432']}
            steps: [{run: make}]
    """
    (remark,) = remarks("github", text)
    assert "postgres:16" in remark
    assert "POSTGRES_PASSWORD=x" in remark
    assert "5432:5432" in remark
    assert "postgres:16" in convert("github", text).text


@pytest.mark.parametrize(
    ("there", "here"),
    [
        ("github.ref == 'refs/heads/main'", "branch == 'main'"),
        ("github.ref != 'refs/heads/main'", "branch != 'main'"),
        ("${{ startsWith(github.ref, 'refs/tags/') }}", "tag != ''"),
        ("startsWith(github.ref, 'refs/tags/v')", "starts_with(tag, 'v')"),
        ("github.ref_name == 'x'", "branch == 'x' || tag == 'x'"),
        ("github.event_name == 'workflow_dispatch'", "event == 'page' || event == 'api'"),
        ("contains(github.head_ref, 'it''s')", "contains(branch, 'it''s')"),
        ("always()", "always()"),
        ("!cancelled() && success()", "!cancelled()"),
    ],
)
def test_conditions_are_translated(there: str, here: str) -> None:
    text = f'jobs: {{a: {{runs-on: ubuntu-latest, if: "{there}", steps: [{{run: make}}]}}}}'
    assert jobs("github", text)["a"].condition == here
    assert remarks("github", text) == []


def test_a_condition_that_is_not_known_here_stops_the_job() -> None:
    text = "jobs: {a: {runs-on: ubuntu-latest, if: \"github.actor == 'x'\", steps: [{run: make}]}}"
    job = jobs("github", text)["a"]
    assert job.condition is None
    assert [step.run.splitlines()[1:] for step in job.steps] == [["exit 1"], []]
    assert "github.actor has no counterpart" in remarks("github", text)[0]


def test_a_pipeline_has_one_repository_so_conditions_about_it_are_true() -> None:
    text = "jobs: {a: {runs-on: ubuntu-latest, if: \"github.repository == 'x/y'\", steps: [{run: make}]}}"
    assert jobs("github", text)["a"].condition is None
    assert "taken as 'x/y'" in remarks("github", text)[0]


def test_a_condition_of_a_step_is_tested_by_its_script() -> None:
    job = jobs("github", _job("- if: github.ref == 'refs/heads/main'\n  run: make"))["a"]
    assert job.steps[0].run == '[ "$IF_BRANCH_MAIN" = true ] || exit 0\nmake'
    assert job.env == {"IF_BRANCH_MAIN": "${{ branch == 'main' }}"}


def test_a_step_for_failures_is_left_out_with_a_remark() -> None:
    text = _job("- run: make\n- if: failure()\n  run: ./tell")
    assert [step.run for step in jobs("github", text)["a"].steps] == ["make"]
    assert "after a failed step none runs" in remarks("github", text)[0]


def test_cells_of_objects_become_axes_of_their_own() -> None:
    text = """
        jobs:
          a:
            runs-on: ${{ matrix.on.os }}
            strategy: {matrix: {on: [{os: linux, arch: arm}, {os: macos}], n: [1, 2]}}
            steps: [{run: 'echo ${{ matrix.on.arch }}'}]
    """
    job = jobs("github", text)["a"]
    assert job.matrix is not None
    assert job.matrix.include[0] == {"on_os": "linux", "on_arch": "arm", "n": "1"}
    assert len(job.matrix.include) == 4
    assert job.labels == ["${{ matrix.on_os }}"]


def test_a_matrix_that_another_job_makes_stops_the_job() -> None:
    text = """
        jobs:
          a:
            runs-on: ubuntu-latest
            strategy: {matrix: '${{ fromJSON(needs.b.outputs.m) }}'}
            steps: [{run: make}]
    """
    conversion = convert("github", text)
    assert conversion.whole == 0
    assert "agent.pyz upload" in conversion.text


def test_outputs_go_from_step_to_step_and_from_job_to_job(tmp_path: Path) -> None:
    text = """
        jobs:
          a:
            runs-on: ubuntu-latest
            outputs: {version: '${{ steps.v.outputs.version }}'}
            steps:
              - id: v
                run: echo version=1.2 >> "$GITHUB_OUTPUT"
              - run: echo got ${{ steps.v.outputs.version }}
          b:
            needs: a
            runs-on: ubuntu-latest
            steps: [{run: 'echo ${{ needs.a.outputs.version }}'}]
    """
    first, second = jobs("github", text).values()
    assert first.outputs == ["version"]
    env = {"HYBRID_CI_OUTPUT": str(tmp_path / "output"), "PATH": "/usr/bin:/bin"}
    printed = [_run(step.run, tmp_path, env) for step in first.steps]
    assert printed == ["", "got 1.2\n"]
    assert second.env == {"NEEDS_A_OUTPUTS_VERSION": "${{ needs.a.outputs.version }}"}


def test_what_a_step_hands_on_in_its_environment_reaches_later_steps(tmp_path: Path) -> None:
    text = _job(
        "- run: echo 'WORDS=two words' >> $GITHUB_ENV\n"
        '- run: echo /opt/tool >> "$GITHUB_PATH"\n'
        '- run: echo "$WORDS ${PATH%%:*} $GITHUB_WORKSPACE"'
    )
    (tmp_path / ".git").mkdir()
    steps = jobs("github", text)["a"].steps
    printed = [_run(step.run, tmp_path, {"PATH": "/usr/bin:/bin"}) for step in steps]
    assert printed[-1] == f"two words /opt/tool {tmp_path}\n"


def test_scripts_for_bash_run_with_bash_and_keep_their_input(tmp_path: Path) -> None:
    text = _job('- run: |\n    if [[ a == a* ]]; then read -r line; echo "got $line"; fi\n    false')
    (step,) = jobs("github", text)["a"].steps
    script = tmp_path / "step.sh"
    script.write_text(step.run)
    done = subprocess.run(["/bin/sh", "-e", script], input="word\n", capture_output=True, text=True, check=False)
    assert (done.stdout, done.returncode) == ("got word\n", 1)


def test_a_step_that_may_fail_does_not_fail_the_job(tmp_path: Path) -> None:
    text = _job("- run: |\n    false\n    echo no\n  continue-on-error: true\n  shell: bash")
    (step,) = jobs("github", text)["a"].steps
    assert _run(step.run, tmp_path, {"PATH": "/usr/bin:/bin"}) == ""


def test_a_variable_that_nothing_sets_here_stops_the_step(tmp_path: Path) -> None:
    text = _job("- run: ./push $GITHUB_REPOSITORY")
    (step,) = jobs("github", text)["a"].steps
    done = subprocess.run(["/bin/sh", "-e", "-c", step.run], capture_output=True, text=True, check=False, cwd=tmp_path)
    assert done.returncode != 0
    assert "GITHUB_REPOSITORY" in done.stderr
    assert "$GITHUB_REPOSITORY is not set here" in remarks("github", text)[0]


def test_values_in_the_variables_of_a_step_are_no_commands(tmp_path: Path) -> None:
    text = _job('- run: printf %s "$X"\n  env: {X: \'a "$(date)" `id` ${{ github.sha }}\'}')
    (step,) = jobs("github", text)["a"].steps
    printed = _run(step.run, tmp_path, {"GITHUB_SHA": "abc", "PATH": "/usr/bin:/bin"})
    assert printed == 'a "$(date)" `id` abc'


def test_inputs_of_a_workflow_become_parameters() -> None:
    text = """
        on:
          workflow_dispatch:
            inputs:
              target: {type: choice, options: [staging, production], default: staging, description: where}
              fast: {type: boolean, default: true}
        jobs:
          a:
            if: inputs.fast
            runs-on: ubuntu-latest
            steps: [{run: './deploy ${{ inputs.target }}'}]
    """
    whole = pipeline("github", text)
    assert (whole.parameters["target"].type, whole.parameters["target"].options) == (
        "choice",
        ["staging", "production"],
    )
    assert whole.parameters["fast"].default is True
    assert whole.jobs["a"].condition == "parameters.fast"
    assert whole.jobs["a"].env == {"INPUTS_TARGET": "${{ parameters.target }}"}


def test_a_workflow_that_another_one_has_stops_its_job() -> None:
    text = "jobs: {a: {uses: ./.github/workflows/x.yml, with: {a: 1}, secrets: inherit}}"
    conversion = convert("github", text)
    assert conversion.whole == 0
    assert "is not a part of this file" in conversion.text


def test_a_key_that_is_not_known_is_a_remark() -> None:
    text = "jobs: {a: {runs-on: ubuntu-latest, novelty: 1, steps: [{run: make, other: 2}]}}\nstrange: 3"
    assert [remark.subject for remark in convert("github", text).remarks] == [
        "jobs.a.novelty and 1 more",
        "strange",
    ]


def _run(script: str, folder: Path, env: dict[str, str]) -> str:
    path = folder / "step.sh"
    path.write_text(script)
    done = subprocess.run(
        ["/bin/sh", "-e", path], cwd=folder, env=env, capture_output=True, text=True, check=True, timeout=20
    )
    return done.stdout
