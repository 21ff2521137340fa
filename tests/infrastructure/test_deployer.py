"""The roles with which GitHub Actions deploys: whom they trust, what they allow, and that they allow enough."""

import json
import re
import subprocess
import sys
from fnmatch import fnmatchcase
from io import StringIO
from pathlib import Path
from typing import Any

import boto3
import pytest
import yaml
from botocore import client as botocore_client
from django.core.management import call_command

from controlplane.infrastructure.deployer import deployer_template
from controlplane.infrastructure.stages import STAGES
from controlplane.infrastructure.template import stage_template
from tests.infrastructure.conftest import Body, infrastructure, of_type

REPOSITORY = "acme@12/ci@34"
STACK = "hybrid-ci-cd-deployer"
# The IAM actions whose name differs from that of the call.
ACTIONS = {
    "s3:HeadBucket": "s3:ListBucket",
    "s3:PutPublicAccessBlock": "s3:PutBucketPublicAccessBlock",
    "s3:PutBucketLifecycleConfiguration": "s3:PutLifecycleConfiguration",
    "apigateway:GetApis": "apigateway:GET",
}


@pytest.fixture(scope="module")
def body() -> Body:
    written: Body = deployer_template().to_dict()
    return written


def statements(body: Body, role: str) -> list[Body]:
    (policy,) = of_type(body, "AWS::IAM::Role")[role]["Policies"]
    found: list[Body] = policy["PolicyDocument"]["Statement"]
    return found


def boundary(body: Body, stage: str) -> list[Body]:
    document = of_type(body, "AWS::IAM::ManagedPolicy")[f"FunctionBoundary{stage.title()}"]["PolicyDocument"]
    found: list[Body] = document["Statement"]
    return found


def listed(part: Any) -> list[Any]:
    return part if isinstance(part, list) else [part]


def allowed_actions(parts: list[Body]) -> set[str]:
    return {action for part in parts if part["Effect"] == "Allow" for action in listed(part["Action"])}


def client(service: str) -> Any:
    return boto3.Session(region_name="eu-central-1").client(service)


def deploy_deployers() -> dict[str, str]:
    """Create the stack in an account that has GitHub's identity provider already. Returns its outputs.

    The emulator's CloudFormation cannot create identity providers.
    """
    provider = client("iam").create_open_id_connect_provider(
        Url="https://token.actions.githubusercontent.com", ClientIDList=["sts.amazonaws.com"]
    )["OpenIDConnectProviderArn"]
    output = StringIO()
    call_command("deployer", stdout=output)
    cloudformation = client("cloudformation")
    cloudformation.create_stack(
        StackName=STACK,
        TemplateBody=output.getvalue(),
        Capabilities=["CAPABILITY_NAMED_IAM"],
        Parameters=[
            {"ParameterKey": name, "ParameterValue": value}
            for name, value in {"Repository": REPOSITORY, "ProviderArn": provider}.items()
        ],
    )
    cloudformation.get_waiter("stack_create_complete").wait(StackName=STACK, WaiterConfig={"Delay": 1})
    (found,) = cloudformation.describe_stacks(StackName=STACK)["Stacks"]
    return {entry["OutputKey"]: entry["OutputValue"] for entry in found["Outputs"]}


def test_the_template_passes_cfn_lint_with_all_its_actions(tmp_path: Path) -> None:
    file = tmp_path / "template.json"
    file.write_text(deployer_template().to_json())
    program = Path(sys.executable).parent / "cfn-lint"
    checked = subprocess.run([program, file], capture_output=True, text=True, timeout=60, check=False)
    assert (checked.returncode, checked.stdout) == (0, "")


def test_a_role_trusts_only_jobs_of_the_repository_in_the_environment_of_its_stage(aws: str) -> None:
    outputs = deploy_deployers()
    for stage in ("staging", "production"):
        assert outputs[f"{stage.title()}RoleArn"] == f"arn:aws:iam::{aws}:role/hybrid-ci-cd-deployer-{stage}"
        role = client("iam").get_role(RoleName=f"hybrid-ci-cd-deployer-{stage}")["Role"]
        trust = role["AssumeRolePolicyDocument"]
        (statement,) = (json.loads(trust) if isinstance(trust, str) else trust)["Statement"]
        provider = f"arn:aws:iam::{aws}:oidc-provider/token.actions.githubusercontent.com"
        assert statement["Principal"] == {"Federated": provider}
        assert statement["Action"] == "sts:AssumeRoleWithWebIdentity"
        assert statement["Condition"] == {
            "StringEquals": {
                "token.actions.githubusercontent.com:aud": "sts.amazonaws.com",
                "token.actions.githubusercontent.com:sub": f"repo:{REPOSITORY}:environment:{stage}",
            }
        }


def test_the_provider_is_created_only_if_the_account_has_none_and_is_retained(body: Body) -> None:
    provider = body["Resources"]["Provider"]
    assert body["Conditions"][provider["Condition"]] == {"Fn::Equals": [{"Ref": "ProviderArn"}, ""]}
    assert provider["DeletionPolicy"] == "Retain"
    assert provider["Properties"] == {
        "Url": "https://token.actions.githubusercontent.com",
        "ClientIdList": ["sts.amazonaws.com"],
    }


@pytest.mark.parametrize("name", ["acme/*", "*", "acme", "acme/ci:ref:refs/heads/x", "acme/ci/more", "acme@x/ci"])
def test_a_repository_is_named_exactly(body: Body, name: str) -> None:
    pattern = body["Parameters"]["Repository"]["AllowedPattern"]
    assert not re.search(pattern, name)
    assert re.search(pattern, "acme/ci")
    assert re.search(pattern, REPOSITORY)


@pytest.mark.parametrize("stage", list(STAGES))
def test_a_deployer_deletes_no_table_and_reads_neither_items_nor_logs_of_jobs(body: Body, stage: str) -> None:
    actions = allowed_actions(statements(body, f"Deployer{stage.title()}"))
    assert not {action for action in actions if action.endswith(":*") or action == "*"}
    assert "dynamodb:CreateTable" in actions
    assert not {"dynamodb:DeleteTable", "dynamodb:GetItem", "dynamodb:Query", "dynamodb:Scan"} & actions
    assert not {"kms:Decrypt", "kms:ScheduleKeyDeletion", "logs:GetLogEvents", "s3:DeleteBucket"} & actions
    objects = [part for part in statements(body, f"Deployer{stage.title()}") if "s3:GetObject" in part["Action"]]
    assert "job-logs" not in json.dumps(objects)


@pytest.mark.parametrize(("stage", "other"), [("staging", "production"), ("production", "staging")])
def test_a_deployer_has_no_access_to_the_other_stage(body: Body, stage: str, other: str) -> None:
    assert stage in json.dumps(statements(body, f"Deployer{stage.title()}"))
    assert other not in json.dumps(statements(body, f"Deployer{stage.title()}"))
    assert other not in json.dumps(boundary(body, stage))


@pytest.mark.parametrize("stage", list(STAGES))
def test_a_deployer_creates_the_functions_role_only_with_its_boundary_and_can_change_no_boundary(
    body: Body, stage: str
) -> None:
    limit = {"StringEquals": {"iam:PermissionsBoundary": {"Ref": f"FunctionBoundary{stage.title()}"}}}
    parts = statements(body, f"Deployer{stage.title()}")
    for part in parts:
        if {"iam:CreateRole", "iam:PutRolePolicy", "iam:AttachRolePolicy"} & set(listed(part["Action"])):
            assert part["Condition"] == limit
    actions = allowed_actions(parts)
    # A new version of the operators' policy would apply to operators at once.
    assert not {"iam:CreatePolicyVersion", "iam:SetDefaultPolicyVersion", "iam:DeleteRolePermissionsBoundary"} & actions
    (passing,) = (part for part in parts if "iam:PassRole" in part["Action"])
    assert passing["Condition"] == {"StringEquals": {"iam:PassedToService": "lambda.amazonaws.com"}}


@pytest.mark.parametrize("stage", list(STAGES))
def test_the_boundary_includes_what_the_functions_role_allows(body: Body, stage: str) -> None:
    template = stage_template(STAGES[stage]).to_dict()
    (policy,) = of_type(template, "AWS::IAM::Role")["FunctionRole"]["Policies"]
    assert allowed_actions(policy["PolicyDocument"]["Statement"]) <= allowed_actions(boundary(body, stage))
    for table in of_type(template, "AWS::DynamoDB::Table").values():
        assert fnmatchcase(table["TableName"], f"hybrid-ci-cd-*-{stage}")


@pytest.mark.parametrize("stage", list(STAGES))
def test_policies_are_shorter_than_iams_limit(body: Body, stage: str) -> None:
    def length(parts: list[Body]) -> int:
        text = json.dumps(parts, separators=(",", ":"))
        # The account's number and the longest region are at most this much longer than their placeholders.
        return len(text) + 2 * text.count("${")

    assert length(statements(body, f"Deployer{stage.title()}")) < 10_240
    assert length(boundary(body, stage)) < 6_144


def test_the_deployer_may_perform_every_call_of_a_deployment(
    aws: str, body: Body, monkeypatch: pytest.MonkeyPatch
) -> None:
    called: set[str] = set()
    real = botocore_client.BaseClient._make_api_call

    def recorded(self: Any, operation: str, arguments: Any) -> Any:
        service = self.meta.service_model.service_name
        called.add(f"{'apigateway' if service == 'apigatewayv2' else service}:{operation}")
        return real(self, operation, arguments)

    deploy_deployers()
    monkeypatch.setattr(botocore_client.BaseClient, "_make_api_call", recorded)
    infrastructure("deploy", "--stage", "staging", "--yes")
    infrastructure("deploy", "--stage", "staging", "--yes", "--email", "ops@example.com")
    assert "cloudformation:ExecuteChangeSet" in called
    actions = allowed_actions(statements(body, "DeployerStaging"))
    # Every principal may call this.
    wanted = {ACTIONS.get(call, call) for call in called} - {"sts:GetCallerIdentity"}
    missing = {call for call in wanted if not any(fnmatchcase(call, action) for action in actions)}
    assert not missing


def test_the_stack_sets_the_boundary_of_the_functions_role_once_it_exists(aws: str) -> None:
    def bounded() -> str | None:
        # The emulator accepts the boundary in the template, but does not apply it to the role.
        name = "hybrid-ci-cd-infrastructure-staging"
        template = client("cloudformation").get_template(StackName=name)["TemplateBody"]
        found: str | None = template["Resources"]["FunctionRole"]["Properties"].get("PermissionsBoundary")
        return found

    infrastructure("deploy", "--stage", "staging", "--yes")
    assert bounded() is None
    deploy_deployers()
    infrastructure("deploy", "--stage", "staging", "--yes")
    assert bounded() == f"arn:aws:iam::{aws}:policy/hybrid-ci-cd-function-boundary-staging"


def test_the_command_prints_the_template_without_credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    output = StringIO()
    call_command("deployer", stdout=output)
    assert set(yaml.load(output.getvalue(), yaml.BaseLoader)["Parameters"]) == {"Repository", "ProviderArn"}
