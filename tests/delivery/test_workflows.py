"""The workflows of GitHub Actions: who gets what there, and that they call what there is.

zizmor and the schema of workflows read the rest.
"""

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from django.core.management import get_commands, load_command_class

from tests.delivery.workflows import FOLDER, ROOT, commands, jobs, with_credentials, workflows

BIN = Path(sys.executable).parent
# What installs, and so runs code of others.
INSTALLING = re.compile(r"\bpip\b|\buv\b|\bnpm\b|\bapt|\bmake\b|\.ci/(run|tools)|setup-\w+|cache")
SCHEMA = ["check-jsonschema", "--builtin-schema", "vendor.github-workflows"]
ZIZMOR = ["zizmor", "--offline", "--no-progress"]
JOBS = jobs()
DEPLOYING = {name: job for name, job in JOBS.items() if with_credentials(job)}
# What a job's own repository or environment says of AWS; no settings of the control plane.
OF_GITHUB = {"DEPLOYER_ROLE_ARN", "ROLLBACK_ROLE_ARN", "STAGE_URL"}


def known_settings() -> set[str]:
    return set(re.findall(r"^(\w+)=", (ROOT / ".env.example").read_text(), re.MULTILINE))


def tool(name: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    program = str(BIN / name) if (BIN / name).exists() else name
    return subprocess.run([program, *arguments], cwd=ROOT, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("name", ["delivery", "rollback"])
def test_every_action_is_pinned_to_a_commit_and_says_its_version(name: str) -> None:
    lines = [line for line in (FOLDER / f"{name}.yml").read_text().splitlines() if re.match(r"\s*(- )?uses:", line)]
    assert lines
    for line in lines:
        assert re.fullmatch(r"\s*(- )?uses: [\w-]+/[\w-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+", line), line


def test_an_action_is_the_same_commit_everywhere() -> None:
    used = {step["uses"] for job in JOBS.values() for step in job["steps"] if "uses" in step}
    assert len(used) == len({action.partition("@")[0] for action in used})


@pytest.mark.parametrize("name", list(JOBS))
def test_every_job_has_an_end_a_fixed_machine_and_no_more_rights_than_it_names(name: str) -> None:
    job = JOBS[name]
    assert 0 < job["timeout-minutes"] <= 60
    machines = job["strategy"]["matrix"]["machine"] if "matrix.machine" in job["runs-on"] else [job["runs-on"]]
    assert all(re.fullmatch(r"ubuntu-\d\d\.\d\d(-arm)?|macos-\d\d", machine) for machine in machines)
    rights = job["permissions"].items()
    assert rights <= {"actions": "read", "contents": "read", "id-token": "write", "packages": "write"}.items()
    assert ("packages" in job["permissions"]) == (name in ("delivery/images", "delivery/registry"))


@pytest.mark.parametrize("name", list(workflows()))
def test_a_job_that_says_nothing_would_have_no_rights(name: str) -> None:
    assert workflows()[name]["permissions"] == {}


def test_only_what_deploys_and_rolls_back_gets_credentials() -> None:
    assert set(DEPLOYING) == {"delivery/staging", "delivery/production", "rollback/rollback"}


@pytest.mark.parametrize("name", list(DEPLOYING))
def test_credentials_are_for_an_hour_and_for_one_environment(name: str) -> None:
    job = DEPLOYING[name]
    assert job["environment"]
    (given,) = (step["with"] for step in job["steps"] if "configure-aws-credentials" in step.get("uses", ""))
    assert set(given) == {"aws-region", "role-to-assume", "role-session-name"}


@pytest.mark.parametrize("stage", ["staging", "production"])
def test_a_stage_is_deployed_by_one_run_at_a_time_which_no_other_cancels(stage: str) -> None:
    job = DEPLOYING[f"delivery/{stage}"]
    assert job["concurrency"] == {"group": f"deploy-{stage}", "cancel-in-progress": False}


def test_a_rollback_waits_for_nobody_and_cannot_be_cancelled_by_a_queued_deployment() -> None:
    """GitHub cancels what waits in a concurrency group when something newer comes to wait there."""
    workflow = workflows()["rollback"]
    assert not {"concurrency"} & (
        workflow.keys() | workflow["jobs"]["rollback"].keys() | workflow["jobs"]["tools"].keys()
    )
    # An environment of its own, without reviewers.
    assert workflow["jobs"]["rollback"]["environment"] == "${{ inputs.stage }}-rollback"


@pytest.mark.parametrize("name", list(DEPLOYING))
def test_nothing_is_installed_in_a_job_that_holds_an_id_token(name: str) -> None:
    for step in DEPLOYING[name]["steps"]:
        assert not INSTALLING.search(f"{step.get('run', '')} {step.get('uses', '')}"), step
    # What was installed by a job without one is taken by its digest, before there are credentials.
    steps = [step.get("run") or step["uses"].partition("@")[0] for step in DEPLOYING[name]["steps"]]
    assert [step.split()[0] for step in steps[:3]] == [
        "actions/checkout",
        ".ci/fetch",
        "aws-actions/configure-aws-credentials",
    ]
    fetch = DEPLOYING[name]["steps"][1]
    assert {value for key, value in fetch["env"].items() if key != "GH_TOKEN"} <= {
        "${{ needs.package.outputs.sha256 }}",
        "${{ needs.tools.outputs.sha256 }}",
    }


def test_production_gets_the_package_of_staging_by_its_digest_and_none_is_built_again() -> None:
    delivery = workflows()["delivery"]["jobs"]
    assert "package" in delivery["staging"]["needs"]
    assert {"package", "staging"} <= set(delivery["production"]["needs"])
    building = [name for name, job in delivery.items() if "make package" in str(job["steps"])]
    assert building == ["package"]
    assert delivery["package"]["outputs"]["sha256"] == "${{ steps.digest.outputs.sha256 }}"
    assert not any("cache" in step.get("with", {}) for step in delivery["package"]["steps"])


def test_an_older_commit_is_compared_with_all_commits() -> None:
    for stage in ("staging", "production"):
        checkout = DEPLOYING[f"delivery/{stage}"]["steps"][0]
        assert checkout["with"]["fetch-depth"] == 0


def test_the_tests_run_on_the_oldest_and_a_newer_python() -> None:
    assert JOBS["delivery/tests"]["strategy"]["matrix"]["python"] == ["3.11", "3.13"]


def test_the_images_of_each_push_are_of_both_processors_and_come_from_one_base_by_its_digest() -> None:
    delivery = workflows()["delivery"]["jobs"]
    for name in ("image", "images"):
        assert delivery[name]["strategy"]["matrix"]["machine"] == ["ubuntu-24.04", "ubuntu-24.04-arm"]
        (build,) = (step for step in delivery[name]["steps"] if ".ci/image" in step.get("run", ""))
        assert build["env"] == {"BASE": "${{ needs.base-image.outputs.base }}"}
    assert {"lint", "types", "tests"} < set(delivery["images"]["needs"])
    assert delivery["images"]["if"] == "github.event_name == 'push'"
    assert delivery["registry"]["needs"] == ["images"]


def test_secrets_are_given_to_the_one_step_that_deploys() -> None:
    for name, job in JOBS.items():
        assert "secrets." not in str(job.get("env", "")), name
        for step in job["steps"]:
            if "secrets." in str(step):
                assert step["run"].startswith(".ci/deploy "), name


def test_a_pull_request_reaches_neither_secrets_nor_aws() -> None:
    """`pull_request_target` and `workflow_run` would run with our rights what others have written."""
    triggers: set[str] = set()
    for workflow in workflows().values():
        triggers |= set(workflow[True])
    assert triggers == {"push", "pull_request", "schedule", "workflow_dispatch"}
    delivery = workflows()["delivery"]
    assert delivery[True]["push"] == {"branches": ["main"]}
    assert "github.event_name == 'push'" in delivery["jobs"]["staging"]["if"]
    assert "staging" in delivery["jobs"]["production"]["needs"]


def test_staging_waits_for_every_check_and_production_does_what_staging_did() -> None:
    delivery = workflows()["delivery"]["jobs"]
    images = {"base-image", "image", "images", "registry"}
    assert set(delivery["staging"]["needs"]) == set(delivery) - {"staging", "production"} - images
    assert delivery["production"]["steps"] == delivery["staging"]["steps"]
    assert (delivery["staging"]["environment"]["name"], delivery["production"]["environment"]["name"]) == (
        "staging",
        "production",
    )


def test_no_script_has_a_value_written_into_it() -> None:
    """An expression in ${{ }} is put into a script before the shell reads it: it could be a script itself."""
    scripts = [step["run"] for job in JOBS.values() for step in job["steps"] if "run" in step]
    assert scripts
    assert not [script for script in scripts if "${{" in script]


def test_the_token_for_github_stays_in_no_checkout() -> None:
    for job in JOBS.values():
        (checkout,) = (step for step in job["steps"] if step.get("uses", "").startswith("actions/checkout@"))
        assert checkout["with"]["persist-credentials"] is False


def test_every_make_target_that_is_called_is_there() -> None:
    called = {target for words in commands() if words[0] == "make" for target in words[1:]}
    called |= {target for words in commands() if words[0] == ".ci/run" for target in words[1:]}
    assert {"lint", "types", "test-all", "package"} < called
    for target in called:
        assert tool("make", "--dry-run", "--question", target).returncode != 2, target


def test_every_command_of_manage_py_takes_what_it_is_given() -> None:
    called = [words for words in commands() if "manage.py" in words]
    assert called
    for words in called:
        name, *arguments = words[words.index("manage.py") + 1 :]
        command: Any = load_command_class(get_commands()[name], name)
        for stage in ("staging", "production"):
            given = [stage if argument == "$TARGET" else argument for argument in arguments]
            command.create_parser("manage.py", name).parse_args(given)


def test_every_program_that_is_called_is_there_and_can_be_run() -> None:
    for words in commands():
        if words[0].startswith(".ci/"):
            assert (ROOT / words[0]).stat().st_mode & 0o111, words[0]


def test_every_secret_and_variable_is_a_setting_or_says_where_aws_is() -> None:
    names: set[str] = set()
    for file in FOLDER.glob("*.yml"):
        names |= set(re.findall(r"(?:secrets|vars)\.(\w+)", file.read_text()))
    settings = {name.removeprefix("OAUTH_") for name in names}
    # Secrets of a stage are stored on AWS.
    assert settings <= known_settings() | OF_GITHUB
    # GitHub refuses names like these.
    assert not [name for name in names if name.startswith("GITHUB_")]


def test_a_job_that_deploys_gets_no_secret_of_the_stage() -> None:
    for job in DEPLOYING.values():
        for step in job["steps"]:
            assert not [name for name, value in step.get("env", {}).items() if "secrets." in value]


def test_each_job_waits_for_jobs_that_there_are_and_uses_outputs_that_these_have() -> None:
    for file, workflow in workflows().items():
        for name, job in workflow["jobs"].items():
            needed = set(job.get("needs", []))
            assert needed <= workflow["jobs"].keys(), f"{file}/{name}"
            for other, output in re.findall(r"needs\.([\w-]+)\.outputs\.(\w+)", str(job)):
                assert other in needed, f"{file}/{name}"
                assert output in workflow["jobs"][other]["outputs"], f"{file}/{name}"


@pytest.mark.parametrize(
    ("right", "wrong", "arguments", "message"),
    [
        ("timeout-minutes: 10", "timeout-minute: 10", SCHEMA, "'timeout-minute' was unexpected"),
        (
            'run: .ci/deploy "$GITHUB_JOB"',
            "run: echo ${{ github.event.head_commit.message }}",
            ZIZMOR,
            "template-injection",
        ),
        ("  pull_request:", "  pull_request_target:", ZIZMOR, "dangerous-triggers"),
        ("@3d3c42e5aac5ba805825da76410c181273ba90b1", "@v7", ZIZMOR, "unpinned-uses"),
    ],
)
def test_the_tools_of_make_lint_find_what_is_wrong(
    tmp_path: Path, right: str, wrong: str, arguments: list[str], message: str
) -> None:
    """That they are content with our workflows means something only if they can be discontent."""
    text = (FOLDER / "delivery.yml").read_text()
    assert right in text
    folder = tmp_path / ".github" / "workflows"
    folder.mkdir(parents=True)
    file = folder / "delivery.yml"
    file.write_text(text.replace(right, wrong))
    found = tool(*arguments, str(file))
    assert found.returncode != 0
    assert message in found.stdout
