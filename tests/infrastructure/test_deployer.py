"""The roles with which GitHub Actions deploys: whom they trust, what they allow, and that they allow enough."""

import json
import re
from fnmatch import fnmatchcase
from io import StringIO
from typing import Any

import boto3
import pytest
import yaml
from django.core.management import call_command

from controlplane.infrastructure.access import TABLE_ACCESS
from controlplane.infrastructure.deployer import deployer_template
from controlplane.infrastructure.stages import STAGES
from controlplane.infrastructure.template import stage_template
from tests.infrastructure.conftest import DEPLOYS, Body, infrastructure, of_type
from tests.infrastructure.handlers import ADMINISTRATORS, HANDLERS, ZAPPAS_HANDLERS

REPOSITORY = "acme@12/ci@34"
STACK = "hybrid-ci-cd-deployer"


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


def test_a_role_trusts_only_jobs_of_the_repository_in_its_environment(aws: str) -> None:
    outputs = deploy_deployers()
    deployers = [(f"{stage.title()}RoleArn", f"deployer-{stage}", stage) for stage in STAGES]
    rollbacks = [(f"{stage.title()}RollbackRoleArn", f"rollback-{stage}", f"{stage}-rollback") for stage in STAGES]
    for output, name, environment in deployers + rollbacks:
        assert outputs[output] == f"arn:aws:iam::{aws}:role/hybrid-ci-cd-{name}-eu-central-1"
        role = client("iam").get_role(RoleName=f"hybrid-ci-cd-{name}-eu-central-1")["Role"]
        trust = role["AssumeRolePolicyDocument"]
        (statement,) = (json.loads(trust) if isinstance(trust, str) else trust)["Statement"]
        provider = f"arn:aws:iam::{aws}:oidc-provider/token.actions.githubusercontent.com"
        assert statement["Principal"] == {"Federated": provider}
        assert statement["Action"] == "sts:AssumeRoleWithWebIdentity"
        assert statement["Condition"] == {
            "StringEquals": {
                "token.actions.githubusercontent.com:aud": "sts.amazonaws.com",
                "token.actions.githubusercontent.com:sub": f"repo:{REPOSITORY}:environment:{environment}",
            }
        }


@pytest.mark.parametrize("stage", list(STAGES))
def test_the_role_of_a_rollback_can_only_move_the_alias_of_its_stage(body: Body, stage: str) -> None:
    """Its environment needs no reviewer."""
    (statement,) = statements(body, f"Rollback{stage.title()}")
    assert set(statement["Action"]) == {"lambda:GetAlias", "lambda:ListVersionsByFunction", "lambda:UpdateAlias"}
    assert all(f"function:hybrid-ci-cd-{stage}" in resource["Fn::Sub"] for resource in statement["Resource"])


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
    assert "artifacts" not in json.dumps(objects)


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
        if {"iam:CreateRole", "iam:PutRolePolicy"} & set(listed(part["Action"])):
            assert part["Condition"] == limit
    actions = allowed_actions(parts)
    # An attached policy could be any of AWS's own.
    assert "iam:AttachRolePolicy" not in actions
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
def test_the_boundary_denies_to_change_the_trail_and_nothing_that_the_function_does(body: Body, stage: str) -> None:
    (denied,) = [part for part in boundary(body, stage) if part["Effect"] == "Deny"]
    assert {"dynamodb:DeleteItem", "dynamodb:UpdateItem"} <= {*denied["Action"]}
    tables = {arn["Fn::Sub"].rpartition("/")[2] for arn in listed(denied["Resource"])}
    assert tables == {f"hybrid-ci-cd-{name}-{stage}" for name in ("audit", "audit-seals")}
    for name in ("audit", "audit-seals"):
        assert TABLE_ACCESS[name].actions.isdisjoint({"BatchWriteItem", "DeleteItem", "UpdateItem"})


@pytest.mark.parametrize("stage", list(STAGES))
def test_policies_are_shorter_than_iams_limit(body: Body, stage: str) -> None:
    values = {"Partition": "aws-us-gov", "Region": "ap-northeast-1", "AccountId": "1" * 12}

    def resolved(part: Any) -> Any:
        """The part as IAM gets it, with the longest values that there are."""
        if isinstance(part, list):
            return [resolved(item) for item in part]
        if not isinstance(part, dict):
            return part
        if "Fn::Sub" in part:
            return re.sub(r"\$\{AWS::(\w+)\}", lambda found: values[found[1]], part["Fn::Sub"])
        if "Ref" in part:
            return "x" * 120
        return {name: resolved(item) for name, item in part.items()}

    def length(parts: list[Body]) -> int:
        return len(json.dumps({"Version": "2012-10-17", "Statement": resolved(parts)}, separators=(",", ":")))

    assert length(statements(body, f"Deployer{stage.title()}")) < 10_240
    assert length(boundary(body, stage)) < 6_144


def test_the_role_allows_what_cloudformation_calls_for_the_stack_but_not_what_only_administrators_do(
    body: Body,
) -> None:
    """`tests/zappa/test_deployment.py` records what the commands themselves call, and compares both ways."""
    allowed = allowed_actions(statements(body, "DeployerStaging"))
    wanted = frozenset[str]().union(*HANDLERS.values(), *ZAPPAS_HANDLERS.values())
    assert wanted - allowed == ADMINISTRATORS & wanted
    assert not ADMINISTRATORS & allowed


@pytest.mark.parametrize("stage", list(STAGES))
def test_a_deployer_is_denied_what_the_audit_trail_the_logs_and_the_key_rest_on(body: Body, stage: str) -> None:
    denied = {
        (action, json.dumps(part["Resource"]))
        for part in statements(body, f"Deployer{stage.title()}")
        if part["Effect"] == "Deny"
        for action in listed(part["Action"])
    }

    def is_denied(action: str, resource: str) -> bool:
        return any(fnmatchcase(action, name) and resource in where for name, where in denied)

    # The trail and its seals.
    audit = f"table/hybrid-ci-cd-audit*-{stage}"
    place = f"{stage}-${{AWS::Region}}-${{AWS::AccountId}}"
    buckets = [f"hybrid-ci-cd-{what}-{place}" for what in ("job-logs", "artifacts")]
    for action in ("UpdateTimeToLive", "UpdateContinuousBackups"):
        assert is_denied(f"dynamodb:{action}", audit)
    for action in ("DeleteTable", "PutResourcePolicy", "DeleteResourcePolicy", "DeleteBackup"):
        assert is_denied(f"dynamodb:{action}", f"table/hybrid-ci-cd-*-{stage}")
    for action in ("PutBucketPolicy", "DeleteBucketPolicy", "PutBucketVersioning", "PutLifecycleConfiguration"):
        assert all(is_denied(f"s3:{action}", f'{bucket}"') for bucket in buckets)
    for action in ("GetObject", "GetObjectVersion", "PutObject", "DeleteObject", "DeleteObjectVersion"):
        assert all(is_denied(f"s3:{action}", f"{bucket}/*") for bucket in buckets)
    for action in ("PutKeyPolicy", "DisableKey", "DisableKeyRotation", "ScheduleKeyDeletion"):
        assert is_denied(f"kms:{action}", "*")
    # Other tables come and go with the code, and each gets its TTL and its backups from a deployment.
    assert not is_denied("dynamodb:UpdateTimeToLive", f"table/hybrid-ci-cd-*-{stage}")


@DEPLOYS
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
    assert bounded() == f"arn:aws:iam::{aws}:policy/hybrid-ci-cd-function-boundary-staging-eu-central-1"


def test_the_command_prints_the_template_without_credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    output = StringIO()
    call_command("deployer", stdout=output)
    assert set(yaml.load(output.getvalue(), yaml.BaseLoader)["Parameters"]) == {"Repository", "ProviderArn"}
