"""The workflows of GitHub Actions: who gets what there, and that they call what there is. actionlint reads the rest."""

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from django.core.management import get_commands, load_command_class

from tests.delivery.workflows import FOLDER, ROOT, commands, jobs, with_credentials, workflows

BIN = Path(sys.executable).parent
JOBS = jobs()
DEPLOYING = {name: job for name, job in JOBS.items() if with_credentials(job)}
# What a job's own repository or environment says of AWS; no settings of the control plane.
OF_GITHUB = {"DEPLOYER_ROLE_ARN", "STAGE_URL"}


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
    assert re.fullmatch(r"ubuntu-\d\d\.\d\d", job["runs-on"])
    assert job["permissions"] in ({"contents": "read"}, {"contents": "read", "id-token": "write"})


@pytest.mark.parametrize("name", list(workflows()))
def test_a_job_that_says_nothing_would_have_no_rights(name: str) -> None:
    assert workflows()[name]["permissions"] == {}


def test_only_what_deploys_and_rolls_back_gets_credentials() -> None:
    assert set(DEPLOYING) == {"delivery/staging", "delivery/production", "rollback/rollback"}


@pytest.mark.parametrize("name", list(DEPLOYING))
def test_credentials_are_for_an_hour_for_one_environment_and_one_at_a_time(name: str) -> None:
    job = DEPLOYING[name]
    assert job["environment"]
    file = name.partition("/")[0]
    concurrency = job.get("concurrency") or workflows()[file]["concurrency"]
    assert concurrency["group"].startswith("deploy-")
    assert concurrency["cancel-in-progress"] is False
    (given,) = (step["with"] for step in job["steps"] if "configure-aws-credentials" in step.get("uses", ""))
    assert set(given) == {"aws-region", "role-to-assume", "role-session-name"}


@pytest.mark.parametrize("name", list(DEPLOYING))
def test_what_is_installed_is_installed_before_there_are_credentials_and_from_no_cache(name: str) -> None:
    steps = DEPLOYING[name]["steps"]
    installing = next(number for number, step in enumerate(steps) if step.get("run") == "make install")
    credentials = next(number for number, step in enumerate(steps) if "aws-actions" in step.get("uses", ""))
    assert installing < credentials
    assert not any("cache" in step.get("with", {}) for step in steps)


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
    assert delivery["jobs"]["production"]["needs"] == ["staging"]


def test_staging_waits_for_every_check_and_production_does_what_staging_did() -> None:
    delivery = workflows()["delivery"]["jobs"]
    assert set(delivery["staging"]["needs"]) == set(delivery) - {"staging", "production"}
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
    called |= {f"deploy-{stage}" for stage in ("staging", "production")}
    assert {"lint", "types", "test-all", "package", "install"} < called
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
    assert "SECRET_KEY" in settings
    assert settings <= known_settings() | OF_GITHUB
    # GitHub refuses names like these.
    assert not [name for name in names if name.startswith("GITHUB_")]


def test_a_secret_is_handed_on_under_the_name_of_its_setting() -> None:
    for job in DEPLOYING.values():
        for step in job["steps"]:
            for name, value in step.get("env", {}).items():
                if "secrets." in value:
                    assert name in known_settings()
                    wanted = f"OAUTH_{name}" if name.startswith("GITHUB_") else name
                    assert value == f"${{{{ secrets.{wanted} }}}}"


@pytest.mark.parametrize(
    ("right", "wrong", "tool_name", "message"),
    [
        ("needs: [staging]", "needs: [stagin]", "actionlint", '"stagin" which does not exist'),
        (
            'run: .ci/deploy "$GITHUB_JOB"',
            "run: echo ${{ github.event.head_commit.message }}",
            "actionlint",
            "potentially untrusted",
        ),
        ("  pull_request:", "  pull_request_target:", "zizmor", "dangerous-triggers"),
        ("@3d3c42e5aac5ba805825da76410c181273ba90b1", "@v7", "zizmor", "unpinned-uses"),
    ],
)
def test_the_tools_of_make_lint_find_what_is_wrong(
    tmp_path: Path, right: str, wrong: str, tool_name: str, message: str
) -> None:
    """That they are content with our workflows means something only if they can be discontent."""
    text = (FOLDER / "delivery.yml").read_text()
    assert right in text
    folder = tmp_path / ".github" / "workflows"
    folder.mkdir(parents=True)
    file = folder / "delivery.yml"
    file.write_text(text.replace(right, wrong))
    arguments = [str(file)] if tool_name == "actionlint" else ["--offline", "--no-progress", str(file)]
    found = tool(tool_name, *arguments)
    assert found.returncode != 0
    assert message in found.stdout
