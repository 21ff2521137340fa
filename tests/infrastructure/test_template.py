"""The template agrees with the records and the stage's settings."""

import json
import re
import subprocess
import sys
from dataclasses import replace
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings

from apps.jobs.services.artifacts import zips_folder
from apps.secrets.rotation.targets.aws import ROLE_PREFIX
from controlplane.infrastructure.access import TABLE_ACCESS
from controlplane.infrastructure.deployer import deployer_template
from controlplane.infrastructure.names import Place
from controlplane.infrastructure.schema import table_schemas
from controlplane.infrastructure.stages import ON_DEMAND, PROVISIONED, STAGES, Stage
from controlplane.infrastructure.template import stage_template, template_body
from controlplane.lib import metric_names
from controlplane.lib.presigned import UPLOAD_DAYS, kept_folder
from controlplane.nosql.connection import shared_connection
from controlplane.nosql.tables import record_tables
from tests.infrastructure.conftest import Body, infrastructure, of_type


def tables_by_name(body: Body) -> dict[str, Body]:
    return {table["TableName"]: table for table in of_type(body, "AWS::DynamoDB::Table").values()}


def test_the_outputs_name_the_api_the_function_and_the_tables(stage_body: Body) -> None:
    outputs, stage = stage_body["Outputs"], stage_body["Description"].split()[1].rstrip(":")
    assert outputs["FunctionName"]["Value"] == f"hybrid-ci-cd-{stage}"
    assert outputs["ApiEndpoint"]["Value"]["Fn::Sub"].endswith(f".${{AWS::URLSuffix}}/{stage}")
    assert outputs["ApiEndpoint"]["Condition"] in stage_body["Conditions"]
    named = {outputs[name]["Value"]["Ref"] for name in outputs if name.endswith("TableName")}
    assert {"SessionsTable", "JobsTable", "AgentsTable"} < named
    assert named == {name for name in stage_body["Resources"] if name.endswith("Table")}


def test_the_agreed_indexes_have_their_names(staging: Body) -> None:
    indexes = {
        name: {index["IndexName"] for index in table["Properties"].get("GlobalSecondaryIndexes", ())}
        for name, table in staging["Resources"].items()
        if name.endswith("Table")
    }
    assert "user_id-created_at-index" in indexes["SessionsTable"]
    assert "region-index" in indexes["AgentsTable"]


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


def test_an_on_demand_stage_pays_per_request(staging: Body) -> None:
    on_demand = stage_template(replace(STAGES["production"], billing=ON_DEMAND)).to_dict()
    for body in (staging, on_demand):
        for table in of_type(body, "AWS::DynamoDB::Table").values():
            assert table["BillingMode"] == "PAY_PER_REQUEST"
            assert "ProvisionedThroughput" not in json.dumps(table)
        assert not of_type(body, "AWS::ApplicationAutoScaling::ScalableTarget")


def test_a_provisioned_stage_gives_agents_jobs_and_sessions_20_units_that_scale_and_the_rest_pays_per_request(
    production: Body,
) -> None:
    assert stage_template(replace(STAGES["staging"], billing=PROVISIONED)).to_dict()["Resources"].keys() == (
        production["Resources"].keys()
    )
    wanted = set()
    for logical_id, table in of_type(production, "AWS::DynamoDB::Table").items():
        if logical_id not in ("AgentsTable", "JobsTable", "SessionsTable"):
            assert table["BillingMode"] == "PAY_PER_REQUEST"
            assert "ProvisionedThroughput" not in json.dumps(table)
            continue
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
def test_the_logs_of_function_and_gateway_have_the_stages_retention(stage: str, days: int) -> None:
    groups = of_type(stage_template(STAGES[stage]).to_dict(), "AWS::Logs::LogGroup").values()
    assert {group["LogGroupName"]: group["RetentionInDays"] for group in groups} == {
        f"/aws/lambda/hybrid-ci-cd-{stage}": days,
        f"/aws/vendedlogs/apis/hybrid-ci-cd-{stage}": days,
    }


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
        if statement["Effect"] == "Allow" and isinstance(statement["Resource"], list) and arn in statement["Resource"]
        for action in statement["Action"]
    }


@pytest.mark.parametrize("table", ["AuditTable", "AuditSealsTable"])
def test_the_function_can_neither_change_nor_delete_audit_events_and_seals(stage_body: Body, table: str) -> None:
    allowed = actions_on(stage_body, table)
    assert "dynamodb:PutItem" in allowed
    assert allowed <= {"dynamodb:PutItem", "dynamodb:GetItem", "dynamodb:BatchGetItem", "dynamodb:Query"}
    (denied,) = [part for part in role_statements(stage_body) if part.get("Sid") == "TrailStays"]
    assert denied["Effect"] == "Deny"
    assert {"Fn::GetAtt": [table, "Arn"]} in denied["Resource"]
    assert {"dynamodb:DeleteItem", "dynamodb:UpdateItem"} <= {*denied["Action"]}


def test_the_function_cannot_delete_copies_of_seals(stage_body: Body) -> None:
    (statement,) = [part for part in role_statements(stage_body) if part.get("Sid") == "SealsStay"]
    assert (statement["Effect"], statement["Action"]) == ("Deny", ["s3:DeleteObject", "s3:DeleteObjectVersion"])
    assert statement["Resource"] == {"Fn::Sub": "${JobLogBucket.Arn}/audit-seals/*"}


def test_the_function_has_permissions_on_every_table_and_no_wildcards(stage_body: Body) -> None:
    assert all(actions_on(stage_body, table) for table in of_type(stage_body, "AWS::DynamoDB::Table"))
    for statement in role_statements(stage_body):
        assert "*" not in json.dumps(statement["Action"])
        if statement["Resource"] == "*":
            # These support no resource-level permissions. Each secret of the batch needs GetSecretValue, too.
            batch = "secretsmanager:BatchGetSecretValue"
            assert all(action == batch or action.startswith("xray:") for action in statement["Action"])


def test_the_function_queries_the_indexes_of_its_access_and_no_others(stage_body: Body) -> None:
    (statement,) = [part for part in role_statements(stage_body) if part.get("Sid") == "Indexes"]
    assert statement["Action"] == "dynamodb:Query"
    pattern = statement["Resource"]["Fn::Sub"]
    tables = of_type(stage_body, "AWS::DynamoDB::Table")
    indexes = {
        (schema.name, index.name): "arn:${AWS::Partition}:dynamodb:${AWS::Region}:${AWS::AccountId}:table/"
        f"{tables[schema.logical_id]['TableName']}/index/{index.name}"
        for schema in table_schemas()
        for index in schema.indexes
    }
    allowed = {one for one, arn in indexes.items() if fnmatchcase(arn, pattern)}
    assert allowed == {(name, index) for name, access in TABLE_ACCESS.items() for index in access.indexes}


def test_the_function_reads_the_secrets_of_its_own_stage_only(stage_body: Body) -> None:
    (statement,) = [part for part in role_statements(stage_body) if part.get("Sid") == "Secrets"]
    assert statement["Action"] == ["secretsmanager:GetSecretValue", "ssm:GetParameters"]
    stage = stage_body["Resources"]["FunctionRole"]["Properties"]["RoleName"]["Fn::Sub"].split("-")[4]
    for resource in statement["Resource"]:
        assert resource["Fn::Sub"].endswith(f"hybrid-ci-cd/{stage}/*")


def test_the_roles_policy_is_shorter_than_iams_limit(production: Body) -> None:
    (policy,) = of_type(production, "AWS::IAM::Role")["FunctionRole"]["Policies"]
    values = {"AWS::Partition": "aws-us-gov", "AWS::Region": "ap-northeast-1", "AWS::AccountId": "1" * 12}

    def arn(logical_id: str) -> str:
        """The longest that it can be. What has no name in the template has one that CloudFormation makes."""
        properties = production["Resources"][logical_id].get("Properties", {})
        name = str(properties.get("TableName", "x" * 90))
        return f"arn:aws-us-gov:dynamodb:ap-northeast-1:{'1' * 12}:table/{name}"

    def resolved(part: Any) -> Any:
        """The part as IAM gets it."""
        if isinstance(part, list):
            return [resolved(item) for item in part]
        if not isinstance(part, dict):
            return part
        if "Fn::GetAtt" in part:
            return arn(part["Fn::GetAtt"][0])
        if "Fn::Sub" in part:
            return re.sub(r"\$\{([\w:]+)(\.Arn)?\}", lambda one: values.get(one[1]) or arn(one[1]), part["Fn::Sub"])
        return {name: resolved(item) for name, item in part.items()}

    text = json.dumps(resolved(policy["PolicyDocument"]), separators=(",", ":"))
    assert "Fn::" not in text
    assert len(text) < 10_240


def test_the_function_assumes_only_roles_for_rotations(stage_body: Body) -> None:
    role = stage_body["Resources"]["FunctionRole"]["Properties"]
    statements = role["Policies"][0]["PolicyDocument"]["Statement"]
    (statement,) = (one for one in statements if "sts:AssumeRole" in one["Action"])
    assert statement["Resource"] == {"Fn::Sub": f"arn:${{AWS::Partition}}:iam::*:role/{ROLE_PREFIX}*"}


def test_only_the_operators_policy_allows_to_invoke_the_function(stage_body: Body) -> None:
    (operators,) = of_type(stage_body, "AWS::IAM::ManagedPolicy").values()
    (statement,) = statements(operators["PolicyDocument"])
    assert statement["Action"] == "lambda:InvokeFunction"
    assert operators["ManagedPolicyName"]["Fn::Sub"].startswith("hybrid-ci-cd-operators-")
    others = {name: resource for name, resource in stage_body["Resources"].items() if name != "OperatorsPolicy"}
    assert "lambda:Invoke" not in json.dumps(others)


def test_archived_logs_are_private_and_retained(stage_body: Body) -> None:
    bucket = of_type(stage_body, "AWS::S3::Bucket")["JobLogBucket"]
    assert bucket["VersioningConfiguration"] == {"Status": "Enabled"}
    (rule,) = bucket["BucketEncryption"]["ServerSideEncryptionConfiguration"]
    assert rule["ServerSideEncryptionByDefault"]["SSEAlgorithm"] == "aws:kms"
    assert not any("ExpirationInDays" in rule for rule in bucket["LifecycleConfiguration"]["Rules"])


def test_artifacts_are_encrypted_and_deleted_when_the_days_of_their_folder_are_over(stage_body: Body) -> None:
    bucket = of_type(stage_body, "AWS::S3::Bucket")["ArtifactBucket"]
    (encryption,) = bucket["BucketEncryption"]["ServerSideEncryptionConfiguration"]
    assert encryption["ServerSideEncryptionByDefault"]["SSEAlgorithm"] == "aws:kms"
    # No version of before stays.
    assert "VersioningConfiguration" not in bucket
    *expiring, leftovers = bucket["LifecycleConfiguration"]["Rules"]
    days = {rule["Prefix"]: rule["ExpirationInDays"] for rule in expiring}
    asked = (3600, 86_400, 5 * 86_400, 30 * 86_400, 90 * 86_400)
    for seconds in asked:
        # From the beginning of the upload on.
        assert days[f"{kept_folder(seconds)}/"] >= seconds / 86_400 + UPLOAD_DAYS
    assert days["keep-1/"] == 1 + UPLOAD_DAYS
    assert zips_folder("run").startswith("keep-1/")
    assert len(days) == len(expiring) == 6
    assert leftovers["AbortIncompleteMultipartUpload"] == {"DaysAfterInitiation": UPLOAD_DAYS}


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
    assert of_type(stage_body, "AWS::KMS::Key")["Key"]["EnableKeyRotation"] is True
    for name in ("Key", "KeyAlias"):
        assert stage_body["Resources"][name]["DeletionPolicy"] == "Retain"
    encrypted = [*of_type(stage_body, "AWS::DynamoDB::Table"), "ArtifactBucket", "JobLogBucket"]
    assert all(stage_body["Resources"][name]["DependsOn"] == "KeyAlias" for name in encrypted)


def test_using_the_key_directly_requires_an_iam_policy(stage_body: Body) -> None:
    for key in of_type(stage_body, "AWS::KMS::Key").values():
        for statement in statements(key["KeyPolicy"]):
            if statement["Principal"] == {"AWS": "*"}:
                assert set(statement["Condition"]["StringEquals"]) == {"kms:CallerAccount", "kms:ViaService"}


def test_the_key_that_signs_outlives_the_stack_and_no_service_has_a_right_to_it(stage_body: Body) -> None:
    key = of_type(stage_body, "AWS::KMS::Key")["SigningKey"]
    assert (key["KeySpec"], key["KeyUsage"]) == ("RSA_2048", "SIGN_VERIFY")
    # KMS refuses it for such keys.
    assert "EnableKeyRotation" not in key
    (statement,) = statements(key["KeyPolicy"])
    assert statement["Principal"]["AWS"]["Fn::Sub"].endswith(":root")
    stage = stage_body["Description"].split()[1].rstrip(":")
    alias = of_type(stage_body, "AWS::KMS::Alias")["SigningKeyAlias"]
    assert alias == {"AliasName": f"alias/hybrid-ci-cd-{stage}-signing", "TargetKeyId": {"Ref": "SigningKey"}}
    for name in ("SigningKey", "SigningKeyAlias"):
        resource = stage_body["Resources"][name]
        assert (resource["DeletionPolicy"], resource["UpdateReplacePolicy"]) == ("Retain", "Retain")


def test_the_function_signs_only_with_keys_of_its_stage_that_sign(stage_body: Body) -> None:
    stage = stage_body["Description"].split()[1].rstrip(":")
    (allowed,) = (part for part in role_statements(stage_body) if "kms:Sign" in part["Action"])
    assert allowed["Action"] == ["kms:GetPublicKey", "kms:Sign"]
    alias = f"alias/hybrid-ci-cd-{stage}-signing"
    assert allowed["Condition"] == {"ForAnyValue:StringLike": {"kms:ResourceAliases": [alias, f"{alias}-*"]}}


def test_all_alarms_go_to_the_topic_and_are_on_the_dashboard(stage_body: Body) -> None:
    alarms = of_type(stage_body, "AWS::CloudWatch::Alarm")
    (dashboard,) = of_type(stage_body, "AWS::CloudWatch::Dashboard").values()
    shown = json.loads(dashboard["DashboardBody"]["Fn::Sub"])["widgets"][0]["properties"]["alarms"]
    for alarm in alarms.values():
        assert alarm["AlarmActions"] == [{"Ref": "AlarmTopic"}]
        assert any(arn.endswith(f":{alarm['AlarmName']}") for arn in shown)
    assert len(shown) == len(alarms) == len({alarm["AlarmName"] for alarm in alarms.values()})


def alarms(body: Body) -> dict[str, Body]:
    """The alarms by the end of their names."""
    return {alarm["AlarmName"].split("-", 4)[4]: alarm for alarm in of_type(body, "AWS::CloudWatch::Alarm").values()}


def test_each_failure_that_matters_has_an_alarm_and_all_but_one_are_free(stage_body: Body) -> None:
    found = {name: (alarm["Namespace"], alarm["MetricName"]) for name, alarm in alarms(stage_body).items()}
    concurrency = found.pop("concurrency")
    assert concurrency in {("AWS/Lambda", "ConcurrentExecutions"), ("AWS/Lambda", "ClaimedAccountConcurrency")}
    assert found == {
        "function-errors": ("AWS/Lambda", "Errors"),
        "function-throttles": ("AWS/Lambda", "Throttles"),
        "function-duration": ("AWS/Lambda", "Duration"),
        "api-server-errors": ("AWS/ApiGateway", "5xx"),
        "database-throttles": (metric_names.NAMESPACE, metric_names.DYNAMODB_THROTTLES),
        "agents-dead": (metric_names.NAMESPACE, metric_names.AGENTS_DEAD),
        "jobs-waiting": (metric_names.NAMESPACE, metric_names.OLDEST_WAIT),
        "sweep-stopped": (metric_names.NAMESPACE, metric_names.QUEUE_DEPTH),
        "schedules-failed": ("AWS/SQS", "ApproximateNumberOfMessagesVisible"),
        "rotations": (metric_names.NAMESPACE, metric_names.ROTATIONS_ALARMING),
    }
    # A metric of an expression would be billed as an alarm.
    assert not any("Metrics" in alarm for alarm in alarms(stage_body).values())


def test_a_sweep_that_stops_rings(stage_body: Body) -> None:
    alarm = alarms(stage_body)["sweep-stopped"]
    assert (alarm["Statistic"], alarm["ComparisonOperator"], alarm["Threshold"]) == (
        "SampleCount",
        "LessThanThreshold",
        1,
    )
    assert (alarm["Period"], alarm["EvaluationPeriods"], alarm["TreatMissingData"]) == (60, 5, "breaching")
    silent = {name for name, other in alarms(stage_body).items() if other["TreatMissingData"] == "notBreaching"}
    assert silent == alarms(stage_body).keys() - {"sweep-stopped"}


def test_an_alarm_rings_at_80_per_cent_of_the_reserved_or_of_the_accounts_concurrency() -> None:
    def alarm(stage: Stage) -> Body:
        return alarms(stage_template(stage).to_dict())["concurrency"]

    production = STAGES["production"]
    reserved = alarm(production)
    assert (reserved["MetricName"], reserved["Threshold"]) == ("ConcurrentExecutions", 80)
    assert reserved["Dimensions"] == [{"Name": "FunctionName", "Value": "hybrid-ci-cd-production"}]
    shared = alarm(replace(production, reserved_concurrency=None, account_concurrency=10))
    assert (shared["MetricName"], shared["Threshold"], shared.get("Dimensions", [])) == (
        "ClaimedAccountConcurrency",
        8,
        [],
    )


def test_the_dashboard_names_every_table_and_index_in_full(stage_body: Body) -> None:
    (dashboard,) = of_type(stage_body, "AWS::CloudWatch::Dashboard").values()
    widgets = json.loads(dashboard["DashboardBody"]["Fn::Sub"])["widgets"]
    assert "SEARCH" not in dashboard["DashboardBody"]["Fn::Sub"]
    wanted: set[tuple[str, ...]] = set()
    for name, table in tables_by_name(stage_body).items():
        wanted |= {(name,), *((name, index["IndexName"]) for index in table.get("GlobalSecondaryIndexes", ()))}
    for metric in (
        "ConsumedReadCapacityUnits",
        "ConsumedWriteCapacityUnits",
        "ReadThrottleEvents",
        "WriteThrottleEvents",
    ):
        lines = [
            line
            for widget in widgets
            for line in widget["properties"].get("metrics", ())
            if line[:2] == ["AWS/DynamoDB", metric]
        ]
        assert {tuple(line[3:-1:2]) for line in lines} == wanted
        assert len(lines) == len(wanted) < 500
    log_group = of_type(stage_body, "AWS::Logs::LogGroup")["FunctionLogGroup"]["LogGroupName"]
    queries = [widget["properties"]["query"] for widget in widgets if widget["type"] == "log"]
    assert queries
    assert all(query.startswith(f"SOURCE '{log_group}' | ") for query in queries)


def test_only_large_logs_move_to_cheaper_storage(stage_body: Body) -> None:
    rules = of_type(stage_body, "AWS::S3::Bucket")["JobLogBucket"]["LifecycleConfiguration"]["Rules"]
    (moving,) = [rule for rule in rules if "Transitions" in rule]
    assert {part["StorageClass"] for part in moving["Transitions"]} == {"STANDARD_IA", "GLACIER_IR"}
    # Both bill at least 128 KB for each object.
    assert int(moving["ObjectSizeGreaterThan"]) >= 128 * 1024 - 1


def test_names_that_aws_knows_in_all_regions_contain_the_region(stage_body: Body) -> None:
    names = [
        *(bucket["BucketName"] for bucket in of_type(stage_body, "AWS::S3::Bucket").values()),
        *(role["RoleName"] for role in of_type(stage_body, "AWS::IAM::Role").values()),
        *(policy["ManagedPolicyName"] for policy in of_type(stage_body, "AWS::IAM::ManagedPolicy").values()),
    ]
    assert len(names) == 5
    assert all("-${AWS::Region}" in name["Fn::Sub"] for name in names)
    # The longest region and account.
    assert all(
        len(name["Fn::Sub"].replace("${AWS::Region}", "ap-southeast-1").replace("${AWS::AccountId}", "1" * 12)) <= 63
        for name in names
    )


def test_the_budget_warns_the_address_for_alarms_unless_it_is_zero(stage_body: Body) -> None:
    (budget,) = of_type(stage_body, "AWS::Budgets::Budget").values()
    assert budget["Budget"]["BudgetLimit"] == {"Amount": {"Ref": "BudgetDollars"}, "Unit": "USD"}
    subscribers = [part["Subscribers"] for part in budget["NotificationsWithSubscribers"]]
    assert subscribers == [[{"SubscriptionType": "EMAIL", "Address": {"Ref": "AlarmEmail"}}]] * 2
    condition = stage_body["Conditions"][stage_body["Resources"]["Budget"]["Condition"]]
    assert condition == {
        "Fn::And": [{"Condition": "HasAlarmEmail"}, {"Fn::Not": [{"Fn::Equals": [{"Ref": "BudgetDollars"}, "0"]}]}]
    }


def test_only_the_rules_of_the_stage_and_its_function_send_to_the_queue_of_failed_schedules(stage_body: Body) -> None:
    (policy,) = of_type(stage_body, "AWS::SQS::QueuePolicy").values()
    allowed, tls = statements(policy["PolicyDocument"])
    assert allowed["Principal"] == {"Service": "events.amazonaws.com"}
    assert ":rule/hybrid-ci-cd-" in allowed["Condition"]["ArnLike"]["aws:SourceArn"]["Fn::Sub"]
    assert tls["Effect"] == "Deny"
    (own,) = [part for part in role_statements(stage_body) if part.get("Sid") == "FailedSchedules"]
    assert (own["Action"], own["Resource"]) == ("sqs:SendMessage", {"Fn::GetAtt": ["SchedulesQueue", "Arn"]})


@pytest.mark.parametrize("stage", [pytest.param("staging", marks=pytest.mark.nightly), "production"])
def test_the_templates_of_the_stage_and_of_the_deployers_pass_cfn_lint_with_all_their_actions(
    stage: str, tmp_path: Path
) -> None:
    # One process for both, since it reads all that AWS has before it looks at the first.
    files = [tmp_path / "stage.json", tmp_path / "deployers.json"]
    files[0].write_text(template_body(stage_template(STAGES[stage], place=Place("eu-central-1", "123456789012"))))
    files[1].write_text(deployer_template().to_json())
    program = Path(sys.executable).parent / "cfn-lint"
    checked = subprocess.run([program, *files], capture_output=True, text=True, timeout=60, check=False)
    assert (checked.returncode, checked.stdout) == (0, "")


@pytest.mark.parametrize("stage", ["staging", "production"])
def test_zappas_settings_agree_with_the_stage(stage: str) -> None:
    zappa = json.loads((settings.BASE_DIR / "zappa_settings.json").read_text())[stage]
    assert zappa["memory_size"] == STAGES[stage].memory_mb
    assert zappa.get("lambda_concurrency") == STAGES[stage].reserved_concurrency


def test_show_prints_the_template_without_credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    shown = json.loads(infrastructure("show", "--stage", "staging", "--format", "json"))
    assert shown == stage_template(STAGES["staging"]).to_dict()
    assert "TableName: hybrid-ci-cd-jobs-staging" in infrastructure("show", "--stage", "staging")
