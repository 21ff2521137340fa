"""The function and Zappa use the stack's resources under the names that they get."""

from collections.abc import Iterator
from typing import Any

import pytest
from botocore.client import BaseClient
from django.core.files.base import ContentFile

from controlplane.deployment import lambda_package
from controlplane.infrastructure.clients import Account
from controlplane.infrastructure.errors import InfrastructureError
from controlplane.infrastructure.handover import function_settings, package_bucket_require
from controlplane.lib.data_keys import data_keys_forget
from controlplane.lib.envelope import decrypt, encrypt
from controlplane.lib.object_storage import ObjectStorage
from tests.conftest import services_forget
from tests.infrastructure.conftest import Body, infrastructure
from tests.infrastructure.test_template import role_statements

# The IAM actions that each operation of S3 needs. For a missing object, HeadObject and GetObject also need
# ListBucket to get 404.
S3_ACTIONS = {
    "AbortMultipartUpload": "AbortMultipartUpload",
    "CompleteMultipartUpload": "PutObject",
    "CreateMultipartUpload": "PutObject",
    "DeleteObject": "DeleteObject",
    "GetObject": "GetObject",
    "HeadObject": "GetObject",
    "PutObject": "PutObject",
    "UploadPart": "PutObject",
}


@pytest.fixture
def deployed(aws: str, settings: Any) -> Iterator[str]:
    """Deploys staging and gives this process the function's settings. The number of the account."""
    infrastructure("deploy", "--stage", "staging", "--yes")
    for name, value in function_settings("staging", aws).items():
        setattr(settings, name, value)
    services_forget()
    yield aws
    services_forget()


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> set[tuple[str, str]]:
    """Service and operation of each call in the test."""
    made: set[tuple[str, str]] = set()
    make = BaseClient._make_api_call

    def note(client: Any, operation: str, arguments: Any) -> Any:
        made.add((client.meta.service_model.service_name, operation))
        return make(client, operation, arguments)

    monkeypatch.setattr(BaseClient, "_make_api_call", note)
    return made


def _broken() -> Iterator[bytes]:
    yield b"x" * 10_000_000
    raise ValueError("the stream failed halfway")


def test_the_function_encrypts_and_archives_logs_with_the_stacks_resources_and_its_role(
    deployed: str, calls: set[tuple[str, str]], settings: Any, staging: Body
) -> None:
    calls.clear()
    text = encrypt(b"secret", context=["place"])
    data_keys_forget()
    assert decrypt(text, context=["place"]) == b"secret"

    logs = ObjectStorage(settings.LOG_BUCKET)
    logs.save("small.log", ContentFile(b"small"))
    logs.save_stream("large.log", [b"large" * 20_000] * 100)
    with pytest.raises(ValueError, match="failed halfway"):
        logs.save_stream("large.log", _broken())
    assert logs.read_range("small.log", 1, 3) == (b"mal", 5)
    assert logs.read_range("small.log", 9, 3) == (b"", 5)
    assert (logs.exists("large.log"), logs.exists("none.log")) == (True, False)
    assert logs.size("large.log") == 10_000_000
    logs.delete("small.log")

    named = {statement["Sid"]: statement for statement in role_statements(staging) if "Sid" in statement}
    assert {f"kms:{operation}" for service, operation in calls if service == "kms"} == set(named["Encrypt"]["Action"])
    used = {f"s3:{S3_ACTIONS[operation]}" for service, operation in calls if service == "s3"}
    assert used == set(named["JobLogs"]["Action"])
    assert named["JobLogIsThere"]["Action"] == "s3:ListBucket"
    assert {service for service, _ in calls} == {"kms", "s3"}


def test_the_names_equal_the_outputs_of_the_stack(deployed: str) -> None:
    output = infrastructure("deploy", "--stage", "staging", "--yes")
    assert f"JobLogBucketName: {function_settings('staging', deployed)['LOG_BUCKET']}\n" in output
    assert f"PackageBucketName: {package_bucket_require('staging', Account('eu-central-1'))}\n" in output


def test_without_the_stack_the_error_names_the_missing_bucket_and_the_command(aws: str) -> None:
    with pytest.raises(InfrastructureError, match=f"no bucket hybrid-ci-cd-packages-staging-{aws}.*--stage staging"):
        package_bucket_require("staging", Account("eu-central-1"))


class _Zappa:
    """The part of Zappa's command line that the package's callback uses."""

    command = "update"
    api_stage = "staging"
    aws_region = "eu-central-1"
    s3_bucket_name = "zappa-random"

    def __init__(self) -> None:
        self.aws_environment_variables = {"STAGE": "staging"}


def test_zappa_gets_the_bucket_and_the_function_its_settings_without_a_person_copying_them(
    deployed: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LOG_LEVEL", "INFO")
    for name in ("LOG_BUCKET", "KMS_KEY_ID"):
        monkeypatch.delenv(name, raising=False)
    zappa = _Zappa()
    lambda_package.stack_use(zappa)
    assert zappa.s3_bucket_name == f"hybrid-ci-cd-packages-staging-{deployed}"
    given = zappa.aws_environment_variables
    assert given["KMS_KEY_ID"] == "alias/hybrid-ci-cd-staging"
    assert given["LOG_BUCKET"] == f"hybrid-ci-cd-job-logs-staging-{deployed}"
    assert (given["STAGE"], given["LOG_LEVEL"]) == ("staging", "INFO")


def test_zappa_by_hand_stops_with_an_error_without_the_stack(aws: str) -> None:
    with pytest.raises(SystemExit, match=r"First: manage\.py infrastructure deploy --stage staging"):
        lambda_package.stack_use(_Zappa())
