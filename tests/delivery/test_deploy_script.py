"""`.ci/deploy`: the arguments and settings that `manage.py deploy` gets."""

import json
import os
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.delivery.workflows import ROOT

# A manage.py that reports how it was called, in place of one that deploys.
MANAGE = """
import json, os, sys
print(json.dumps({"arguments": sys.argv[1:], "environment": dict(os.environ), "folder": os.getcwd()}))
"""
DIGEST = "d" * 64


@pytest.fixture
def project(tmp_path: Path) -> Path:
    (tmp_path / ".ci").mkdir()
    for name in (".ci/deploy", ".env.example"):
        shutil.copy2(ROOT / name, tmp_path / name)
    (tmp_path / "manage.py").write_text(MANAGE)
    return tmp_path


def deploy(project: Path, variables: Mapping[str, str], **environment: str) -> tuple[list[str], dict[str, str]]:
    """The arguments of manage.py, and its environment."""
    done = subprocess.run(
        [str(project / ".ci" / "deploy"), "staging"],
        cwd="/",
        env={"PATH": os.environ["PATH"], "VARIABLES": json.dumps(variables), "PACKAGE": DIGEST, **environment},
        capture_output=True,
        text=True,
        check=True,
    )
    call = json.loads(done.stdout)
    assert call["folder"] == str(project)
    return call["arguments"], call["environment"]


def test_it_deploys_the_package_by_its_digest_forward_only_and_without_a_question(project: Path) -> None:
    arguments, environment = deploy(project, {})
    package = f"{project}/.package/lambda/lambda.zip"
    assert arguments == [
        *("deploy", "--stage", "staging", "--yes", "--forward-only", "--package", package, "--sha256", DIGEST)
    ]
    # Where .ci/fetch has unpacked them.
    assert environment["PYTHONPATH"] == f"{project}/.package/tools"


def test_a_stage_with_an_address_of_its_own_is_tested_there(project: Path) -> None:
    arguments, _ = deploy(project, {"STAGE_URL": "https://ci.example.com"})
    assert arguments[-2:] == ["--url", "https://ci.example.com"]


def test_variables_become_settings_and_nothing_else_does(project: Path) -> None:
    variables = {"ALLOWED_HOSTS": "ci.example.com", "SESSION_IDLE_SECONDS": "", "LD_PRELOAD": "x", "PATH": "/tmp"}
    _, environment = deploy(project, variables)
    assert environment["ALLOWED_HOSTS"] == "ci.example.com"
    assert not {"SESSION_IDLE_SECONDS", "LD_PRELOAD", "VARIABLES"} & environment.keys()
    assert environment["PATH"] != "/tmp"


def test_settings_whose_names_github_keeps_for_itself_have_others_there(project: Path) -> None:
    _, environment = deploy(
        project, {"OAUTH_GITHUB_CLIENT_ID": "id", "OAUTH_GITHUB_API_URL": "https://git.example.com/api/v3"}
    )
    assert environment["GITHUB_CLIENT_ID"] == "id"
    assert environment["GITHUB_API_URL"] == "https://git.example.com/api/v3"


def test_the_runners_own_address_of_github_is_no_setting(project: Path) -> None:
    _, environment = deploy(project, {}, GITHUB_API_URL="https://runner.example.com/api")
    assert "GITHUB_API_URL" not in environment


def test_secrets_and_credentials_of_the_job_stay_as_they_are(project: Path) -> None:
    _, environment = deploy(
        project, {"AWS_ACCESS_KEY_ID": "stored", "AWS_REGION": "x"}, SECRET_KEY="k", AWS_ACCESS_KEY_ID="of an hour"
    )
    assert (environment["SECRET_KEY"], environment["AWS_ACCESS_KEY_ID"]) == ("k", "of an hour")
    assert "AWS_REGION" not in environment
