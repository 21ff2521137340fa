"""The stack is created, changed, deleted and created again on an emulated AWS."""

import base64
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import boto3
import pytest
from django.core.management import call_command
from django.core.management.base import CommandError
from pynamodb.attributes import UnicodeAttribute
from pynamodb.indexes import AllProjection, GlobalSecondaryIndex, KeysOnlyProjection
from troposphere import cloudwatch

from controlplane.infrastructure import access, stack
from controlplane.nosql.record import Record, table_name
from controlplane.nosql.tables import record_tables
from tests.infrastructure.conftest import DEPLOYS, infrastructure

pytestmark = DEPLOYS

STAGING = "hybrid-ci-cd-infrastructure-staging"
_EMPTY_ZIP = "UEsFBgAAAAAAAAAAAAAAAAAAAAAAAA=="
PRODUCTION = "hybrid-ci-cd-infrastructure-production"


def client(service: str) -> Any:
    # A new session, because the default one would keep the first test's account.
    return boto3.Session(region_name="eu-central-1").client(service)


def stack_status(name: str = STAGING) -> str:
    status: str = client("cloudformation").describe_stacks(StackName=name)["Stacks"][0]["StackStatus"]
    return status


def table_names() -> set[str]:
    return set(client("dynamodb").list_tables()["TableNames"])


@contextmanager
def declared(*kinds: type[Record]) -> Iterator[None]:
    """Add these records to the product's inside the block."""
    names = {kind.Meta.table_name.removeprefix("hybrid-ci-cd-").removesuffix("-test") for kind in kinds}
    for name in names:
        access.TABLE_ACCESS[name] = access.Access(frozenset({"GetItem"}))
    Record.kinds.extend(kinds)
    try:
        yield
    finally:
        for kind in kinds:
            Record.kinds.remove(kind)
        for name in names:
            del access.TABLE_ACCESS[name]


class _ByColour(GlobalSecondaryIndex["_NewIndexed"]):
    class Meta:
        index_name = "by_colour"
        projection = KeysOnlyProjection()

    colour = UnicodeAttribute(hash_key=True)


class _BySize(GlobalSecondaryIndex["_NewIndexed"]):
    class Meta:
        index_name = "by_size"
        projection = AllProjection()

    size = UnicodeAttribute(hash_key=True)


class _New(Record):
    class Meta(Record.Meta):
        table_name = table_name("new-things")

    thing = UnicodeAttribute(hash_key=True)


class _NewIndexed(Record):
    class Meta(Record.Meta):
        table_name = table_name("new-things")

    thing = UnicodeAttribute(hash_key=True)
    by_colour = _ByColour()
    by_size = _BySize()


for _kind in (_New, _NewIndexed):
    Record.kinds.remove(_kind)


@pytest.fixture
def staging_stack(aws: str) -> str:
    """Deploys staging. The output of the deployment."""
    return infrastructure("deploy", "--stage", "staging", "--yes")


def test_deploy_creates_everything_and_prints_the_outputs(aws: str, staging_stack: str) -> None:
    assert stack_status() == "CREATE_COMPLETE"
    assert table_names() == {name.replace("-test", "-staging") for name in record_tables()}
    assert "add      DynamoDB::Table JobsTable" in staging_stack
    assert "CREATE_COMPLETE" in staging_stack
    assert f"FunctionRoleArn: arn:aws:iam::{aws}:role/hybrid-ci-cd-function-staging-eu-central-1" in staging_stack
    assert "SessionsTableName: hybrid-ci-cd-sessions-staging\n" in staging_stack
    assert "FunctionName: hybrid-ci-cd-staging\n" in staging_stack
    bucket = f"hybrid-ci-cd-job-logs-staging-eu-central-1-{aws}"
    assert f"JobLogBucketName: {bucket}" in staging_stack
    assert client("s3").get_public_access_block(Bucket=bucket)["PublicAccessBlockConfiguration"]["BlockPublicPolicy"]
    key = client("kms").describe_key(KeyId="alias/hybrid-ci-cd-staging")["KeyMetadata"]["KeyId"]
    assert client("kms").get_key_rotation_status(KeyId=key)["KeyRotationEnabled"]
    (group,) = client("logs").describe_log_groups(logGroupNamePrefix="/aws/lambda/hybrid-ci-cd-staging")["logGroups"]
    assert group["retentionInDays"] == 7
    alarms = client("cloudwatch").describe_alarms(AlarmNamePrefix="hybrid-ci-cd-staging-")["MetricAlarms"]
    assert "hybrid-ci-cd-staging-jobs-waiting" in {alarm["AlarmName"] for alarm in alarms}
    # There is no API yet, so it has no alarm.
    assert "hybrid-ci-cd-staging-api-server-errors" not in {alarm["AlarmName"] for alarm in alarms}


def test_a_second_deployment_and_a_diff_report_no_changes(staging_stack: str) -> None:
    assert "No changes." in infrastructure("deploy", "--stage", "staging", "--yes")
    assert "No changes." in infrastructure("diff", "--stage", "staging")
    assert not client("cloudformation").list_change_sets(StackName=STAGING)["Summaries"][1:]


def test_a_new_record_adds_a_table_and_the_others_keep_their_items(staging_stack: str) -> None:
    client("dynamodb").put_item(TableName="hybrid-ci-cd-fleet-staging", Item={"fleet": {"S": "f"}, "key": {"S": "k"}})
    with declared(_New):
        said = infrastructure("deploy", "--stage", "staging", "--yes")
        assert "add      DynamoDB::Table NewThingsTable" in said
        assert "DynamoDB::Table JobsTable" not in said.partition("changes.")[0]
    assert "hybrid-ci-cd-new-things-staging" in table_names()
    assert client("dynamodb").scan(TableName="hybrid-ci-cd-fleet-staging")["Count"] == 1


def test_two_new_indexes_of_a_table_take_two_steps(staging_stack: str) -> None:
    with declared(_New):
        infrastructure("deploy", "--stage", "staging", "--yes")
    with declared(_NewIndexed):
        said = infrastructure("deploy", "--stage", "staging", "--yes")
        assert said.count("Done.") == 2
        assert "one index of a table at a time" in said
        assert "No changes." in infrastructure("diff", "--stage", "staging")
    table = client("dynamodb").describe_table(TableName="hybrid-ci-cd-new-things-staging")["Table"]
    assert {index["IndexName"] for index in table["GlobalSecondaryIndexes"]} == {"by_colour", "by_size"}


def test_a_table_without_a_record_leaves_the_stack_and_is_kept(staging_stack: str) -> None:
    with declared(_New):
        infrastructure("deploy", "--stage", "staging", "--yes")
    said = infrastructure("deploy", "--stage", "staging", "--yes")
    assert "remove   DynamoDB::Table NewThingsTable" in said
    assert "the resource is kept outside the stack" in said
    assert "hybrid-ci-cd-new-things-staging" in table_names()


def test_diff_reports_changes_by_its_exit_code_and_makes_none(aws: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        infrastructure("diff", "--stage", "staging")
    assert ended.value.code == 2
    assert not client("cloudformation").describe_stacks()["Stacks"]
    assert not table_names()


def test_the_api_has_an_alarm_once_zappa_has_created_it(staging_stack: str) -> None:
    api = client("apigatewayv2").create_api(Name="hybrid-ci-cd-staging", ProtocolType="HTTP")["ApiId"]
    infrastructure("deploy", "--stage", "staging", "--yes")
    (alarm,) = client("cloudwatch").describe_alarms(AlarmNames=["hybrid-ci-cd-staging-api-server-errors"])[
        "MetricAlarms"
    ]
    assert alarm["Dimensions"] == [{"Name": "ApiId", "Value": api}]


def test_a_later_deployment_keeps_the_address_for_alarms(aws: str) -> None:
    infrastructure("deploy", "--stage", "staging", "--yes", "--email", "ops@example.com")
    assert "No changes." in infrastructure("deploy", "--stage", "staging", "--yes")
    (subscription,) = client("sns").list_subscriptions()["Subscriptions"]
    assert (subscription["Protocol"], subscription["Endpoint"]) == ("email", "ops@example.com")


def test_without_a_yes_nothing_changes(aws: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("builtins.input", lambda: "no")
    with pytest.raises(CommandError, match="Declined"):
        infrastructure("deploy", "--stage", "staging")
    assert not client("cloudformation").describe_stacks()["Stacks"]


def test_without_a_terminal_nothing_changes_and_the_error_names_the_option_yes(
    aws: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def no_terminal() -> str:
        raise EOFError

    monkeypatch.setattr("builtins.input", no_terminal)
    with pytest.raises(CommandError, match="Declined"):
        call_command("infrastructure", "deploy", "--stage", "staging")
    assert "--yes" in capsys.readouterr().out
    assert not client("cloudformation").describe_stacks()["Stacks"]


def test_the_next_deployment_imports_what_destroy_has_kept(aws: str, staging_stack: str) -> None:
    client("dynamodb").put_item(TableName="hybrid-ci-cd-fleet-staging", Item={"fleet": {"S": "f"}, "key": {"S": "k"}})
    client("s3").put_object(Bucket=f"hybrid-ci-cd-job-logs-staging-eu-central-1-{aws}", Key="1.log", Body=b"log")
    key, signing_key = (
        client("kms").describe_key(KeyId=f"alias/hybrid-ci-cd-staging{end}")["KeyMetadata"]["KeyId"]
        for end in ("", "-signing")
    )

    said = infrastructure("destroy", "--stage", "staging", "--yes")
    assert "DynamoDB::Table hybrid-ci-cd-jobs-staging" in said
    assert "The stack is gone." in said
    assert table_names()
    assert "There is no such stack." in infrastructure("destroy", "--stage", "staging", "--yes")

    said = infrastructure("deploy", "--stage", "staging", "--yes")
    assert "import   DynamoDB::Table JobsTable (hybrid-ci-cd-jobs-staging)" in said
    assert f"import   KMS::Key Key ({key})" in said
    assert f"import   KMS::Key SigningKey ({signing_key})" in said
    assert "No changes." in infrastructure("deploy", "--stage", "staging", "--yes")
    assert client("dynamodb").scan(TableName="hybrid-ci-cd-fleet-staging")["Count"] == 1
    assert client("kms").describe_key(KeyId="alias/hybrid-ci-cd-staging")["KeyMetadata"]["KeyId"] == key


def test_tables_without_their_key_are_not_imported(staging_stack: str) -> None:
    infrastructure("destroy", "--stage", "staging", "--yes")
    client("kms").delete_alias(AliasName="alias/hybrid-ci-cd-staging")
    with pytest.raises(CommandError, match="alias/hybrid-ci-cd-staging, the alias of the key that encrypts them"):
        infrastructure("deploy", "--stage", "staging", "--yes")


def test_a_failed_first_deployment_reports_the_reason_and_the_next_one_starts_again(
    aws: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole: Any = vars(stack)["stage_template"]

    def with_what_fails(*arguments: Any, **options: Any) -> Any:
        template = whole(*arguments, **options)
        # CloudFormation refuses it only when it creates it.
        template.add_resource(
            cloudwatch.Alarm(
                "Impossible", DependsOn="UsersTable", Metrics=[], EvaluationPeriods=1, ComparisonOperator="?"
            )
        )
        return template

    with monkeypatch.context() as patch:
        patch.setattr(stack, "stage_template", with_what_fails)
        with pytest.raises(CommandError, match=r"ROLLBACK_COMPLETE. Impossible: "):
            infrastructure("deploy", "--stage", "staging", "--yes")
    with pytest.raises(CommandError, match="Run `deploy` to start again"):
        infrastructure("diff", "--stage", "staging")
    assert table_names()
    said = infrastructure("deploy", "--stage", "staging", "--yes")
    assert "deleted first" in said
    assert "import   KMS::Key Key" in said
    assert stack_status() == "UPDATE_COMPLETE"


def test_destroy_refuses_while_the_function_is_deployed(aws: str, staging_stack: str) -> None:
    client("lambda").create_function(
        FunctionName="hybrid-ci-cd-staging",
        Role=f"arn:aws:iam::{aws}:role/hybrid-ci-cd-function-staging-eu-central-1",
        Runtime="python3.11",
        Handler="a.b",
        Code={"ZipFile": base64.b64decode(_EMPTY_ZIP)},
    )
    with pytest.raises(CommandError, match="zappa undeploy staging"):
        infrastructure("destroy", "--stage", "staging", "--yes")
    assert stack_status() == "CREATE_COMPLETE"


def test_production_is_deployed_protected_and_destroyed_only_by_its_full_name(aws: str) -> None:
    infrastructure("deploy", "--stage", "production", "--yes")
    table = client("dynamodb").describe_table(TableName="hybrid-ci-cd-jobs-production")["Table"]
    assert table["ProvisionedThroughput"]["ReadCapacityUnits"] == 20
    found = client("cloudformation").describe_stacks(StackName=PRODUCTION)["Stacks"][0]
    assert found["EnableTerminationProtection"] is True
    with pytest.raises(CommandError, match=f"--i-know-that-this-deletes {PRODUCTION}"):
        infrastructure("destroy", "--stage", "production", "--yes")
    assert stack_status(PRODUCTION) == "CREATE_COMPLETE"
    said = infrastructure("destroy", "--stage", "production", "--yes", "--i-know-that-this-deletes", PRODUCTION)
    assert "The stack is gone." in said
