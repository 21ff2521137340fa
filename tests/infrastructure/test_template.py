"""The template agrees with the records and the stage's settings."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings

from controlplane.infrastructure.stages import STAGES
from controlplane.infrastructure.template import stage_template, template_body
from controlplane.lib import metric_names
from controlplane.nosql.connection import shared_connection
from controlplane.nosql.tables import record_tables
from tests.infrastructure.conftest import Body, infrastructure, of_type


def tables_by_name(body: Body) -> dict[str, Body]:
    return {table["TableName"]: table for table in of_type(body, "AWS::DynamoDB::Table").values()}


def as_sets(description: Body) -> Any:
    """The shape of a table in the template or in DynamoDB's description, without order."""

    def key(part: Body) -> list[tuple[str, str]]:
        return sorted((entry["KeyType"], entry["AttributeName"]) for entry in part["KeySchema"])

    indexes = {
        index["IndexName"]: (
            key(index),
            index["Projection"]["ProjectionType"],
            sorted(index["Projection"].get("NonKeyAttributes", ())),
        )
        for index in description.get("GlobalSecondaryIndexes") or ()
    }
    types = {entry["AttributeName"]: entry["AttributeType"] for entry in description["AttributeDefinitions"]}
    return key(description), types, indexes


def test_every_table_equals_the_one_that_its_records_create(stage_body: Body, emulator: str) -> None:
    client: Any = shared_connection().client
    stage = next(iter(tables_by_name(stage_body))).rpartition("-")[2]
    wanted, found = {}, {}
    for name in record_tables():
        ttl = client.describe_time_to_live(TableName=name)["TimeToLiveDescription"].get("AttributeName")
        name_there = f"{name.removesuffix(f'-{settings.STAGE}')}-{stage}"
        wanted[name_there] = (*as_sets(client.describe_table(TableName=name)["Table"]), ttl)
    for name, table in tables_by_name(stage_body).items():
        found[name] = (*as_sets(table), table.get("TimeToLiveSpecification", {}).get("AttributeName"))
    assert found == wanted


def test_every_table_is_retained_encrypted_and_restorable(stage_body: Body) -> None:
    for logical_id, table in of_type(stage_body, "AWS::DynamoDB::Table").items():
        resource = stage_body["Resources"][logical_id]
        assert (resource["DeletionPolicy"], resource["UpdateReplacePolicy"]) == ("Retain", "Retain")
        assert table["DeletionProtectionEnabled"] is True
        assert table["PointInTimeRecoverySpecification"] == {"PointInTimeRecoveryEnabled": True}
        sse = table["SSESpecification"]
        assert sse == {"SSEEnabled": True, "SSEType": "KMS", "KMSMasterKeyId": {"Fn::GetAtt": ["Key", "Arn"]}}


def test_staging_pays_per_request(staging: Body) -> None:
    for table in of_type(staging, "AWS::DynamoDB::Table").values():
        assert table["BillingMode"] == "PAY_PER_REQUEST"
        assert "ProvisionedThroughput" not in json.dumps(table)
    assert not of_type(staging, "AWS::ApplicationAutoScaling::ScalableTarget")


def test_production_starts_with_20_units_and_scales_every_table_and_index_both_ways(production: Body) -> None:
    wanted = set()
    for logical_id, table in of_type(production, "AWS::DynamoDB::Table").items():
        assert table["BillingMode"] == "PROVISIONED"
        for part, where in [
            (table, ""),
            *((index, index["IndexName"]) for index in table.get("GlobalSecondaryIndexes", ())),
        ]:
            assert part["ProvisionedThroughput"] == {"ReadCapacityUnits": 20, "WriteCapacityUnits": 20}
            for kind in ("Read", "Write"):
                dimension = f"dynamodb:{'index' if where else 'table'}:{kind}CapacityUnits"
                wanted.add((f"table/${{{logical_id}}}" + (f"/index/{where}" if where else ""), dimension))
    targets = of_type(production, "AWS::ApplicationAutoScaling::ScalableTarget")
    assert {(target["ResourceId"]["Fn::Sub"], target["ScalableDimension"]) for target in targets.values()} == wanted
    assert all((target["MinCapacity"], target["MaxCapacity"]) == (20, 400) for target in targets.values())
    policies = of_type(production, "AWS::ApplicationAutoScaling::ScalingPolicy").values()
    assert {policy["ScalingTargetId"]["Ref"] for policy in policies} == set(targets)
    for policy in policies:
        metric = policy["TargetTrackingScalingPolicyConfiguration"]["PredefinedMetricSpecification"]
        kind = "Read" if "Read" in targets[policy["ScalingTargetId"]["Ref"]]["ScalableDimension"] else "Write"
        assert metric == {"PredefinedMetricType": f"DynamoDB{kind}CapacityUtilization"}


@pytest.mark.parametrize(("stage", "days"), [("staging", 7), ("production", 30)])
def test_the_functions_log_has_the_stages_retention(stage: str, days: int) -> None:
    (group,) = of_type(stage_template(STAGES[stage]).to_dict(), "AWS::Logs::LogGroup").values()
    assert (group["LogGroupName"], group["RetentionInDays"]) == (f"/aws/lambda/hybrid-ci-cd-{stage}", days)


def statements(document: Body) -> list[Body]:
    found: list[Body] = document["Statement"]
    return found


def role_statements(body: Body) -> list[Body]:
    (policy,) = of_type(body, "AWS::IAM::Role")["FunctionRole"]["Policies"]
    return statements(policy["PolicyDocument"])


def actions_on(body: Body, logical_id: str) -> set[str]:
    arn = {"Fn::GetAtt": [logical_id, "Arn"]}
    return {
        action
        for statement in role_statements(body)
        if isinstance(statement["Resource"], list) and arn in statement["Resource"]
        for action in statement["Action"]
    }


def test_the_function_can_neither_change_nor_delete_audit_events(stage_body: Body) -> None:
    allowed = actions_on(stage_body, "AuditTable")
    assert "dynamodb:PutItem" in allowed
    assert allowed <= {"dynamodb:PutItem", "dynamodb:GetItem", "dynamodb:BatchGetItem", "dynamodb:Query"}


def test_the_function_has_permissions_on_every_table_and_no_wildcards(stage_body: Body) -> None:
    assert all(actions_on(stage_body, table) for table in of_type(stage_body, "AWS::DynamoDB::Table"))
    for statement in role_statements(stage_body):
        assert "*" not in json.dumps(statement["Action"])
        if statement["Resource"] == "*":
            # X-Ray supports no resource-level permissions.
            assert all(action.startswith("xray:") for action in statement["Action"])


def test_the_roles_policy_is_shorter_than_iams_limit(production: Body) -> None:
    (policy,) = of_type(production, "AWS::IAM::Role")["FunctionRole"]["Policies"]
    text = json.dumps(policy["PolicyDocument"], separators=(",", ":"))
    # An ARN is at most this much longer than its reference.
    references = text.count("Fn::")
    assert len(text) + 90 * references < 10_240


def test_only_the_operators_policy_allows_to_invoke_the_function(stage_body: Body) -> None:
    (operators,) = of_type(stage_body, "AWS::IAM::ManagedPolicy").values()
    (statement,) = statements(operators["PolicyDocument"])
    assert statement["Action"] == "lambda:InvokeFunction"
    assert operators["ManagedPolicyName"].startswith("hybrid-ci-cd-operators-")
    others = {name: resource for name, resource in stage_body["Resources"].items() if name != "OperatorsPolicy"}
    assert "lambda:Invoke" not in json.dumps(others)


def test_archived_logs_are_private_and_retained(stage_body: Body) -> None:
    bucket = of_type(stage_body, "AWS::S3::Bucket")["JobLogBucket"]
    assert bucket["VersioningConfiguration"] == {"Status": "Enabled"}
    (rule,) = bucket["BucketEncryption"]["ServerSideEncryptionConfiguration"]
    assert rule["ServerSideEncryptionByDefault"]["SSEAlgorithm"] == "aws:kms"
    assert not any("ExpirationInDays" in rule for rule in bucket["LifecycleConfiguration"]["Rules"])


def test_packages_expire_and_need_no_key_of_ours(stage_body: Body) -> None:
    bucket = of_type(stage_body, "AWS::S3::Bucket")["PackageBucket"]
    (rule,) = bucket["LifecycleConfiguration"]["Rules"]
    assert rule["ExpirationInDays"] == 90
    (encryption,) = bucket["BucketEncryption"]["ServerSideEncryptionConfiguration"]
    assert encryption["ServerSideEncryptionByDefault"] == {"SSEAlgorithm": "AES256"}


def test_every_bucket_is_retained_and_private_and_requires_tls(stage_body: Body) -> None:
    policies = of_type(stage_body, "AWS::S3::BucketPolicy").values()
    by_bucket = {policy["Bucket"]["Ref"]: statements(policy["PolicyDocument"]) for policy in policies}
    buckets = of_type(stage_body, "AWS::S3::Bucket")
    assert set(by_bucket) == set(buckets)
    for logical_id, bucket in buckets.items():
        assert set(bucket["PublicAccessBlockConfiguration"].values()) == {True}
        assert stage_body["Resources"][logical_id]["DeletionPolicy"] == "Retain"
        # Bucket names are globally unique.
        assert bucket["BucketName"]["Fn::Sub"].endswith("-${AWS::AccountId}")
        (statement,) = by_bucket[logical_id]
        assert (statement["Effect"], statement["Condition"]) == ("Deny", {"Bool": {"aws:SecureTransport": "false"}})


def test_the_key_rotates_and_outlives_the_stack_with_its_alias(stage_body: Body) -> None:
    (key,) = of_type(stage_body, "AWS::KMS::Key").values()
    assert key["EnableKeyRotation"] is True
    for name in ("Key", "KeyAlias"):
        assert stage_body["Resources"][name]["DeletionPolicy"] == "Retain"
    encrypted = [*of_type(stage_body, "AWS::DynamoDB::Table"), "JobLogBucket"]
    assert all(stage_body["Resources"][name]["DependsOn"] == "KeyAlias" for name in encrypted)


def test_using_the_key_directly_requires_an_iam_policy(stage_body: Body) -> None:
    (key,) = of_type(stage_body, "AWS::KMS::Key").values()
    for statement in statements(key["KeyPolicy"]):
        if statement["Principal"] == {"AWS": "*"}:
            assert set(statement["Condition"]["StringEquals"]) == {"kms:CallerAccount", "kms:ViaService"}


def test_all_alarms_go_to_the_topic_and_are_on_the_dashboard(stage_body: Body) -> None:
    alarms = of_type(stage_body, "AWS::CloudWatch::Alarm")
    (dashboard,) = of_type(stage_body, "AWS::CloudWatch::Dashboard").values()
    shown = json.loads(dashboard["DashboardBody"]["Fn::Sub"])["widgets"][0]["properties"]["alarms"]
    for alarm in alarms.values():
        assert alarm["AlarmActions"] == [{"Ref": "AlarmTopic"}]
        assert any(arn.endswith(f":{alarm['AlarmName']}") for arn in shown)
    assert len(shown) == len(alarms) == len({alarm["AlarmName"] for alarm in alarms.values()})


def test_each_failure_that_matters_has_an_alarm(stage_body: Body) -> None:
    watched = {
        (alarm["Namespace"], alarm["MetricName"]) for alarm in of_type(stage_body, "AWS::CloudWatch::Alarm").values()
    }
    assert watched == {
        ("AWS/Lambda", "Errors"),
        ("AWS/Lambda", "Throttles"),
        ("AWS/Lambda", "Duration"),
        ("AWS/ApiGateway", "5xx"),
        ("AWS/DynamoDB", "ReadThrottleEvents"),
        ("AWS/DynamoDB", "WriteThrottleEvents"),
        (metric_names.NAMESPACE, metric_names.AGENTS_DEAD),
        (metric_names.NAMESPACE, metric_names.OLDEST_WAIT),
    }


def test_every_table_and_every_index_has_a_throttling_alarm(stage_body: Body) -> None:
    watched = {
        tuple(dimension["Value"] for dimension in alarm["Dimensions"])
        for alarm in of_type(stage_body, "AWS::CloudWatch::Alarm").values()
        if alarm["MetricName"] == "WriteThrottleEvents"
    }
    wanted: set[tuple[str, ...]] = set()
    for name, table in tables_by_name(stage_body).items():
        wanted |= {(name,), *((name, index["IndexName"]) for index in table.get("GlobalSecondaryIndexes", ()))}
    assert watched == wanted


@pytest.mark.parametrize("stage", ["staging", "production"])
def test_the_template_passes_cfn_lint(stage: str, tmp_path: Path) -> None:
    file = tmp_path / "template.json"
    file.write_text(template_body(stage_template(STAGES[stage], account="123456789012")))
    program = Path(sys.executable).parent / "cfn-lint"
    checked = subprocess.run([program, file], capture_output=True, text=True, timeout=60, check=False)
    assert (checked.returncode, checked.stdout) == (0, "")


@pytest.mark.parametrize("stage", ["staging", "production"])
def test_zappas_settings_agree_with_the_stage(stage: str) -> None:
    zappa = json.loads((settings.BASE_DIR / "zappa_settings.json").read_text())[stage]
    assert zappa["memory_size"] == STAGES[stage].memory_mb
    assert zappa.get("lambda_concurrency") == STAGES[stage].reserved_concurrency
    role = of_type(stage_template(STAGES[stage]).to_dict(), "AWS::IAM::Role")["FunctionRole"]
    assert zappa["role_name"] == role["RoleName"]


def test_show_prints_the_template_without_credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    shown = json.loads(infrastructure("show", "--stage", "staging", "--format", "json"))
    assert shown == stage_template(STAGES["staging"]).to_dict()
    assert "TableName: hybrid-ci-cd-jobs-staging" in infrastructure("show", "--stage", "staging")
