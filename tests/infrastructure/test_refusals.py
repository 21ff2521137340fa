"""AWS's errors, and states that the emulator never reaches: tested with recorded responses."""

from collections.abc import Iterator
from typing import Any

import pytest
from botocore.exceptions import ClientError
from botocore.stub import ANY, Stubber
from django.core.management.base import CommandError

from controlplane.infrastructure import uploads
from controlplane.infrastructure.clients import Account
from controlplane.infrastructure.errors import InfrastructureError
from controlplane.infrastructure.stack import Stack
from controlplane.infrastructure.stages import STAGES
from tests.infrastructure.conftest import DEPLOYS, infrastructure

NAME = "hybrid-ci-cd-infrastructure-staging"
STACK_ID = f"arn:aws:cloudformation:eu-central-1:123456789012:stack/{NAME}/1"


@pytest.fixture
def stack(aws: str) -> Iterator[tuple[Stack, Stubber]]:
    """Staging's stack, and the stub of CloudFormation that it calls."""
    account = Account("eu-central-1")
    with Stubber(account.client("cloudformation")) as stubber:
        yield Stack(STAGES["staging"], account), stubber


def described(status: str) -> dict[str, Any]:
    return {"Stacks": [{"StackName": NAME, "StackId": STACK_ID, "StackStatus": status, "CreationTime": "2026-11-21"}]}


def test_without_credentials_the_error_says_how_to_get_some(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/nonexistent")
    monkeypatch.setenv("AWS_CONFIG_FILE", "/nonexistent")
    with pytest.raises(CommandError, match="No AWS credentials were found"):
        infrastructure("deploy", "--stage", "staging", "--yes")


def test_without_a_connection_the_error_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    with pytest.raises(CommandError, match="AWS cannot be reached"):
        infrastructure("diff", "--stage", "staging")


def test_a_missing_profile_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_PROFILE", "no-such-profile")
    with pytest.raises(CommandError, match="no-such-profile"):
        infrastructure("diff", "--stage", "staging")


def test_expired_credentials_are_reported(stack: tuple[Stack, Stubber]) -> None:
    staging, stubber = stack
    stubber.add_client_error("describe_stacks", "ExpiredToken", "The security token included in the request is expired")
    with pytest.raises(InfrastructureError, match=r"AWS refuses the credentials \(ExpiredToken\)"):
        staging.plan()


def test_a_missing_permission_is_named(stack: tuple[Stack, Stubber]) -> None:
    staging, stubber = stack
    message = "User: arn:aws:iam::123456789012:user/eve is not authorized to perform: cloudformation:DescribeStacks"
    stubber.add_client_error("describe_stacks", "AccessDenied", message, http_status_code=403)
    with pytest.raises(InfrastructureError, match="eve is not authorized to perform: cloudformation:DescribeStacks"):
        staging.plan()


@pytest.mark.parametrize(
    ("status", "said"),
    [
        ("UPDATE_IN_PROGRESS", "Another process is changing"),
        ("UPDATE_ROLLBACK_FAILED", "Look into CloudFormation's console"),
        ("ROLLBACK_COMPLETE", "Run `deploy` to start again"),
    ],
)
def test_a_stack_that_cannot_be_changed_is_left_alone(stack: tuple[Stack, Stubber], status: str, said: str) -> None:
    staging, stubber = stack
    stubber.add_response("describe_stacks", described(status), {"StackName": NAME})
    with pytest.raises(InfrastructureError, match=said):
        staging.plan()
    stubber.assert_no_pending_responses()


@DEPLOYS
def test_a_refused_template_leaves_nothing_and_the_error_has_the_reason(
    stack: tuple[Stack, Stubber],
) -> None:
    staging, stubber = stack
    absent = {
        "service_error_code": "ValidationError",
        "service_message": f"Stack with id {NAME} does not exist",
    }
    for _ in range(4):
        stubber.add_client_error("describe_stacks", **absent)
    stubber.add_response("create_change_set", {"Id": f"{STACK_ID}-change", "StackId": STACK_ID}, None)
    refused = {"Status": "FAILED", "StatusReason": "Template error: something is wrong"}
    stubber.add_response("describe_change_set", refused, {"ChangeSetName": f"{STACK_ID}-change", "StackName": NAME})
    stubber.add_response("delete_change_set", {}, {"ChangeSetName": f"{STACK_ID}-change", "StackName": NAME})
    stubber.add_response("describe_stacks", described("REVIEW_IN_PROGRESS"), {"StackName": NAME})
    stubber.add_response("delete_stack", {}, {"StackName": NAME})
    with pytest.raises(InfrastructureError, match="Template error: something is wrong"):
        staging.plan()
    stubber.assert_no_pending_responses()


def test_a_bucket_for_templates_of_another_account_is_not_used(aws: str) -> None:
    account = Account("eu-central-1")
    with Stubber(account.client("s3")) as stubber:
        asked = {"Bucket": ANY, "ExpectedBucketOwner": aws}
        stubber.add_client_error("head_bucket", "403", "Forbidden", 403, expected_params=asked)
        with pytest.raises(ClientError, match="Forbidden"):
            uploads.template_argument(account, " " * 60_000)
        stubber.assert_no_pending_responses()
