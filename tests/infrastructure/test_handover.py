"""The function and Zappa use the stack's resources under the names that they get."""

import hashlib
from collections.abc import Iterator
from typing import Any

import pytest
import requests
from botocore.client import BaseClient
from django.core.files.base import ContentFile

from controlplane.deployment.function_settings import stack_use
from controlplane.infrastructure.clients import Account
from controlplane.infrastructure.errors import InfrastructureError
from controlplane.infrastructure.handover import function_settings, package_bucket_require
from controlplane.lib.data_keys import data_keys_forget
from controlplane.lib.envelope import decrypt, encrypt
from controlplane.lib.object_storage import ObjectStorage
from controlplane.lib.presigned import PART_LEAST, Part, Stored, checksum
from controlplane.lib.presigned_objects import PresignedObjects
from controlplane.lib.signing_keys import Purpose, signing_key, verify
from tests.conftest import services_forget
from tests.infrastructure.conftest import DEPLOYS, Body, infrastructure
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
    "ListObjectsV2": "ListBucket",
    "ListParts": "ListMultipartUploadParts",
    "PutObject": "PutObject",
    "UploadPart": "PutObject",
}


@pytest.fixture
def deployed(aws: str, settings: Any) -> Iterator[str]:
    """Deploys staging and gives this process the function's settings. The number of the account."""
    infrastructure("deploy", "--stage", "staging", "--yes")
    for name, value in function_settings("staging", "eu-central-1", aws).items():
        setattr(settings, name, value.split(",") if name == "SIGNING_KEY_IDS" else value)
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


@DEPLOYS
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
    assert named["ObjectIsThere"]["Action"] == "s3:ListBucket"
    assert {service for service, _ in calls} == {"kms", "s3"}


@DEPLOYS
def test_the_function_signs_with_the_stacks_key_and_its_role(
    deployed: str, calls: set[tuple[str, str]], staging: Body
) -> None:
    calls.clear()
    for purpose in Purpose:
        key = signing_key(purpose)
        verify(key.public_key, key.sign(b"data"), b"data")
    (allowed,) = (statement for statement in role_statements(staging) if statement.get("Sid") == "Sign")
    assert {f"{service}:{operation}" for service, operation in calls} == set(allowed["Action"])


@DEPLOYS
def test_artifacts_go_to_the_stacks_bucket_with_the_functions_role(
    deployed: str, calls: set[tuple[str, str]], settings: Any, staging: Body
) -> None:
    """The URLs are used with the rights of their signer, so these count, too."""
    artifacts = PresignedObjects(settings.ARTIFACT_BUCKET)
    content = [b"a" * PART_LEAST, b"b"]
    parts = [Part(len(data), hashlib.sha256(data).hexdigest()) for data in content]
    name = "keep-1/artifacts/a/b"
    calls.clear()
    artifacts.save_stream(f"{name}-files", [b"files"])
    upload = artifacts.upload_begin(name)
    for number, part in enumerate(parts, 1):
        link = artifacts.upload_link(name, upload, number, part, base="")
        assert requests.put(link.url, data=content[number - 1], headers=link.headers, timeout=30).status_code == 200
    assert artifacts.upload_numbers(name, upload) == {1, 2}
    assert artifacts.upload_finish(name, upload, Stored(PART_LEAST + 1, checksum(parts)))
    artifacts.upload_abort(name, artifacts.upload_begin(name))
    link = artifacts.download_link(f"{name}-files", seconds=60, base="")
    assert requests.get(link.url, timeout=30).content == b"files"
    assert list(artifacts.blocks(f"{name}-files", 0, 5)) == [b"files"]
    # Zips are made by hurried calls, and are found by their folder when an artifact is deleted.
    artifacts.hurried.save_stream("keep-1/zips/a/b", [b"zip"], content_type="application/zip")
    assert artifacts.names("keep-1/zips/a") == ["keep-1/zips/a/b"]
    artifacts.delete(f"{name}-files")

    named = {statement["Sid"]: statement for statement in role_statements(staging) if "Sid" in statement}
    used = {f"s3:{S3_ACTIONS[operation]}" for service, operation in calls if service == "s3"}
    assert used == {*named["Artifacts"]["Action"], named["ObjectIsThere"]["Action"]}


@DEPLOYS
def test_the_names_equal_the_outputs_of_the_stack(deployed: str) -> None:
    output = infrastructure("deploy", "--stage", "staging", "--yes")
    given = function_settings("staging", "eu-central-1", deployed)
    assert f"JobLogBucketName: {given['LOG_BUCKET']}\n" in output
    assert f"ArtifactBucketName: {given['ARTIFACT_BUCKET']}\n" in output
    assert f"PackageBucketName: {package_bucket_require('staging', Account('eu-central-1'))}\n" in output


def test_without_the_stack_the_error_names_the_missing_bucket_and_the_command(aws: str) -> None:
    with pytest.raises(
        InfrastructureError, match=f"no bucket hybrid-ci-cd-packages-staging-eu-central-1-{aws}.*--stage staging"
    ):
        package_bucket_require("staging", Account("eu-central-1"))


class _Zappa:
    """The part of Zappa's command line that the package's callback uses."""

    command = "update"
    api_stage = "staging"
    aws_region = "eu-central-1"
    s3_bucket_name = "zappa-random"

    def __init__(self) -> None:
        self.aws_environment_variables = {"STAGE": "staging"}
        self.updates: list[dict[str, Any]] = []
        # Zappa's clients are behind `zappa`.
        self.zappa = self.lambda_client = self

    def update_function_configuration(self, **arguments: Any) -> None:
        self.updates.append(arguments["Environment"]["Variables"])


@DEPLOYS
def test_zappa_gets_the_bucket_and_the_function_its_settings_without_a_person_copying_them(
    deployed: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LOG_LEVEL", "INFO")
    for name in ("ARTIFACT_BUCKET", "LOG_BUCKET", "KMS_KEY_ID", "SIGNING_KEY_IDS"):
        monkeypatch.delenv(name, raising=False)
    zappa = _Zappa()
    stack_use(zappa, Account("eu-central-1"))
    assert zappa.s3_bucket_name == f"hybrid-ci-cd-packages-staging-eu-central-1-{deployed}"
    given = zappa.aws_environment_variables
    assert given["KMS_KEY_ID"] == "alias/hybrid-ci-cd-staging"
    assert given["SIGNING_KEY_IDS"] == "alias/hybrid-ci-cd-staging-signing"
    assert given["LOG_BUCKET"] == f"hybrid-ci-cd-job-logs-staging-eu-central-1-{deployed}"
    assert given["ARTIFACT_BUCKET"] == f"hybrid-ci-cd-artifacts-staging-eu-central-1-{deployed}"
    assert (given["STAGE"], given["LOG_LEVEL"]) == ("staging", "INFO")
    # What an earlier version has put into the function's configuration goes.
    zappa.update_function_configuration(Environment={"Variables": {"SECRET_KEY": "x", "LOG_LEVEL": "INFO"}})
    assert zappa.updates == [{"LOG_LEVEL": "INFO"}]


def test_zappa_by_hand_stops_with_an_error_without_the_stack(aws: str) -> None:
    with pytest.raises(InfrastructureError, match=r"First: manage\.py infrastructure deploy --stage staging"):
        stack_use(_Zappa(), Account("eu-central-1"))
