"""`.ci/deploy`: the arguments and settings that make gets."""

import json
import os
import subprocess
from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.delivery.workflows import ROOT

# A make that reports how it was called, in place of one that deploys.
MAKE = """#!/usr/bin/env python3
import json, os, sys
print(json.dumps({"arguments": sys.argv[1:], "environment": dict(os.environ), "folder": os.getcwd()}))
"""


@pytest.fixture
def tools(tmp_path: Path) -> Path:
    make = tmp_path / "make"
    make.write_text(MAKE)
    make.chmod(0o755)
    return tmp_path


def deploy(tools: Path, variables: Mapping[str, str], **environment: str) -> tuple[list[str], dict[str, str]]:
    """The arguments of make, and its environment."""
    done = subprocess.run(
        [str(ROOT / ".ci" / "deploy"), "staging"],
        cwd="/",
        env={"PATH": f"{tools}{os.pathsep}{os.environ['PATH']}", "VARIABLES": json.dumps(variables), **environment},
        capture_output=True,
        text=True,
        check=True,
    )
    call = json.loads(done.stdout)
    assert call["folder"] == str(ROOT)
    return call["arguments"], call["environment"]


def test_it_deploys_without_a_question_as_the_make_target_of_the_stage_does(tools: Path) -> None:
    assert deploy(tools, {})[0] == ["deploy-staging", "DEPLOY=--yes"]


def test_a_stage_with_an_address_of_its_own_is_tested_there(tools: Path) -> None:
    arguments, _ = deploy(tools, {"STAGE_URL": "https://ci.example.com"})
    assert arguments == ["deploy-staging", "DEPLOY=--yes --url https://ci.example.com"]


def test_variables_become_settings_and_nothing_else_does(tools: Path) -> None:
    variables = {"ALLOWED_HOSTS": "ci.example.com", "SESSION_IDLE_SECONDS": "", "LD_PRELOAD": "x", "PATH": "/tmp"}
    _, environment = deploy(tools, variables)
    assert environment["ALLOWED_HOSTS"] == "ci.example.com"
    assert not {"SESSION_IDLE_SECONDS", "LD_PRELOAD", "VARIABLES"} & environment.keys()
    assert environment["PATH"] != "/tmp"


def test_settings_whose_names_github_keeps_for_itself_have_others_there(tools: Path) -> None:
    _, environment = deploy(
        tools, {"OAUTH_GITHUB_CLIENT_ID": "id", "OAUTH_GITHUB_API_URL": "https://git.example.com/api/v3"}
    )
    assert environment["GITHUB_CLIENT_ID"] == "id"
    assert environment["GITHUB_API_URL"] == "https://git.example.com/api/v3"


def test_the_runners_own_address_of_github_is_no_setting(tools: Path) -> None:
    _, environment = deploy(tools, {}, GITHUB_API_URL="https://runner.example.com/api")
    assert "GITHUB_API_URL" not in environment


def test_secrets_and_credentials_of_the_job_stay_as_they_are(tools: Path) -> None:
    _, environment = deploy(
        tools, {"AWS_ACCESS_KEY_ID": "stored", "AWS_REGION": "x"}, SECRET_KEY="k", AWS_ACCESS_KEY_ID="of an hour"
    )
    assert (environment["SECRET_KEY"], environment["AWS_ACCESS_KEY_ID"]) == ("k", "of an hour")
    assert "AWS_REGION" not in environment
