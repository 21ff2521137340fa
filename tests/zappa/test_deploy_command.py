"""`manage.py deploy`: the checks before a deployment, and the smoke test after it."""

import os
import socket

import pytest

from controlplane.deployment.lambda_package import settings_given
from controlplane.deployment.smoke import address_door, smoke_test
from controlplane.infrastructure.errors import InfrastructureError
from tests.commands import manage

COMPLETE = {
    "ALLOWED_HOSTS": "ci.example.com",
    "SECRET_KEY": "abcdefghij" * 5,
    "GITHUB_CLIENT_ID": "id",
    "GITHUB_CLIENT_SECRET": "secret",
    "DEBUG": "false",
}


@pytest.mark.parametrize("missing", ["ALLOWED_HOSTS", "SECRET_KEY", "GITHUB_CLIENT_SECRET"])
def test_a_missing_setting_stops_the_deployment(missing: str) -> None:
    done = manage("deploy", "--stage", "staging", **{**COMPLETE, missing: ""})
    assert done.returncode == 1
    assert missing.removeprefix("GITHUB_") in done.stderr
    assert "Traceback" not in done.stderr


def test_without_credentials_the_error_says_how_to_get_some() -> None:
    none = {"AWS_ACCESS_KEY_ID": "", "AWS_SECRET_ACCESS_KEY": "", "AWS_CONFIG_FILE": os.devnull}
    done = manage("deploy", "--stage", "staging", **COMPLETE, **none, AWS_SHARED_CREDENTIALS_FILE=os.devnull)
    assert (done.returncode, done.stdout) == (1, "")
    assert "No AWS credentials were found" in done.stderr


def test_the_function_gets_the_settings_that_are_its_own() -> None:
    given = settings_given(
        {**COMPLETE, "AWS_REGION": "eu-central-1", "KEY_FILE": "/key", "ADMIN_PASSWORD": "x", "HOME": "/", "STAGE": "x"}
    )
    assert given == COMPLETE


def test_a_stage_with_the_right_responses_passes(server: str) -> None:
    smoke_test(address_door(server), stage="test", version="0.1.0")
    # The number of an older version is not known.
    smoke_test(address_door(server), stage="test", version=None)


@pytest.mark.parametrize(
    ("expected", "message"),
    [
        ({"stage": "staging", "version": "0.1.0"}, "environment 'test', not 'staging'"),
        ({"stage": "test", "version": "9.9.9"}, "version '0.1.0', not '9.9.9'"),
    ],
)
def test_another_stage_or_version_does_not_pass(server: str, expected: dict[str, str], message: str) -> None:
    with pytest.raises(InfrastructureError, match=message):
        smoke_test(address_door(server), **expected)


def test_a_stage_that_does_not_answer_does_not_pass() -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        address = f"http://127.0.0.1:{closed.getsockname()[1]}"
    with pytest.raises(InfrastructureError, match="cannot be reached"):
        smoke_test(address_door(address), stage="test", version="0.1.0")
