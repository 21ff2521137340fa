"""Files of GitLab CI become pipeline files."""

import subprocess
from pathlib import Path

import pytest

from agent.pipeline.definition import Need, SecretUse
from apps.pipelines.importing import gitlab_includes
from apps.pipelines.importing.converting import pipeline_convert
from apps.pipelines.importing.foreign import MAX_WEIGHT
from apps.pipelines.importing.remarks import ImportRefused
from apps.pipelines.parsing import pipeline_parse
from tests.pipelines.importing.conversions import convert, jobs, pipeline, remarks

WHOLE = """
    stages: [build, test, deploy]
    variables: {COLOUR: never, IMAGE: 'python:3.12'}
    default:
      image: $IMAGE
      tags: [docker]
    .base: &base
      before_script: [make deps]
      timeout: 1h 30m
    build:
      <<: *base
      stage: build
      script: [make, make check]
      artifacts: {paths: [dist/], expire_in: 1 week, reports: {junit: r/*.xml}}
      cache: {key: {files: [lock], prefix: c}, paths: [.cache], fallback_keys: [c-]}
    unit:
      extends: .base
      stage: test
      parallel: {matrix: [{PY: ['3.11', '3.12']}]}
      script: tox -e $PY
    lint:
      stage: test
      needs: []
      script: make lint
      allow_failure: true
    deploy:
      stage: deploy
      script: ./deploy $CI_COMMIT_SHA
      environment: production
      resource_group: production
      rules: [{if: '$CI_COMMIT_BRANCH == $CI_DEFAULT_BRANCH'}]
      retry: {max: 1, exit_codes: [75]}
"""


def test_what_has_a_counterpart_is_converted_without_a_remark() -> None:
    conversion = convert("gitlab", WHOLE)
    assert conversion.remarks == []
    assert (conversion.jobs, conversion.whole) == (4, 4)


def test_stages_become_needs_and_artifacts_come_along() -> None:
    made = jobs("gitlab", WHOLE)
    assert {name: job.needs for name, job in made.items()} == {
        "build": [],
        "unit": [Need("build")],
        "lint": [],
        "deploy": [Need("unit"), Need("lint")],
    }
    assert [made[name].take for name in ("unit", "lint", "deploy")] == [["build"], [], ["build"]]


def test_defaults_anchors_and_templates_are_resolved() -> None:
    made = jobs("gitlab", WHOLE)
    assert made["build"].steps[0].run == "make deps\nmake\nmake check\n"
    assert made["unit"].steps[0].run == "make deps\ntox -e $PY\n"
    assert (made["build"].timeout, made["unit"].timeout) == (5400, 5400)
    assert {job.container for job in made.values()} == {"python:3.12"}
    assert made["lint"].labels == ["docker", "container"]


def test_matrices_conditions_artifacts_caches_and_retries_are_kept() -> None:
    made = jobs("gitlab", WHOLE)
    assert made["unit"].matrix is not None
    assert made["unit"].matrix.axes == {"PY": ["3.11", "3.12"]}
    assert made["unit"].env == {"PY": "${{ matrix.PY }}"}
    assert made["deploy"].condition == "branch == default_branch"
    assert (made["deploy"].environment, made["deploy"].concurrency.group) == ("production", "production")
    assert made["deploy"].env == {"CI_COMMIT_SHA": "${{ commit }}"}
    assert (made["deploy"].retries.max, made["deploy"].retries.exit_codes) == (1, [75])
    assert (made["build"].artifacts.paths, made["build"].artifacts.expire_in) == (["dist/"], 7 * 86400)
    assert made["build"].reports.junit == ["r/*.xml"]
    (cache,) = made["build"].caches
    assert (cache.key, cache.paths, cache.restore_keys) == ("c-${{ hashFiles('lock') }}", [".cache"], ["c-"])
    assert made["lint"].allow_failure


@pytest.mark.parametrize(
    ("there", "here"),
    [
        ("[{if: '$CI_COMMIT_TAG'}]", "tag != ''"),
        ("[{if: '$CI_PIPELINE_SOURCE == \"merge_request_event\"'}]", "event == 'pull_request'"),
        ("[{if: '$CI_COMMIT_BRANCH =~ /^release-/'}]", "starts_with(branch, 'release-')"),
        ("[{if: '$CI_COMMIT_BRANCH =~ /^(main|next)$/'}]", "branch == 'main' || branch == 'next'"),
        ("[{if: '$CI_COMMIT_REF_NAME == \"x\"'}]", "branch == 'x' || tag == 'x'"),
        ("[{if: '$CI_COMMIT_TAG', when: never}, {when: on_success}]", "tag == ''"),
        ("[{if: '$CI_COMMIT_TAG', when: never}, {if: '$CI_COMMIT_BRANCH'}]", "tag == '' && branch != ''"),
        ("[{changes: [src/**/*]}, {if: '$CI_COMMIT_TAG == null'}]", "changed('src/**/*') || tag == ''"),
        ("[{when: always}]", "always()"),
    ],
)
def test_rules_become_one_condition(there: str, here: str) -> None:
    assert jobs("gitlab", f"a: {{script: make, rules: {there}}}")["a"].condition == here


@pytest.mark.parametrize(
    ("there", "here"),
    [
        ("only: [main, tags]", "branch == 'main' || tag == 'main' || tag != ''"),
        ("except: [schedules]", "event != 'schedule'"),
        ("only: {refs: [branches], changes: [src/*]}", "branch != '' && changed('src/*')"),
        ("only: ['/^v/'], except: [branches]", "(starts_with(branch, 'v') || starts_with(tag, 'v')) && branch == ''"),
    ],
)
def test_only_and_except_become_one_condition(there: str, here: str) -> None:
    assert jobs("gitlab", f"a: {{script: make, {there}}}")["a"].condition == here


def test_a_later_stage_goes_on_without_a_job_that_is_left_out_of_the_run_but_not_after_its_failure() -> None:
    text = """
        a: {stage: build, script: make, only: [tags]}
        b: {stage: test, script: make}
    """
    job = jobs("gitlab", text)["b"]
    assert job.needs == [Need("a", "any")]
    assert job.condition == "needs.a.result != 'failure' && needs.a.result != 'cancelled'"


def test_a_job_that_a_person_starts_gets_a_parameter() -> None:
    text = """
        build: {stage: build, script: make}
        ship: {stage: test, script: ./ship, when: manual}
        last: {stage: deploy, script: ./last}
    """
    whole = pipeline("gitlab", text)
    assert whole.parameters["run_ship"].type == "flag"
    assert whole.jobs["ship"].condition == "parameters.run_ship"
    assert whole.jobs["ship"].allow_failure
    assert whole.jobs["last"].needs == [Need("build")]
    assert "start a run with the parameter run_ship" in remarks("gitlab", text)[0]


def test_a_variable_that_only_conditions_know_becomes_a_parameter() -> None:
    whole = pipeline("gitlab", "a: {script: make, rules: [{if: '$NIGHTLY == \"yes\"'}]}")
    assert whole.jobs["a"].condition == "parameters.NIGHTLY == 'yes'"
    assert whole.env == {"NIGHTLY": "${{ parameters.NIGHTLY }}"}


def test_variables_name_each_other_and_what_only_the_agent_knows_is_set_in_the_script(tmp_path: Path) -> None:
    text = """
        variables: {BASE: /x, DEEP: $BASE/y, HERE: $CI_PROJECT_DIR/z}
        a: {script: 'echo $DEEP $HERE $CI_COMMIT_SHORT_SHA', variables: {BASE: /other}}
    """
    job = jobs("gitlab", text)["a"]
    assert job.env["DEEP"] == "/other/y"
    env = {**job.env, "HYBRID_CI_COMMIT": "0123456789abcdef", "PATH": "/usr/bin:/bin"}
    assert _run(job.steps[0].run, tmp_path, env) == f"/other/y {tmp_path}/z 01234567\n"


def test_after_script_runs_after_a_failure_too_and_changes_no_result(tmp_path: Path) -> None:
    text = """
        a:
          script: [mkdir in, cd in, echo begun, 'false', echo never]
          after_script:
            - echo after in "${PWD##*/}"
            - 'false'
    """
    (step,) = jobs("gitlab", text)["a"].steps
    script = tmp_path / "step.sh"
    script.write_text(step.run)
    done = subprocess.run(["/bin/sh", "-e", script], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.stdout, done.returncode) == (f"begun\nafter in {tmp_path.name}\n", 1)


def test_references_to_parts_of_other_jobs_are_filled_in() -> None:
    text = """
        .setup: {script: [one, two], rules: [{if: $CI_COMMIT_TAG}]}
        a: {script: [!reference [.setup, script], three], rules: [!reference [.setup, rules]]}
    """
    job = jobs("gitlab", text)["a"]
    assert (job.steps[0].run, job.condition) == ("one\ntwo\nthree\n", "tag != ''")


def test_what_is_in_another_file_stops_the_jobs_that_are_made_of_it() -> None:
    text = """
        include: [{project: a/b, file: c.yml}]
        a: {extends: .theirs, script: make}
        b: {script: make}
    """
    conversion = convert("gitlab", text)
    assert (conversion.jobs, conversion.whole) == (2, 1)
    assert [str(remark) for remark in conversion.remarks] == [
        "line 2, include: project: a/b, file: c.yml was not read; convert that file, too, and copy its jobs",
        "line 3, jobs.a.extends: .theirs is not in this file; its part of the job is missing",
    ]


def test_a_file_of_includes_alone_is_refused_with_the_reason() -> None:
    with pytest.raises(ImportRefused, match="file by file"):
        convert("gitlab", "include: a.yml")


def test_needs_against_the_order_of_stages_make_no_circle() -> None:
    text = """
        a: {stage: test, script: make, needs: [b]}
        b: {stage: deploy, script: make}
    """
    made = jobs("gitlab", text)
    assert made["a"].needs == [Need("b")]
    assert made["b"].needs == []


def test_a_pipeline_of_another_project_stops_its_job() -> None:
    conversion = convert("gitlab", "a: {trigger: {project: x/y}}\nb: {script: make}")
    assert conversion.whole == 1
    assert "starts another pipeline" in conversion.text


def test_a_secret_of_the_project_becomes_a_secret_of_the_job() -> None:
    text = 'a: {script: "push --token $UPLOAD_TOKEN", rules: [{if: $UPLOAD_TOKEN}]}'
    job = jobs("gitlab", text)["a"]
    assert (job.secrets, job.condition) == ([SecretUse("UPLOAD_TOKEN")], None)
    assert "looks like a secret" in " ".join(remarks("gitlab", text))


def test_described_variables_become_parameters() -> None:
    text = """
        variables: {TARGET: {value: staging, options: [staging, production], description: where}}
        a: {script: ./deploy $TARGET}
    """
    whole = pipeline("gitlab", text)
    assert (whole.parameters["TARGET"].type, whole.parameters["TARGET"].default) == ("choice", "staging")
    assert whole.env == {"TARGET": "${{ parameters.TARGET }}"}


def test_a_job_for_powershell_stops() -> None:
    conversion = convert("gitlab", "a: {script: ['$env:Path = \"x\"']}")
    assert conversion.whole == 0
    assert "PowerShell" in conversion.text


def _run(script: str, folder: Path, env: dict[str, str]) -> str:
    path = folder / "step.sh"
    path.write_text(script)
    done = subprocess.run(
        ["/bin/sh", "-e", path], cwd=folder, env=env, capture_output=True, text=True, check=True, timeout=20
    )
    return done.stdout


def test_files_of_the_repository_that_a_file_includes_are_read_below_it() -> None:
    files = {
        "ci/base.yml": ".base: {image: 'a:1', script: [one]}\nstages: [x]\ninclude: ci/more.yml",
        "ci/more.yml": "b:\n  script: echo $CI_JOB_TOKEN",
    }
    text = "include: [{local: /ci/base.yml}]\na: {extends: .base, stage: x}\nb: {variables: {C: d}}"
    conversion = pipeline_convert("gitlab", text, files.get)
    made = pipeline_parse(conversion.text).jobs
    assert (made["a"].steps[0].run, made["a"].container) == ("one\n", "a:1")
    assert made["b"].env == {"C": "d"}
    assert [str(remark).partition(": $")[0] for remark in conversion.remarks] == [
        "line 2 of ci/more.yml, jobs.b.script"
    ]


def test_files_that_include_each_other_are_read_once_and_one_that_is_not_valid_is_named() -> None:
    circle = {"a.yml": "include: b.yml\na: {script: x}", "b.yml": "include: a.yml\nb: {script: x}"}
    assert pipeline_convert("gitlab", "include: a.yml", circle.get).jobs == 2
    with pytest.raises(ImportRefused, match=r"^a\.yml: Line 1 is not valid YAML"):
        pipeline_convert("gitlab", "include: a.yml", {"a.yml": "a: ["}.get)


@pytest.mark.parametrize("limit", [5_000, pytest.param(MAX_WEIGHT, marks=pytest.mark.nightly)])
def test_included_files_have_a_limit_together(limit: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gitlab_includes, "MAX_WEIGHT", limit)
    large = "".join(f"{number:x}: 1\n" for number in range(limit * 9 // 50))
    files = {f"{number}.yml": large for number in range(20)}
    with pytest.raises(ImportRefused, match="too large together"):
        pipeline_convert("gitlab", f"include: [{', '.join(files)}]", files.get)


@pytest.mark.parametrize(
    ("path", "here"),
    [
        ("src/*.{c,h}", "changed('src/*.c', 'src/*.h')"),
        ("{a,b}/{c,d}", "changed('a/c', 'a/d', 'b/c', 'b/d')"),
    ],
)
def test_choices_in_paths_become_several_paths(path: str, here: str) -> None:
    assert jobs("gitlab", f"a: {{script: x, rules: [{{changes: ['{path}']}}]}}")["a"].condition == here


@pytest.mark.parametrize(
    ("pattern", "here"),
    [
        (r"/^v\d+\.\d+(-rc\d+)?$/", "matches(tag, 'v*.*')"),
        (r"/\Afeature\/.+\z/", "starts_with(tag, 'feature/')"),
        (r"/-stable$/", "ends_with(tag, '-stable')"),
        ("/rc/", "contains(tag, 'rc')"),
        ("/^x$/", "tag == 'x'"),
        ("/.*/", None),
    ],
)
def test_regular_expressions_become_functions_and_patterns(pattern: str, here: str | None) -> None:
    assert jobs("gitlab", f"a: {{script: x, rules: [{{if: '$CI_COMMIT_TAG =~ {pattern}'}}]}}")["a"].condition == here
