"""`manage.py deploy`: the checks before a deployment, and the smoke test after it."""

import os
import socket

import pytest

from controlplane.deployment.function_settings import settings_given
from controlplane.deployment.smoke import address_door, smoke_test
from controlplane.infrastructure.errors import InfrastructureError
from tests.commands import command

# Of the command itself and of the programs that it starts.
OWN = {"DJANGO_SETTINGS_MODULE": "controlplane.settings", "STAGE": "local", "SECRET_KEY": ""}
COMPLETE = {
    "AWS_REGION": "us-east-1",
    "ALLOWED_HOSTS": "ci.example.com",
    "PUBLIC_URL": "https://ci.example.com",
    "GITHUB_CLIENT_ID": "id",
    "DEBUG": "false",
}


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"ALLOWED_HOSTS": ""}, "ALLOWED_HOSTS is not set"),
        ({"PUBLIC_URL": ""}, "PUBLIC_URL must be set, as in https://ci.example.com"),
        ({"GITHUB_CLIENT_ID": ""}, "GOOGLE_CLIENT_ID and GOOGLE_CLIENT_SECRET, or GITHUB's, must be set"),
        ({"DEBUG": "true"}, "DEBUG must be false"),
        ({"AWS_REGION": ""}, "AWS_REGION is not set. Add a line such as AWS_REGION=eu-central-1 to .env.staging"),
        ({"AWS_REGION": "eu-centrl-1"}, "AWS_REGION is eu-centrl-1, which is no region. Is it eu-central-1?"),
        ({"SECRETS_STORE": "vault"}, "SECRETS_STORE must be parameter-store or secrets-manager"),
        ({"RELEASE_WATCH_SECONDS": "long"}, "RELEASE_WATCH_SECONDS must be a number of seconds, not 'long'"),
        (
            {"SECRET_KEY": "abcdefghij" * 5},
            "Type: manage.py stage_settings set SECRET_KEY --stage staging, and remove it there.",
        ),
    ],
)
def test_a_wrong_setting_stops_the_deployment(wrong: dict[str, str], message: str) -> None:
    done = command("deploy", "--stage", "staging", **{**OWN, **COMPLETE, **wrong})
    assert done.returncode == 1
    assert message in done.stderr
    assert "Traceback" not in done.stderr


def test_without_credentials_the_error_says_how_to_get_some() -> None:
    none = {"AWS_ACCESS_KEY_ID": "", "AWS_SECRET_ACCESS_KEY": "", "AWS_CONFIG_FILE": os.devnull}
    done = command("deploy", "--stage", "staging", **OWN, **COMPLETE, **none, AWS_SHARED_CREDENTIALS_FILE=os.devnull)
    assert (done.returncode, done.stdout) == (1, "")
    assert "No AWS credentials were found" in done.stderr


def test_the_function_gets_the_settings_that_are_its_own() -> None:
    given = settings_given(
        {**COMPLETE, "KEY_FILE": "/key", "ADMIN_PASSWORD": "x", "SECRET_KEY": "x", "HOME": "/", "STAGE_URL": "x"}
    )
    assert given == {name: value for name, value in COMPLETE.items() if name != "AWS_REGION"}


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
